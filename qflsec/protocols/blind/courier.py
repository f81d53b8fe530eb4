"""Delegations over the network: what crosses between a client and the quantum server, and how a view reads it.

On the network a delegation is a graph, then for each batch of rounds the number of its qubits and, node by
node in the graph's order, the told angles and the answered bits. The qubits themselves are handles that
change hands; nobody on the way can read them without measuring them, and no message holds them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from qflsec.base import ProtocolAbort
from qflsec.federation import Conversation
from qflsec.protocols.blind.angles import AngleGrid, Angles
from qflsec.protocols.blind.graph import Graph
from qflsec.protocols.blind.qubits import Bits
from qflsec.threat import QUANTUM_SERVER, Item, Payload, View

__all__ = ["Courier", "SeenDelegation", "seen_delegations"]


class Courier:
    """Carries one client's delegations of one round over the network.

    Args:
        conversation: The client's way to the quantum server.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._rounds = 0
        self._wide = np.dtype("<u8")

    def graph(self, graph: Graph, grid: AngleGrid) -> None:
        """The client tells the public graph and grid.

        Raises:
            ProtocolAbort: What arrives is another graph.
        """
        told = _graph_bytes(graph, grid)
        self._wide = np.dtype("<u4" if grid.bits <= 32 else "<u8")
        if self._conversation.tell("graph", told) != told:
            raise ProtocolAbort("the graph of a delegation was altered on its way")

    def batch(self, graph: Graph, rounds: int) -> None:
        """The client announces the qubits of a batch: of each round, and how many rounds."""
        self._rounds = rounds
        self._conversation.tell("qubits", np.array([graph.n_nodes, rounds], dtype="<u8"))

    def delta(self, delta: Angles) -> Angles:
        """The client tells a node's angles; what the server hears.

        Raises:
            ProtocolAbort: What arrives is no angle for each round.
        """
        arrived = self._conversation.tell("delta", delta.astype(self._wide))
        return _array(arrived, self._wide, self._rounds).astype(np.uint64)

    def reply(self, bits: Bits) -> Bits:
        """The server tells a node's outcomes; what the client hears.

        Raises:
            ProtocolAbort: The reply, or what arrives of it, is no bit for each round.
        """
        bits = np.asarray(bits)
        if bits.shape != (self._rounds,) or not ((bits == 0) | (bits == 1)).all():
            raise ProtocolAbort("the server's reply is not one bit for each round", got=bits.shape)
        arrived = self._conversation.hear("reply", np.packbits(bits.astype(np.uint8)))
        return _bits(_array(arrived, np.dtype("u1"), -(-self._rounds // 8)), self._rounds)


def _array(payload: Payload, dtype: np.dtype[np.generic], size: int) -> np.ndarray[tuple[int], np.dtype]:
    if not isinstance(payload, np.ndarray) or payload.dtype != dtype or payload.shape != (size,):
        raise ProtocolAbort("a message between a client and the quantum server was altered on its way")
    return payload


def _bits(packed: np.ndarray[tuple[int], np.dtype[np.uint8]], rounds: int) -> Bits:
    found: Bits = np.unpackbits(packed, count=rounds)
    return found


def _graph_bytes(graph: Graph, grid: AngleGrid) -> bytes:
    told = {"angle_bits": grid.bits, "edges": graph.edges, "n_nodes": graph.n_nodes, "order": graph.order}
    return json.dumps(told, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenDelegation:
    """What a view holds of one delegation.

    Attributes:
        client: Whose it is.
        round: In which round of training.
        graph: The public graph.
        grid: The public grid of angles.
        deltas: The told angles by node.
        replies: The answered bits by node; none for the outputs of the exact executor.

    Shapes:
        deltas, replies: ``(rounds,)`` for each node
    """

    client: int
    round: int
    graph: Graph
    grid: AngleGrid
    deltas: dict[int, Angles]
    replies: dict[int, Bits]


@dataclass
class _Batch:
    rounds: int
    deltas: dict[int, Angles] = field(default_factory=dict)
    replies: dict[int, Bits] = field(default_factory=dict)


def seen_delegations(view: View) -> tuple[SeenDelegation, ...]:
    """The delegations that a coalition saw, as the quantum server or on the wire, in order by client.

    Batches of which the transcript kept only a part are left out.
    """
    by_client: dict[int, list[Item]] = {}
    for item in view.items:
        if QUANTUM_SERVER in (item.sender, item.receiver):
            party = item.receiver if item.sender == QUANTUM_SERVER else item.sender
            by_client.setdefault(party.index, []).append(item)
    found: list[SeenDelegation] = []
    for client in sorted(by_client):
        items = by_client[client]
        starts = [place for place, item in enumerate(items) if item.kind == "graph"]
        for start, end in zip(starts, [*starts[1:], len(items)], strict=True):
            found.append(_read(client, items[start], items[start + 1 : end]))
    return tuple(found)


def _read(client: int, head: Item, items: list[Item]) -> SeenDelegation:
    assert isinstance(head.value, bytes)
    told = json.loads(head.value)
    graph = Graph(
        n_nodes=told["n_nodes"],
        edges=tuple((a, b) for a, b in told["edges"]),
        order=tuple(told["order"]),
    )
    batches: list[_Batch] = []
    for item in items:
        assert isinstance(item.value, np.ndarray)
        if item.kind == "qubits":
            batches.append(_Batch(rounds=int(item.value[1])))
            continue
        now = batches[-1]
        if item.kind == "delta":
            now.deltas[graph.order[len(now.deltas)]] = item.value.astype(np.uint64)
        else:
            now.replies[list(now.deltas)[-1]] = _bits(item.value.astype(np.uint8), now.rounds)
    whole = [
        b for b in batches if len(b.deltas) == graph.n_nodes and b.replies.keys() == batches[0].replies.keys()
    ]
    replied = whole[0].replies.keys() if whole else ()
    return SeenDelegation(
        client=client,
        round=head.round,
        graph=graph,
        grid=AngleGrid(bits=told["angle_bits"]),
        deltas={n: np.concatenate([b.deltas[n] for b in whole]) for n in (graph.order if whole else ())},
        replies={n: np.concatenate([b.replies[n] for b in whole]) for n in replied},
    )
