"""One scored session: a circuit is delegated to a server, honest or not, and the scorer looks at both sides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from qflsec.attacks.server import Reading, ServerAttack, ServerInference, ServerManipulation
from qflsec.base import ConfigError, OsSecrets, Score, SeededSecrets, finite
from qflsec.circuits import Circuit, expectations
from qflsec.lab.worlds.delegation.clients import PadSet, ScoredClient
from qflsec.lab.worlds.delegation.scores import angle_score, outcome_score, round_score
from qflsec.protocols.blind import (
    AngleGrid,
    BiasBound,
    BlindConfig,
    Costs,
    Delegation,
    Line,
    PulsedSource,
    QuantumChannel,
    QuantumServer,
    RoundCounts,
    RoundsResult,
    Transcript,
    compile_patterns,
    node_angles,
    plan_order,
    play,
)
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.execute import constant_terms, observables

__all__ = ["DEVIATIONS", "MOST_TOGETHER", "Device", "SessionOutcome", "run_session"]

DEVIATIONS = 4.4
"""Standard deviations beyond which an estimate is off by more than shot noise.

With 1 / shots added (``_noise``), an honest estimate exceeds them at most twice in 100,000, at every mean.
"""
MOST_TOGETHER = 12
"""Qubits of a round that are simulated together, for a server that wants all before its first answer."""
_BOUND_ERROR = 1e-3


@finite
@dataclass(frozen=True, kw_only=True)
class Device:
    """The client's side of a session.

    Attributes:
        config: Grid and embedding.
        pads: The protocol's pads, or a control.
        source: A laser; single photons when None.
        line: Whether the server splits the pulses.
        depolarising: The probability with which a sent qubit is replaced by a random one.
    """

    config: BlindConfig = field(default_factory=BlindConfig)
    pads: PadSet = "all"
    source: PulsedSource | None = None
    line: Line = "split"
    depolarising: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SessionOutcome:
    """What came of a session. All but the client's own part is the scorer's.

    Attributes:
        attack: The attack's name, or ``"none"``.
        counts: The rounds.
        failures: Tests that failed.
        accepted: Whether the client accepts.
        estimate: The observables, as the client would accept them; thrown away where it does not.
        exact: What they are.
        noise: Standard deviation of an honest estimate for each observable.
        bound: How far a server that passes can have moved an average.
        detection: The rate at which tests should fail under this attack, without noise; None if not known.
        scores: What the server learned: ``angles``, ``outcomes`` and ``rounds``, where it says anything.
        exposed: The share of the qubits that the server got more than once; None without a claim.
        costs: The cost.
        nodes: Size of the graph.
        edges: Its edges.
        colours: Its colours.
        seeded: Whether the pads came from the seed.
        deltas: The angles that the server was told, in turns of the circle, all nodes and rounds.
    """

    attack: str
    counts: RoundCounts
    failures: int
    accepted: bool
    estimate: Floats
    exact: Floats
    noise: Floats
    bound: BiasBound
    detection: float | None
    scores: dict[str, Score]
    exposed: float | None
    costs: Costs
    nodes: int
    edges: int
    colours: int
    seeded: bool
    deltas: Floats = field(repr=False)

    @property
    def error(self) -> float:
        """How far the estimates are off at most."""
        return float(np.abs(self.estimate - self.exact).max())

    @property
    def noticeable(self) -> bool:
        """Whether that is more than shot noise."""
        return bool((np.abs(self.estimate - self.exact) > DEVIATIONS * self.noise).any())

    @property
    def wrong(self) -> bool:
        """Whether a result was accepted that is off by more than noise and than the tests' bound allow."""
        allowed = DEVIATIONS * self.noise + (self.bound.bias if self.counts.tests else 0.0)
        return self.accepted and bool((np.abs(self.estimate - self.exact) > allowed).any())

    @property
    def result(self) -> RoundsResult:
        """The rounds, as the ledger takes them."""
        return RoundsResult(counts=self.counts, failures=self.failures)


