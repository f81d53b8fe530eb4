"""Executors: ``shots`` runs the protocol; ``exact`` is a simulator's shortcut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from qflsec.base import OsSecrets, ProtocolAbort, Secrets, finite
from qflsec.circuits import Circuit
from qflsec.protocols.blind.angles import AngleGrid, Angles, Floats
from qflsec.protocols.blind.client import BlindClient, RoundPlan, plan_order
from qflsec.protocols.blind.compiler import Delegation, Embedding
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.estimate import BiasBound, bias_bound
from qflsec.protocols.blind.qubits import QuantumChannel, Qubits, expected_distribution
from qflsec.protocols.blind.server import QuantumServer
from qflsec.protocols.blind.session import BATCH, Carrier, ClientSide, Costs, ServerFactory, Transcript, play
from qflsec.protocols.blind.soundness import RoundCounts

__all__ = ["BlindConfig", "ClientFactory", "Exact", "RoundsResult", "Shots", "constant_terms", "observables"]


ClientFactory = Callable[..., ClientSide]
"""What makes the client of a delegation, or several on a line, with the arguments of :class:`BlindClient`."""


@finite
@dataclass(frozen=True, kw_only=True)
class BlindConfig:
    """The public choices of a delegation.

    Attributes:
        grid: The group of angles.
        embedding: ``"ansatz"`` shows the circuit's graph; ``"brickwork"`` only its size.
        stages: Stages of the brickwork; as many as needed when None.
    """

    grid: AngleGrid = field(default_factory=AngleGrid)
    embedding: Embedding = "ansatz"
    stages: int | None = None


@dataclass(frozen=True, kw_only=True)
class RoundsResult:
    """What the tests of one pattern said.

    Attributes:
        counts: The rounds.
        failures: Failed tests.
    """

    counts: RoundCounts
    failures: int

    @property
    def accepted(self) -> bool:
        """Whether the client accepts."""
        return self.failures <= self.counts.threshold

    def bound(self, *, error: float) -> BiasBound:
        """The bias that a server which passes exceeds with at most the given probability."""
        return bias_bound(self.counts, error=error)


@dataclass(kw_only=True)
class Shots:
    """The protocol: every row of angles runs ``shots`` times among ``tests`` tests, in secret order.

    It may serve several calls; costs and results add up over them.

    Attributes:
        shots: Computation rounds of each row and pattern.
        tests: Test rounds of each pattern and call.
        threshold: The largest number of failed tests of a pattern that is accepted.
        seed: The seed of nature: outcomes and noise.
        secrets: Where pads and orders come from; the operating system when None.
        server: The server's class.
        depolarising: The probability with which a sent qubit is replaced by a random one.
        transcript: Where the server's classical view is kept, if wanted.
        purpose: What sets nature's stream apart from others with this seed.
        client: The client's class.
        order: How the rounds are ordered, with the arguments of :func:`plan_order`.
        planned: How many tests, and how many failed ones are accepted, for each number of colours and rows;
            ``tests`` and ``threshold`` for all when None.
        carrier: What carries the classical messages; nothing by default.
        costs: What it has cost so far.
        results: The tests' results, by pattern.
    """

    shots: int
    seed: int
    tests: int = 0
    threshold: int = 0
    secrets: Secrets | None = None
    server: ServerFactory = QuantumServer
    depolarising: float = 0.0
    batch: int = BATCH
    transcript: Transcript | None = None
    purpose: tuple[str | int, ...] = ()
    client: ClientFactory = BlindClient
    order: Callable[..., RoundPlan] = plan_order
    planned: Callable[[int, int], RoundCounts] | None = None
    carrier: Carrier | None = None
    costs: Costs = field(default_factory=Costs)
    results: list[RoundsResult] = field(default_factory=list)

    @property
    def seeded(self) -> bool:
        """Whether the pads can be reproduced, and so hide nothing."""
        return self.secrets is not None and self.secrets.seeded

    def _counts(self, colours: int, rows: int) -> RoundCounts:
        if self.planned is not None:
            return self.planned(colours, rows)
        return RoundCounts(
            shots=self.shots, tests=self.tests, threshold=self.threshold, colours=colours, rows=rows
        )

    def words(self, number: int, delegation: Delegation, angles: Angles, grid: AngleGrid) -> Floats:
        """The average of each word's outcomes.

        Raises:
            ProtocolAbort: Too many tests failed; the outcomes are thrown away.
        """
        graph = delegation.pattern.graph
        counts = self._counts(max(graph.n_colours, 1), len(angles))
        secrets = OsSecrets() if self.secrets is None else self.secrets
        client = self.client(
            pattern=delegation.pattern,
            angles=angles,
            plan=self.order(
                secrets, rows=len(angles), shots=counts.shots, tests=counts.tests, colours=counts.colours
            ),
            grid=grid,
            secrets=secrets,
            channel=QuantumChannel(
                self.seed, *self.purpose, len(self.results), depolarising=self.depolarising
            ),
        )
        play(
            client,
            self.server(graph, grid),
            graph,
            batch=self.batch,
            transcript=self.transcript,
            carrier=self.carrier,
        )
        self.costs += Costs.of(graph, grid, rounds=counts.rounds, tests=counts.tests)
        result = RoundsResult(counts=counts, failures=client.failures())
        self.results.append(result)
        if not result.accepted:
            raise ProtocolAbort(
                "the quantum server failed the tests",
                got=f"{result.failures} of {counts.tests}",
                expected=f"at most {counts.threshold}",
            )
        bits = client.outcomes(len(angles))
        return np.stack(
            [1 - 2 * (bits[:, :, list(word)].sum(axis=2) % 2).mean(axis=1) for word in delegation.words],
            axis=1,
        )


@dataclass(kw_only=True)
class Exact:
    """One transcript for each row, and then the outputs' distribution as only a simulator can read it.

    No client can do this, so that it shows what the protocol computes and earns no soundness: it has no
    tests, no noise, and only an honest server.

    Attributes:
        seed: The seed of nature.
        secrets: Where the pads come from; the operating system when None.
        server: The server's class, which must be :class:`QuantumServer` itself.
        purpose: What sets nature's stream apart from others with this seed.
        client: The client's class.
        carrier: What carries the classical messages; nothing by default.
        costs: What it has cost so far: one round for each row.
    """

    seed: int
    secrets: Secrets | None = None
    server: ServerFactory = QuantumServer
    batch: int = BATCH
    purpose: tuple[str | int, ...] = ()
    client: ClientFactory = BlindClient
    carrier: Carrier | None = None
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        """Refuse a server that deviates."""
        if self.server is not QuantumServer:
            raise BlindError(
                "the exact executor is a simulator's shortcut for an honest server",
                got=getattr(self.server, "__name__", "another server"),
                fix="run an active server with the shots executor and test rounds",
            )

    def words(self, number: int, delegation: Delegation, angles: Angles, grid: AngleGrid) -> Floats:
        """The expectation value of each word."""
        graph = delegation.pattern.graph
        rows = np.arange(len(angles))
        channel = QuantumChannel(self.seed, *self.purpose, "exact", number, self.costs.rounds)
        client = self.client(
            pattern=delegation.pattern,
            angles=angles,
            plan=RoundPlan(rows=rows, colours=np.full(len(rows), -1)),
            grid=grid,
            secrets=OsSecrets() if self.secrets is None else self.secrets,
            channel=channel,
        )
        server = QuantumServer(graph, grid)
        if self.carrier is not None:
            self.carrier.graph(graph, grid)
        values = [
            _exact_batch(client, server, delegation, rounds, self.carrier)
            for rounds in client.batches(self.batch)
        ]
        self.costs += Costs.of(graph, grid, rounds=len(rows), tests=0)
        return np.concatenate(values)


def _exact_batch(
    client: ClientSide,
    server: QuantumServer,
    delegation: Delegation,
    rounds: int,
    carrier: Carrier | None,
) -> Floats:
    graph = delegation.pattern.graph
    ends = {node for node, after in enumerate(delegation.pattern.successor) if after is None}
    server.start(rounds)
    if carrier is not None:
        carrier.batch(graph, rounds)
    held: dict[int, Qubits] = {}
    told: dict[int, Floats] = {}
    for new, node in graph.arrivals():
        for arriving in new:
            held[arriving] = client.send(arriving)
            server.receive(arriving, held[arriving])
        delta = client.delta(node) if carrier is None else carrier.delta(client.delta(node))
        if node in ends:
            server.link(node)
            told[node] = server.grid.to_radians(delta)
        else:
            reply = server.answer(node, delta)
            client.hear(node, reply if carrier is None else carrier.reply(reply))
    nodes = list(told)
    table = (
        expected_distribution([held[node] for node in nodes], [told[node] for node in nodes])
        if nodes
        else np.ones(rounds)
    )
    readouts = delegation.pattern.readouts
    values = np.empty((rounds, len(delegation.words)))
    for k, word in enumerate(delegation.words):
        raw = table
        for axis, node in enumerate(nodes):
            if any(readouts[position].node == node for position in word):
                sign = np.array([1.0, -1.0]).reshape(2, *(1,) * (table.ndim - 1 - axis))
                raw = raw * sign
        values[:, k] = raw.reshape(-1, rounds).sum(axis=0) * client.decoded_signs(word)
    return values


def constant_terms(circuit: Circuit) -> Floats:
    """The identity's coefficient in each observable, which needs no quantum computer."""
    sums = [sum(c for c, word in o.terms if not set(word) - {"I"}) for o in circuit.observables]
    return np.array(sums, dtype=np.float64)


def observables(values: Floats, delegation: Delegation) -> Floats:
    """From each word's value ``(rows, words)`` its share of the observables ``(rows, K)``."""
    shares: Floats = values @ np.array(delegation.coefficients).reshape(len(delegation.words), -1)
    return shares
