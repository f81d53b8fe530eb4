"""Skipped entanglement: leave out CZ gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.server.base import ActiveServer, Chosen, ServerManipulation
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer

__all__ = ["SkipEntanglement"]


@register("attack", "skip-entanglement")
@dataclass(frozen=True, kw_only=True)
class SkipEntanglement(ServerManipulation):
    """Leave out the first edges of the graph.

    A dummy in |1> that should have flipped its neighbouring traps then does not. With all skipped edges of
    a test in a matrix over GF(2), of traps by dummies, all traps are right by luck with probability
    2 to the minus its rank.

    Attributes:
        edges: How many of the first edges; 0 for all.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="skip-entanglement",
        idea="The quantum server leaves out entangling gates.",
        source=Source(
            paper="Leichtle, Music, Kashefi and Ollivier: Verifying BQP computations on noisy devices",
            year=2021,
            where="PRX Quantum 2, 040302 (a server that deviates; tests on the same graph)",
        ),
        family="server",
        goal="integrity",
        needs=("an active quantum server",),
    )
    edges: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative number."""
        super().__post_init__()
        if self.edges < 0:
            raise ConfigError("bad number of edges", got=self.edges, expected="0 for all, or more")

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Skipper(self, graph, grid, rng)

    def skipped(self, graph: Graph) -> tuple[tuple[int, int], ...]:
        """The edges that are left out."""
        return graph.edges[: self.edges] if self.edges else graph.edges

    def caught(self, graph: Graph, colour: int) -> float:
        """Unless every trap happens to be surrounded by an even number of missed ones."""
        links = np.zeros((graph.n_nodes, graph.n_nodes), dtype=np.uint8)
        for a, b in self.skipped(graph):
            for trap, dummy in ((a, b), (b, a)):
                if graph.colouring[trap] == colour:
                    links[trap, dummy] ^= 1
        return 1 - 0.5 ** _rank(links)


class _Skipper(ActiveServer):
    def __init__(
        self, attack: SkipEntanglement, graph: Graph, grid: AngleGrid, rng: np.random.Generator
    ) -> None:
        super().__init__(graph, grid, attack.fraction, rng)
        self._skipped = frozenset(attack.skipped(graph))

    def entangle(self, edge: tuple[int, int], where: Chosen | None = None) -> None:
        if edge not in self._skipped:
            super().entangle(edge, where)
        elif not self.chosen.all():
            super().entangle(edge, ~self.chosen)


def _rank(matrix: npt.NDArray[np.uint8]) -> int:
    """The rank over GF(2)."""
    rows = [int("".join(map(str, row)), 2) for row in matrix.tolist()]
    rank = 0
    while rows:
        pivot = rows.pop()
        if pivot:
            rank += 1
            low = pivot & -pivot
            rows = [row ^ pivot if row & low else row for row in rows]
    return rank
