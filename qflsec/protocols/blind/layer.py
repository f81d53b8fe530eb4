"""The layers that delegate training: ``blind``, and ``delegated``, its control in the clear."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.accounting.rows import joined
from qflsec.base import DefenseCard, IncompatibleStack, Secrets, Source, register
from qflsec.circuits import Circuit
from qflsec.federation import Conversation, DelegationLayer, Identity, PartyState, Pipeline, Setup
from qflsec.protocols.blind.angles import AngleGrid
from qflsec.protocols.blind.compiler import Embedding, compile_patterns
from qflsec.protocols.blind.courier import Courier
from qflsec.protocols.blind.delegate import blind_evaluate
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.execute import BlindConfig, Exact, RoundsResult, Shots
from qflsec.protocols.blind.ledger import blind_rows, open_rows
from qflsec.protocols.blind.opened import OpenClient, open_order
from qflsec.protocols.blind.server import QuantumServer
from qflsec.protocols.blind.soundness import RoundCounts, plan_tests
from qflsec.threat import Party, ThreatModel

__all__ = ["Blind", "Delegated"]

Executor = Literal["shots", "exact"]


class _State(PartyState):
    """One client's secrets and executor; the aggregation server's is never used."""

    def __init__(self, party: Party, secrets: Secrets) -> None:
        self.party = party
        self.secrets = secrets
        self.executor: Shots | Exact | None = None

    def key_names(self) -> frozenset[str]:
        """None: pads are for one qubit each, and open nothing."""
        return frozenset()

    @property
    def results(self) -> tuple[RoundsResult, ...]:
        """The tests' results so far."""
        return tuple(self.executor.results) if isinstance(self.executor, Shots) else ()

    def costs(self) -> Mapping[str, float]:
        """What the delegations have cost, the exact executor's as one round for each row."""
        if self.executor is None:
            return {}
        spent = self.executor.costs
        return {
            "sent_qubits": float(spent.qubits),
            "quantum_rounds": float(spent.rounds),
            "test_rounds": float(spent.tests),
            "failed_tests": float(sum(one.failures for one in self.results)),
            "entangling_gates": float(spent.entangling),
            "angle_bits": float(spent.angle_bits),
            "reply_bits": float(spent.reply_bits),
        }


