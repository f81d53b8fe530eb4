"""The quantum server: it holds qubits, the public graph and what it was told, and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qflsec.protocols.blind.angles import AngleGrid, Angles
from qflsec.protocols.blind.graph import Graph
from qflsec.protocols.blind.qubits import Bits, Qubits, entangle, measure
from qflsec.protocols.stages import Staged, stage

__all__ = ["QuantumServer"]


class QuantumServer(Staged):
    """A server that follows the protocol; a dishonest one overrides what it does otherwise.

    Args:
        graph: The public graph.
        grid: The public grid of angles.
    """

    def __init__(self, graph: Graph, grid: AngleGrid) -> None:
        self.graph = graph
        self.grid = grid
        self.qubits: dict[int, Qubits] = {}
        self._linked: set[tuple[int, int]] = set()

    @stage(opens=True)
    def start(self, rounds: int) -> None:
        """A batch of rounds begins.

        Args:
            rounds: The number of its rounds.
        """
        self.qubits = {}
        self._linked = set()

    @stage("start", each="node")
    def receive(self, node: int, qubits: Qubits) -> None:
        """A node's qubits arrive."""
        self.qubits[node] = qubits

    def answer(self, node: int, delta: Angles) -> Bits:
        """Link a node, measure it, and report the outcomes.

        Shapes:
            delta ``(rounds,)`` -> ``(rounds,)`` of 0 and 1.
        """
        self.link(node)
        return self.measure(node, delta)

    @stage("receive", each="node")
    def link(self, node: int) -> None:
        """Entangle a node with all of its neighbours to which it is not linked yet."""
        for other in self.graph.neighbours[node]:
            edge = (min(node, other), max(node, other))
            if edge not in self._linked:
                self._linked.add(edge)
                self.entangle(edge)

    def entangle(self, edge: tuple[int, int], where: npt.NDArray[np.bool_] | None = None) -> None:
        """CZ along one edge, in all rounds or in some."""
        entangle(self.qubits[edge[0]], self.qubits[edge[1]], where)

    @stage("receive", each="node")
    def measure(self, node: int, delta: Angles) -> Bits:
        """Measure one node at the angle that it was told."""
        return measure(self.qubits.pop(node), self.grid.to_radians(delta))
