"""One run of the protocol between a client and a server, and what the server saw of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from qflsec.protocols.blind.angles import AngleGrid, Angles, Floats
from qflsec.protocols.blind.graph import Graph
from qflsec.protocols.blind.qubits import Bits, Qubits
from qflsec.protocols.blind.server import QuantumServer

__all__ = ["BATCH", "Carrier", "ClientSide", "Costs", "ServerFactory", "Transcript", "play"]

ServerFactory = Callable[[Graph, AngleGrid], QuantumServer]

BATCH = 1024
"""Rounds that are simulated at once; more fall out of the cache."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a delegation cost.

    Attributes:
        rounds: Computation and test rounds.
        tests: Test rounds among them.
        qubits: Qubits sent.
        entangling: CZ gates of the server.
        angle_bits: Classical bits from client to server.
        reply_bits: Classical bits from server to client.
        live_qubits: Qubits that the server holds at most.
    """

    rounds: int = 0
    tests: int = 0
    qubits: int = 0
    entangling: int = 0
    angle_bits: int = 0
    reply_bits: int = 0
    live_qubits: int = 0

    @classmethod
    def of(cls, graph: Graph, grid: AngleGrid, *, rounds: int, tests: int) -> Costs:
        """The costs of rounds on one graph."""
        return cls(
            rounds=rounds,
            tests=tests,
            qubits=rounds * graph.n_nodes,
            entangling=rounds * len(graph.edges),
            angle_bits=rounds * graph.n_nodes * grid.bits,
            reply_bits=rounds * graph.n_nodes,
            live_qubits=graph.live_qubits,
        )

    def __add__(self, other: Costs) -> Costs:
        return Costs(
            rounds=self.rounds + other.rounds,
            tests=self.tests + other.tests,
            qubits=self.qubits + other.qubits,
            entangling=self.entangling + other.entangling,
            angle_bits=self.angle_bits + other.angle_bits,
            reply_bits=self.reply_bits + other.reply_bits,
            live_qubits=max(self.live_qubits, other.live_qubits),
        )


class ClientSide(Protocol):
    """The client, or several on a line, as a session deals with them; see :class:`~qflsec.protocols.blind.client.BlindClient`."""

    def batches(self, size: int) -> Iterator[int]:
        """Begin one batch of rounds after the other."""

    def send(self, node: int) -> Qubits:
        """A node's qubits at the server's door."""

    def delta(self, node: int) -> Angles:
        """A node's padded angles."""

    def hear(self, node: int, reply: Bits) -> None:
        """Take a node's outcomes."""

    def finish(self) -> None:
        """End the batch."""

    def outcomes(self, rows: int) -> Bits:
        """The bits of the computation rounds."""

    def failures(self) -> int:
        """How many tests failed."""

    def decoded_signs(self, positions: tuple[int, ...]) -> Floats:
        """What turns the parity of a word's raw outcomes into that of its bits."""


class Carrier(Protocol):
    """What carries the classical messages of delegations, and sees them."""

    def graph(self, graph: Graph, grid: AngleGrid) -> None:
        """The client tells the public graph of a delegation."""

    def batch(self, graph: Graph, rounds: int) -> None:
        """The client announces the qubits of a batch of rounds."""

    def delta(self, delta: Angles) -> Angles:
        """The client tells a node's angles, in the graph's order; what the server hears."""

    def reply(self, bits: Bits) -> Bits:
        """The server tells a node's outcomes; what the client hears."""


@dataclass
class Transcript:
    """The server's classical view, batch by batch; the qubits it had as handles, which it spent.

    Attributes:
        graphs: The graph of each batch.
        deltas: For each batch, the told angles by node.
        replies: For each batch, the reported outcomes by node.
    """

    graphs: list[Graph] = field(default_factory=list)
    deltas: list[dict[int, Angles]] = field(default_factory=list)
    replies: list[dict[int, Bits]] = field(default_factory=list)


def play(
    client: ClientSide,
    server: QuantumServer,
    graph: Graph,
    *,
    batch: int = BATCH,
    transcript: Transcript | None = None,
    upfront: bool = False,
    carrier: Carrier | None = None,
) -> None:
    """Run all of the client's rounds: qubits go out as they are needed, then an angle, then a bit comes back.

    Args:
        client: The client.
        server: The server.
        graph: The public graph.
        batch: Rounds at once.
        transcript: Where the server's classical view is kept, if wanted.
        upfront: Whether all qubits go out before the first angle, as in the literature: the server then
            holds, and the simulation bears, all of them at once.
        carrier: What carries the classical messages; nothing by default.
    """
    if carrier is not None:
        carrier.graph(graph, server.grid)
    for rounds in client.batches(batch):
        server.start(rounds)
        if carrier is not None:
            carrier.batch(graph, rounds)
        deltas: dict[int, Angles] = {}
        replies: dict[int, Bits] = {}
        for new, node in graph.arrivals(upfront=upfront):
            for arriving in new:
                server.receive(arriving, client.send(arriving))
            told = client.delta(node)
            deltas[node] = told if carrier is None else carrier.delta(told)
            replies[node] = server.answer(node, deltas[node])
            client.hear(node, replies[node] if carrier is None else carrier.reply(replies[node]))
        client.finish()
        if transcript is not None:
            transcript.graphs.append(graph)
            transcript.deltas.append(deltas)
            transcript.replies.append(replies)