class _Evaluator:
    """A client's circuits, evaluated by the quantum server."""

    def __init__(self, executor: Shots | Exact, config: BlindConfig) -> None:
        self._executor, self._config = executor, config

    def evaluate(
        self, circuit: Circuit, weights: Tensor, features: Tensor, *, wanted: tuple[bool, bool]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Values and Jacobians, all rows and shifts in one delegation for each pattern."""
        found = blind_evaluate(
            circuit,
            weights.double().numpy(),
            features.double().numpy(),
            executor=self._executor,
            config=self._config,
            in_weights=wanted[0],
            in_features=wanted[1],
        )
        values, by_weight, by_feature = (
            torch.from_numpy(array).to(weights.dtype)
            for array in (found.values, found.in_weights, found.in_features)
        )
        return values, by_weight if wanted[0] else None, by_feature if wanted[1] else None


@dataclass(frozen=True, kw_only=True)
class _Delegating(DelegationLayer):
    """What both layers share.

    Attributes:
        executor: ``"shots"``, the protocol; or ``"exact"``, a simulator's shortcut to expectation values that
            no client can take, which earns no soundness and is refused under an active quantum server.
        shots: Computation rounds of each row: a record, or a record with one angle shifted.
        grid_bits: Angles are integers modulo two to this.
        off_grid: ``"round"`` takes the next angle of the grid; ``"refuse"`` raises.
        depolarising: The probability with which a sent qubit is replaced by a random one, in ``"shots"``.
    """

    executor: Executor = "shots"
    shots: int = 100
    grid_bits: int = 32
    off_grid: Literal["round", "refuse"] = "round"
    depolarising: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.executor not in ("shots", "exact"):
            raise BlindError("unknown executor", got=repr(self.executor), expected="shots or exact")
        if not 0 <= self.depolarising <= 1:
            raise BlindError("bad depolarising probability", got=self.depolarising, expected="0 to 1")
        if self.executor == "exact" and self.depolarising:
            raise BlindError(
                "the exact executor has no noise", got=self.depolarising, fix='set executor = "shots"'
            )
        RoundCounts(shots=self.shots, tests=0, threshold=0, colours=1)
        AngleGrid(bits=self.grid_bits, off_grid=self.off_grid)

    @property
    def config(self) -> BlindConfig:
        """The public choices of every delegation."""
        return BlindConfig(grid=AngleGrid(bits=self.grid_bits, off_grid=self.off_grid))

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models whose circuit has no measurement pattern.

        Raises:
            IncompatibleStack: There is nothing to delegate, or it cannot be.
        """
        super().check(pipeline)
        if pipeline.model.noise is not None:
            raise IncompatibleStack(
                f"{self.card.name!r}: a quantum server has noise of its own, and so has the model's QNode",
                got=pipeline.model.noise,
                fix="take the channels out of the QNode",
            )
        circuit: Any = getattr(pipeline.model, "circuit", None)
        config = self.config
        try:
            compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
        except BlindError as error:
            raise IncompatibleStack(f"{self.card.name!r} cannot delegate this circuit: {error}") from error

    def check_server(self, threat: ThreatModel) -> None:
        """Refuse an active quantum server under the exact executor.

        Raises:
            IncompatibleStack: The executor is exact and the server active.
        """
        if self.executor == "exact" and threat.quantum_server and threat.active:
            raise IncompatibleStack(
                f"{self.card.name!r} with executor 'exact' is a simulator's shortcut for an honest quantum server, "
                f"but threat model {threat.name!r} lets it deviate",
                fix="set executor = 'shots', and tests",
            )

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """One party's state."""
        return _State(identity.party, secrets)

    def evaluator(self, state: PartyState, conversation: Conversation) -> _Evaluator:
        """What evaluates one client's circuits in one round."""
        assert isinstance(state, _State)
        if state.executor is None:
            state.executor = self._make(state.secrets, conversation.seed, ("client", state.party.index))
        state.executor.carrier = Courier(conversation)
        program: Any = conversation.program
        state.executor.server = QuantumServer if program is None else program
        return _Evaluator(state.executor, self.config)

    @abstractmethod
    def _make(self, secrets: Secrets, seed: int, purpose: tuple[str | int, ...]) -> Shots | Exact:
        """The executor of one client of one run."""

    def results(self, state: PartyState) -> Sequence[object]:
        """The tests' results of a client's delegations."""
        assert isinstance(state, _State)
        return state.results


@register("layer", "blind")
@dataclass(frozen=True, kw_only=True)
class Blind(_Delegating):
    """Blind and verified delegation of every circuit of a client's training.

    Attributes:
        tests: Test rounds of each delegation: of all records and shifts of a local step, for each pattern.
        threshold: The largest number of failed tests of a delegation that is accepted.
        target: Where set, tests and threshold are planned, so that a server corrupts more than
            ``corrupted_fraction`` of the shots of some estimate of a delegation and is accepted with at most
            this probability; ``tests`` and ``threshold`` are then ignored.
        failure_rate: At which rate an honest but noisy server fails tests; the planned threshold bears it.
        corrupted_fraction: The fraction of an estimate's shots that may be corrupted: what the ledger's
            soundness is about. It bounds the bias of a +-1 outcome's average by twice itself.
        embedding: ``"ansatz"`` shows the circuit's graph; ``"brickwork"`` only its size.
    """

    card: ClassVar[DefenseCard] = DefenseCard(
        name="blind",
        idea="Clients prepare padded qubits and tell padded angles; the quantum server executes, and is tested.",
        source=Source(
            paper="Broadbent, Fitzsimons and Kashefi: Universal blind quantum computation; Leichtle, Music, "
            "Kashefi and Ollivier: Verifying BQP computations on noisy devices with minimal overhead; Li, Lu and "
            "Deng: Quantum federated learning through blind quantum computing (arXiv:2103.08403)",
            year=2021,
            where="FOCS 2009, protocol 1; PRX Quantum 2, 040302, protocol 1",
        ),
        claim="The quantum server learns nothing of data, parameters or results, and is caught where it corrupts "
        "more than a stated fraction of some estimate's shots.",
        assumption="information-theoretic",
        hides="records, parameters and outcomes from the quantum server and the wire, except the size of the "
        "graph, and the graph itself without a brickwork",
        does_not=(
            "It does not protect against poisoning or backdoors.",
            "It hides nothing from a party that receives updates or the model.",
        ),
        cost="a qubit for each node, shot and shift, and as many rounds again for tests",
    )
    tests: int = 250
    threshold: int = 0
    target: float | None = None
    failure_rate: float = 0.0
    corrupted_fraction: float = 0.2
    embedding: Embedding = "ansatz"

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        super().__post_init__()
        RoundCounts(shots=self.shots, tests=self.tests, threshold=self.threshold, colours=1)
        if self.threshold > self.tests:
            raise BlindError("a threshold that no number of failures exceeds", got=self.threshold)
        if not 0 < self.corrupted_fraction <= 0.5:
            raise BlindError(
                "bad corrupted_fraction", got=self.corrupted_fraction, expected="above 0, at most 1/2"
            )
        if self.embedding not in ("ansatz", "brickwork"):
            raise BlindError("unknown embedding", got=repr(self.embedding), expected="ansatz or brickwork")

    @property
    def config(self) -> BlindConfig:
        """The public choices of every delegation."""
        return replace(super().config, embedding=self.embedding)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse circuits without a pattern, and targets without a plan.

        Raises:
            IncompatibleStack: The circuit cannot be delegated, or not as soundly as asked.
        """
        super().check(pipeline)
        if self.target is None or self.executor == "exact":
            return
        circuit: Any = getattr(pipeline.model, "circuit", None)
        try:
            for one in compile_patterns(circuit, embedding=self.embedding):
                self.plan(max(one.pattern.graph.n_colours, 1), 1)
        except BlindError as error:
            raise IncompatibleStack(f"'blind' cannot be planned for this circuit: {error}") from error

    def plan(self, colours: int, rows: int) -> RoundCounts:
        """The rounds of one delegation.

        Args:
            colours: Colours of its graph.
            rows: Its rows of angles.
        """
        if self.target is None:
            return RoundCounts(
                shots=self.shots, tests=self.tests, threshold=self.threshold, colours=colours, rows=rows
            )
        return _planned(self.shots, colours, self.corrupted_fraction, self.target, self.failure_rate, rows)

    def _make(self, secrets: Secrets, seed: int, purpose: tuple[str | int, ...]) -> Shots | Exact:
        if self.executor == "exact":
            return Exact(seed=seed, purpose=purpose, secrets=secrets)
        return Shots(
            shots=self.shots,
            planned=self.plan,
            depolarising=self.depolarising,
            seed=seed,
            purpose=purpose,
            secrets=secrets,
        )

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """Rows for observers that hold the quantum server, or listen to it."""
        observer = context.observer
        if not (context.quantum_server or observer.threat.wire):
            return ()
        delegations = context.delegations or {}
        results = [one for index in context.honest for one in delegations.get(index, ())]
        exact = "the exact executor is a simulator's shortcut and earns no soundness"
        others = "of honest clients' delegations only: what else the coalition receives is not hidden"
        return blind_rows(
            [one for one in results if isinstance(one, RoundsResult)],
            embedding=self.embedding,
            corrupted_fraction=self.corrupted_fraction,
            seeded=context.seeds.secrets,
            observer=observer.name,
            note=joined(
                exact if self.executor == "exact" else "",
                others if observer.clients or observer.threat.server else "",
            ),
        )


@lru_cache(maxsize=256)
def _planned(
    shots: int, colours: int, fraction: float, target: float, failure_rate: float, rows: int
) -> RoundCounts:
    return plan_tests(
        shots=shots,
        colours=colours,
        corrupted_fraction=fraction,
        target=target,
        failure_rate=failure_rate,
        rows=rows,
    )


@register("layer", "delegated")
@dataclass(frozen=True, kw_only=True)
class Delegated(_Delegating):
    """Delegation of every circuit of a client's training in the clear: the control of :class:`Blind`."""

    card: ClassVar[DefenseCard] = DefenseCard(
        name="delegated",
        idea="Clients hand their circuits to the quantum server in the clear: the control without a defense.",
        source=Source(
            paper="Broadbent, Fitzsimons and Kashefi: Universal blind quantum computation",
            year=2009,
            where="FOCS 2009, protocol 1 with every pad 0",
        ),
        claim="None: the quantum server reads every angle and outcome, and can change them.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It hides nothing.",
            "It verifies nothing.",
        ),
        cost="a qubit for each node, shot and shift",
    )

    def _make(self, secrets: Secrets, seed: int, purpose: tuple[str | int, ...]) -> Shots | Exact:
        if self.executor == "exact":
            return Exact(seed=seed, purpose=purpose, secrets=secrets, client=OpenClient)
        return Shots(
            shots=self.shots,
            depolarising=self.depolarising,
            seed=seed,
            purpose=purpose,
            secrets=secrets,
            client=OpenClient,
            order=open_order,
        )

    def reads(self, context: LedgerContext) -> bool:
        """Whoever holds the quantum server, or listens to it."""
        return context.quantum_server or context.observer.threat.wire

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What is not covered, for observers that hold the quantum server, or listen to it."""
        return open_rows(context.observer.name) if self.reads(context) else ()
