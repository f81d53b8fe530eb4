"""The server's side: a Flower strategy that plays the server of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.result import Result

from qflsec.base import ConfigError, LostRound, ProtocolAbort
from qflsec.federation import Identity, Pipeline
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.book import RoundNote
from qflsec.flower.carried import carried
from qflsec.flower.endings import tells_its_end
from qflsec.flower.exchange import Exchange
from qflsec.flower.held import hold, new_session, secret_layers
from qflsec.flower.homes import identity_of_home, seeded_identities
from qflsec.flower.plan import Plan
from qflsec.flower.records import Records, RoundRecord
from qflsec.flower.rounds import Rounds
from qflsec.flower.welcome import Welcome
from qflsec.protocols.keystore import KeyProvider, KmeError
from qflsec.threat import SERVER

__all__ = ["ServerSide"]

_ENDED = "the app was ended"


class ServerSide(Strategy):
    """A strategy for ``ServerApp``: it talks to clients whose mod is :class:`~qflsec.flower.ClientSide`.

    The server's bounds, rule and noise, the phases of secure aggregation and the opening of sums are those of the
    training loop. A client that sends garbage, answers for another, comes too late or sends numbers that are not finite
    is left out of the round and named in :attr:`records`.

    Args:
        plan: The plan.
        home: The folder of the server's keys; needed where the plan seals anything and has no seed.
        keys: The server's end of its quantum links, such as an ``Etsi014Provider``, for layers that need one.
        ledger: A file that gets a line for every round: who counted, who did not and why, costs, and every guarantee.
        score: What the ledger says of the final model: numbers by name.
        pipeline: What the app is, where the server knows more of it than its arrays.
        watch: Is told what the server saw and made in each round.

    Attributes:
        records: What happened in each round.
        outcome: ``"running"``, ``"completed"``, or ``"aborted: "`` or ``"failed: "`` and the reason.
        abort: Why a protocol stopped the run; None where none did.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        home: str | Path | None = None,
        keys: KeyProvider | None = None,
        ledger: str | Path | None = None,
        score: Callable[[ArrayRecord], Mapping[str, float]] | None = None,
        pipeline: Pipeline | None = None,
        watch: Callable[[RoundNote], None] | None = None,
    ) -> None:
        self._plan, self._keys = plan, keys
        self._home = None if home is None else Path(home)
        self._records = Records(plan, None if ledger is None else Path(ledger))
        self._score, self._pipeline, self._watch = score, pipeline, watch
        self.outcome = "running"
        self.abort: ProtocolAbort | None = None
        self._rounds: Rounds | None = None
        self._lost: LostRound | None = None

    @property
    def records(self) -> list[RoundRecord]:
        """What happened in each round."""
        return self._records.rounds

    def summary(self) -> None:
        """Nothing: the plan is the app's own."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the rounds; a protocol that stops is an outcome, and the result holds the model until then.

        Whatever else is raised, by Flower or by an error of the app, is written into the ledger before it goes on.

        Raises:
            ConfigError: More rounds are asked for than the plan accounts for.
        """
        if num_rounds > self._plan.rounds:
            raise ConfigError(
                "more rounds are asked for than the plan accounts for",
                got=num_rounds,
                expected=f"at most {self._plan.rounds}",
            )
        layout = ArrayLayout.of(initial_arrays)
        self._begin()
        try:
            with tells_its_end(lambda: self._failed(_ENDED)):
                result = super().start(
                    grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, evaluate_fn
                )
            if self._rounds is not None:
                hidden = self._plan.stack.leaves == "nothing"
                result.arrays = layout.record(self._rounds.published() if hidden else self._rounds.params)
        except (ProtocolAbort, KmeError) as abort:
            stopped = abort if isinstance(abort, ProtocolAbort) else ProtocolAbort(str(abort))
            self.abort, self.outcome = stopped, f"aborted: {stopped.told}"
            result = Result()
            result.arrays = initial_arrays if self._rounds is None else layout.record(self._rounds.params)
        except BaseException as error:
            # also Flower's own end of an app, such as where a SuperLink that was started again does not know it: whoever
            # reads the ledger is not to wait for more
            told = " ".join(str(error).split()) if isinstance(error, Exception) else _ENDED
            self._failed(told or type(error).__name__)
            raise
        else:
            self.outcome = "completed"
        self._records.end(self.outcome, {} if self._score is None else self._score(result.arrays))
        return result

    def _failed(self, why: str) -> None:
        self.outcome = f"failed: {why}"
        self._records.end(self.outcome, {})

    def _begin(self) -> None:
        """Forget a run that was before: a strategy may be started again, in a session of its own."""
        self._rounds, self.outcome, self.abort = None, "running", None
        self._records.begin()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the clients of a round, have them agree on what comes before an update, and ask them to train."""
        if self._rounds is None:
            self._rounds = self._open(arrays, grid)
        rounds = self._rounds
        config["server-round"] = server_round
        return rounds.ask_to_train(server_round - 1, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Open what arrived, and move the model; None where the round was lost."""
        assert self._rounds is not None
        record, moved = self._rounds.collect(server_round - 1, replies)
        self._records.note(record)
        metrics = _metrics(record.metrics)
        return (self._rounds.layout.record(self._rounds.params) if moved else None), metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask the clients of the round to evaluate the model, where that is wanted."""
        if not self._plan.evaluate or self._rounds is None:
            return []
        config["server-round"] = server_round
        return self._rounds.ask_to_evaluate(config)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The mean of what they answer, by their numbers of examples."""
        if not self._plan.evaluate or self._rounds is None:
            return None
        return _metrics(self._rounds.evaluations(replies))

    def _open(self, arrays: ArrayRecord, grid: Grid) -> Rounds:
        """The session: states of the server, and who the nodes are."""
        plan, layout = self._plan, ArrayLayout.of(arrays)
        session = new_session(grid.run.run_id)
        held = hold(plan, layout, self._identity(), session, self._keys)
        self._records.opened(held.stack, layout.n_params, carried(plan, layout, held.stack))
        exchange = Exchange(grid, held, plan.patience)
        welcome = Welcome(plan=plan, held=held, exchange=exchange, identity=self._identity())
        return Rounds(
            plan=plan,
            held=held,
            exchange=exchange,
            welcome=welcome,
            params=layout.vector(arrays),
            pipeline=self._pipeline,
            watch=self._watch,
        )

    def _identity(self) -> Identity:
        plan, parties = self._plan, (*self._plan.clients, SERVER)
        if self._home is not None:
            return identity_of_home(self._home, SERVER, plan.clients)
        if plan.secret_seed is None and secret_layers(plan.stack):
            raise ConfigError(
                "the server has no home for its key", fix="pass home=..., or set a seed in the lab"
            )
        return seeded_identities(plan.secret_seed or 0, parties)[SERVER]


def _metrics(numbers: Mapping[str, float]) -> MetricRecord:
    found = MetricRecord()
    found.update(numbers)
    return found