def run_session(
    attack: ServerAttack | None,
    device: Device,
    *,
    circuit: Circuit,
    weights: Floats,
    features: Floats,
    counts: RoundCounts,
    seed: int,
    seeded: bool = False,
) -> SessionOutcome:
    """Delegate one circuit with one row of weights and features, and score what came of it.

    Args:
        attack: What the server does; None for an honest one.
        device: The client's side.
        circuit: The circuit; its observables must be measurable together.
        weights: Its weights ``(P,)``.
        features: Its features ``(F,)``.
        counts: Shots, tests and threshold; the colours are the graph's.
        seed: Of nature and of the server.
        seeded: Whether the client's pads come from it too, so that the row can be repeated.

    Raises:
        ConfigError: The observables need more than one pattern.
    """
    delegation = _single(circuit, device)
    graph, grid = delegation.pattern.graph, device.config.grid
    counts = replace(counts, colours=max(graph.n_colours, 1), rows=1)
    secrets = SeededSecrets(seed, "blind", "session") if seeded else OsSecrets()
    radians = node_angles(delegation.pattern, weights[None], features[None])
    client = ScoredClient(
        pads=device.pads,
        pattern=delegation.pattern,
        angles=grid.to_grid(radians),
        plan=plan_order(secrets, rows=1, shots=counts.shots, tests=counts.tests, colours=counts.colours),
        grid=grid,
        secrets=secrets,
        channel=QuantumChannel(
            seed, "session", depolarising=device.depolarising, pulses=device.source, line=device.line
        ),
    )
    server = QuantumServer(graph, grid) if attack is None else attack.factory(seed, "session")(graph, grid)
    seen = Transcript()
    together = attack is not None and attack.joint and graph.n_nodes <= MOST_TOGETHER
    play(client, server, graph, transcript=seen, upfront=together)
    bits = client.outcomes(1)
    words = np.stack(
        [1 - 2 * (bits[:, :, list(word)].sum(axis=2) % 2).mean(axis=1) for word in delegation.words], axis=1
    )
    exact = expectations(circuit, torch.tensor(weights), torch.tensor(features), dtype=torch.complex128)
    constant = constant_terms(circuit)
    reading = attack.read(server) if isinstance(attack, ServerInference) else Reading()
    result = RoundsResult(counts=counts, failures=client.failures())
    return SessionOutcome(
        attack="none" if attack is None else attack.card.name,
        counts=counts,
        failures=result.failures,
        accepted=result.accepted,
        estimate=(constant + observables(words, delegation))[0],
        exact=exact.numpy(),
        noise=_noise(delegation, exact.numpy(), constant, counts.shots),
        bound=result.bound(error=_BOUND_ERROR),
        detection=_detection(attack, device, delegation),
        scores=_scores(client, delegation, reading, grid),
        exposed=reading.exposed,
        costs=Costs.of(graph, grid, rounds=counts.rounds, tests=counts.tests),
        nodes=graph.n_nodes,
        edges=len(graph.edges),
        colours=counts.colours,
        seeded=seeded,
        deltas=np.concatenate([delta for batch in seen.deltas for delta in batch.values()]) / grid.size,
    )


def _single(circuit: Circuit, device: Device) -> Delegation:
    config = device.config
    patterns = compile_patterns(circuit, embedding=config.embedding, stages=config.stages)
    if len(patterns) != 1:
        raise ConfigError(
            "a session runs one pattern, but the observables cannot be measured together",
            got=f"{len(patterns)} patterns",
            fix="choose observables that commute letter by letter",
        )
    return patterns[0]


def _detection(attack: ServerAttack | None, device: Device, delegation: Delegation) -> float | None:
    """Theory is for the protocol's own dummies, which are random."""
    if not isinstance(attack, ServerManipulation) or device.pads in ("none", "fixed-dummies"):
        return None
    return attack.detection(delegation.pattern.graph)


def _noise(delegation: Delegation, exact: Floats, constant: Floats, shots: int) -> Floats:
    """Standard deviation of an honest estimate: exact for an observable of one word, else an upper bound."""
    coefficients = np.array(delegation.coefficients).reshape(len(delegation.words), -1)
    size = np.abs(coefficients).sum(axis=0)
    alone = (coefficients != 0).sum(axis=0) == 1
    mean = np.where(alone, (exact - constant) / np.where(size > 0, size, 1), 0.0)
    spread: Floats = size * np.sqrt(np.clip(1 - mean**2, 0, None) / shots) + size / shots
    return spread


def _scores(
    client: ScoredClient, delegation: Delegation, reading: Reading, grid: AngleGrid
) -> dict[str, Score]:
    pattern, tests = delegation.pattern, client.tests
    found: dict[str, Score] = {}
    private = [node for node, angle in enumerate(pattern.angles) if angle.terms and node in reading.angles]
    if private:
        truth = [grid.to_radians(client.bases(node))[~tests] for node in private]
        found["angles"] = angle_score([reading.angles[node][~tests] for node in private], truth)
    outputs = [node for node in pattern.outputs if node in reading.bits]
    if outputs:
        decoded = [client.signals(node)[~tests] for node in outputs]
        found["outcomes"] = outcome_score([reading.bits[node][~tests] for node in outputs], decoded)
    if reading.test is not None and tests.any() and not tests.all():
        found["rounds"] = round_score(reading.test, tests)
    return found
