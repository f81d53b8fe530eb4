"""What happened in each round of a Flower run, with every guarantee so far: a line of JSON for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from qflsec.accounting import LedgerContext, LedgerRow, Observer, RowWriter, Seeds, Training, run_rows
from qflsec.accounting.account import ledger
from qflsec.federation import Stack
from qflsec.federation.layers import LinkLayer
from qflsec.flower.plan import Plan
from qflsec.threat import Traffic, run_anonymity
from qflsec.threat.model import ThreatModel, honest_but_curious_server, public_final_model

__all__ = ["Records", "RoundRecord"]

_REPORTED = (
    "reads the numbers that clients report of themselves, such as losses, which no layer hides or perturbs"
)


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """One round.

    Attributes:
        round: The round, from 0.
        ids: The clients whose updates count.
        malformed: What arrived of clients that no honest code would send, by client.
        missing: Why the others that were asked do not count, by client.
        refused: Why nodes were turned away, by Flower's number of the node.
        lost: Why the round has no result; empty where it has one.
        seconds: How long it took.
        exchanges: How often the server waited for answers since the run began, besides training.
        metrics: Means of what clients reported, where they report to the server.

    Units:
        seconds: wall time
    """

    round: int
    ids: tuple[int, ...]
    malformed: Mapping[int, str] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)
    lost: str = ""
    seconds: float = 0.0
    exchanges: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


class Records:
    """The rounds so far.

    Args:
        plan: The plan.
        path: The file that gets a line for each round; None for none.

    Attributes:
        rounds: What happened in each.
    """

    def __init__(self, plan: Plan, path: Path | None) -> None:
        self.rounds: list[RoundRecord] = []
        self._plan, self._path = plan, path
        self._stack: Stack | None = None
        self._n_params = 0
        self._traffic: Mapping[LinkLayer, Traffic | None] = {}
        self._ended = False

    def begin(self) -> None:
        """Forget the rounds of a run that was before."""
        self.rounds.clear()
        self._ended = False

    def opened(self, stack: Stack, n_params: int, traffic: Mapping[LinkLayer, Traffic | None]) -> None:
        """Note with what the run began.

        Args:
            stack: The stack, with its noise set.
            n_params: The number of parameters.
            traffic: What each link carries, at most.
        """
        self._stack, self._n_params, self._traffic = stack, n_params, traffic

    def note(self, record: RoundRecord) -> None:
        """Keep what happened in a round."""
        self.rounds.append(record)
        self._write({"kind": "round", **asdict(record), "ledger": [row.to_dict() for row in self.ledger()]})

    def end(self, outcome: str, scores: Mapping[str, float]) -> None:
        """Note how the run ended, where that was not noted yet.

        Args:
            outcome: In words.
            scores: What is said of the final model.
        """
        if self._ended:
            return
        self._ended = True
        self._write({"kind": "end", "outcome": outcome, "rounds": len(self.rounds), "scores": scores})

    def ledger(self) -> tuple[LedgerRow, ...]:
        """Every guarantee of the rounds so far, against the server and against readers of the final model."""
        if self._stack is None:
            return ()
        rows: list[LedgerRow] = []
        for threat in (honest_but_curious_server(), public_final_model()):
            context = self._context(self._stack, threat)
            layers = [row for layer in self._stack.layers for row in layer.ledger(context)]
            said = RowWriter(observer=threat.name, layer="app").not_covered(_REPORTED)
            reported = [said] if threat.server and (self._plan.metrics or self._plan.evaluate) else []
            rows += ledger(context, [*layers, *run_rows(context), *reported])
        return tuple(rows)

    def _context(self, stack: Stack, threat: ThreatModel) -> LedgerContext:
        plan, sums = self._plan, [frozenset(record.ids) for record in self.rounds if record.ids]
        reads = threat.server and stack.leaves != "nothing"
        single = reads and stack.leaves == "individual"
        read = frozenset().union(*sums) if single else frozenset()
        seen = [frozenset({i}) for members in sums for i in sorted(members)] if single else sums
        observer = Observer(
            threat=threat,
            smallest_k=min((len(members) for members in seen), default=0) if reads else 0,
            reads_model=stack.leaves != "nothing" or not threat.server,
            reads_clients=bool(reads and sums),
            read=read,
            over_run=run_anonymity(seen) if reads and sums else None,
        )
        training = Training(
            counts=(plan.max_count,) * plan.n_clients,
            rounds=max(1, len(self.rounds)),
            n_params=self._n_params,
            participation=plan.asked / plan.n_clients,
            client_sampling="all" if plan.asked == plan.n_clients else "fixed",
            weights=tuple(stack.weights([plan.max_count] * plan.n_clients)),
            grid=0.0 if stack.aggregation is None else stack.aggregation.grid,
            members=tuple(sums),
        )
        # a server draws from a generator that is no cryptographic one, whatever its seed
        drawn = any(not getattr(layer, "linear", False) for layer in stack.server)
        seeds = Seeds(secrets=plan.secret_seed is not None, noise=plan.seed is not None or drawn)
        return LedgerContext(observer=observer, training=training, seeds=seeds, traffic=self._traffic)

    def _write(self, line: Mapping[str, object]) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # one write of a whole line: a signal that ends the app in between finds all of it in the file, or nothing
        with self._path.open("ab", buffering=0) as file:
            file.write((json.dumps(line, default=list) + "\n").encode())
