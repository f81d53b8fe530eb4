"""The public part of a measurement pattern: a graph and an order, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from qflsec.protocols.blind.errors import BlindError

__all__ = ["Graph"]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """What the quantum server is told of a computation.

    Attributes:
        n_nodes: Number of qubits.
        edges: Pairs of nodes that are entangled by CZ, each once, the smaller node first.
        order: The nodes in the order of their measurement.
    """

    n_nodes: int
    edges: tuple[tuple[int, int], ...]
    order: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse edges off the graph and orders that are no permutations."""
        if sorted(self.order) != list(range(self.n_nodes)):
            raise BlindError("the order must name every node once", got=self.order)
        if len(set(self.edges)) != len(self.edges) or not all(
            0 <= a < b < self.n_nodes for a, b in self.edges
        ):
            raise BlindError("bad edges", expected="pairs a < b of nodes, each once")

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """The neighbours of every node."""
        found: list[list[int]] = [[] for _ in range(self.n_nodes)]
        for a, b in self.edges:
            found[a].append(b)
            found[b].append(a)
        return tuple(tuple(sorted(nodes)) for nodes in found)

    def arrivals(self, *, upfront: bool = False) -> Iterator[tuple[tuple[int, ...], int]]:
        """For every measurement in order: the nodes that arrive before it, and the measured node.

        Args:
            upfront: Whether all arrive before the first, and not each as late as possible.
        """
        there: set[int] = set()
        for node in self.order:
            wanted = self.order if upfront else (node, *self.neighbours[node])
            new = tuple(other for other in wanted if other not in there)
            there.update(new)
            yield new, node

    @cached_property
    def live_qubits(self) -> int:
        """The largest number of qubits that the server holds at a time.

        Source:
            Houshmand, Houshmand and Fitzsimons, Minimal qubit resources for the realization of
            measurement-based quantum computation, PRA 98, 012318, 2018: n + 1 for a causal flow on n wires.
        """
        live = most = 0
        for new, _ in self.arrivals():
            live += len(new)
            most = max(most, live)
            live -= 1
        return most

    @cached_property
    def colouring(self) -> tuple[int, ...]:
        """A proper colouring: greedy, breadth first, so that a bipartite graph gets two colours."""
        colours = [-1] * self.n_nodes
        for root in range(self.n_nodes):
            queue = [root] if colours[root] < 0 else []
            for node in queue:
                if colours[node] >= 0:
                    continue
                taken = {colours[other] for other in self.neighbours[node]}
                colours[node] = next(colour for colour in range(self.n_nodes) if colour not in taken)
                queue += [other for other in self.neighbours[node] if colours[other] < 0]
        return tuple(colours)

    @property
    def n_colours(self) -> int:
        """The number of colours of :attr:`colouring`; 0 without nodes."""
        return max(self.colouring, default=-1) + 1
