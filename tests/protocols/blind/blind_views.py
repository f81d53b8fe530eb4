"""The server's exact view of a client: every value of the client's secrets, through the production client.

The tester stands in for the quantum channel and for the secrets, and so sees what no party sees: which state
was sent under which secrets. From this come the joint states of (deltas, qubits) for fixed replies.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from qflsec.protocols.blind import AngleGrid, BlindClient, Pattern, RoundPlan

B3 = AngleGrid(bits=3)


class Tape:
    """A channel that writes down what is sent."""

    def __init__(self) -> None:
        self.sent: list[np.ndarray] = []

    def begin(self) -> None:
        self.sent = []

    def send(self, radians: np.ndarray, basis: np.ndarray) -> int:
        plus = np.stack([np.ones_like(radians), np.exp(1j * radians)], axis=1) / np.sqrt(2)
        state = np.where(basis[:, None] < 0, plus, np.stack([basis == 0, basis == 1], axis=1))
        self.sent.append(state)
        return len(self.sent) - 1


class Listed:
    """Secrets that are given: the thetas and then the coins, as the pads read them."""

    seeded = True

    def __init__(self, theta: np.ndarray, coins: np.ndarray) -> None:
        self.parts = [theta.astype("<u4").tobytes(), coins.astype(np.uint8).tobytes()]

    def draw(self, n_bytes: int) -> bytes:
        part = self.parts.pop(0)
        assert len(part) == n_bytes
        return part


def all_secrets(n_nodes: int, coins: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """Every value of (theta, coin) of every node: ``(nodes, cases)`` each."""
    one = list(itertools.product(range(8), coins))
    index = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(len(one))] * n_nodes, indexing="ij")])
    table = np.array(one)
    return table[index, 0], table[index, 1]


def client_of(
    pattern: Pattern,
    angles: Any,
    theta: np.ndarray,
    coins: np.ndarray,
    *,
    colour: int = -1,
    grid: AngleGrid = B3,
) -> tuple[BlindClient, Tape]:
    n = theta.shape[1]
    tape = Tape()
    client = BlindClient(
        pattern=pattern,
        angles=np.asarray(angles, dtype=np.uint64)[None],
        plan=RoundPlan(rows=np.full(n, -1 if colour >= 0 else 0), colours=np.full(n, colour)),
        grid=grid,
        secrets=Listed(theta, coins),
        channel=tape,
    )
    assert list(itertools.islice(client.batches(n), 1)) == [n]
    return client, tape


def play_replies(
    pattern: Pattern, client: BlindClient, tape: Tape, replies: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """The deltas ``(nodes, cases)`` and qubits ``(nodes, cases, 2)`` under fixed replies by node."""
    rounds = client._secret.theta.shape[1]
    deltas = np.zeros((pattern.graph.n_nodes, rounds), dtype=np.int64)
    where = {}
    for new, node in pattern.graph.arrivals():
        for arriving in new:
            where[arriving] = client.send(arriving)
        deltas[node] = client.delta(node)
        client.hear(node, np.full(rounds, replies[node], dtype=np.uint8))
    return deltas, np.stack([tape.sent[where[node]] for node in range(pattern.graph.n_nodes)])


def joint(deltas: np.ndarray, qubits: np.ndarray, base: int = 8) -> np.ndarray:
    """The classical-quantum state: for each delta the unnormalised state of all qubits, summing to trace 1."""
    nodes, cases = deltas.shape
    key = np.ravel_multi_index(deltas, (base,) * nodes)
    state = qubits[0]
    for qubit in qubits[1:]:
        state = (state[:, :, None] * qubit[:, None, :]).reshape(cases, -1)
    dim = 2**nodes
    order = np.argsort(key, kind="stable")
    keys, first = np.unique(key[order], return_index=True)
    view = np.zeros((base**nodes, dim, dim), dtype=complex)
    for a in range(dim):  # column by column: the full outer products would not fit
        outer = state[order, a, None] * state[order].conj()
        view[keys, a] = np.add.reduceat(outer, first, axis=0)
    return view / cases


def deviation(view: np.ndarray) -> float:
    """The largest entry by which a joint state differs from uniform deltas and maximally mixed qubits."""
    count, dim, _ = view.shape
    return float(np.abs(view * count * dim - np.eye(dim)).max())


def exact_view(
    pattern: Pattern,
    angles: Any,
    replies: Sequence[int],
    secrets: tuple[np.ndarray, np.ndarray],
    *,
    colour: int = -1,
    grid: AngleGrid = B3,
) -> np.ndarray:
    """The joint view over the given secrets, as (theta, coins)."""
    client, tape = client_of(pattern, angles, *secrets, colour=colour, grid=grid)
    return joint(*play_replies(pattern, client, tape, replies), base=2**grid.bits)


def view_given(pattern: Pattern, angles: Any, replies: Sequence[int], deltas: Any) -> np.ndarray:
    """The qubits' state given all deltas: over the one theta that each choice of outcome pads leaves.

    For fixed replies and pads r the deltas are theta plus something that theta does not enter. So exactly one
    theta leads to the given deltas for each r, which is checked, and their likelihood is the same for all.
    """
    n = pattern.graph.n_nodes
    coins = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(2)] * n, indexing="ij")])
    start = play_replies(pattern, *client_of(pattern, angles, np.zeros_like(coins), coins), replies)[0]
    theta = (np.asarray(deltas)[:, None] - start) % 8
    told, qubits = play_replies(pattern, *client_of(pattern, angles, theta, coins), replies)
    assert (told == np.asarray(deltas)[:, None]).all()
    state = qubits[0]
    for qubit in qubits[1:]:
        state = (state[:, :, None] * qubit[:, None, :]).reshape(len(state), -1)
    return state.T @ state.conj() / len(state)
