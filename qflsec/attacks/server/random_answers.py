"""Random answers: coins in the place of outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.attacks.server.base import ActiveServer, ServerManipulation, last_nodes
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer
from qflsec.protocols.blind.angles import Angles
from qflsec.protocols.blind.qubits import Bits

__all__ = ["RandomAnswers"]


@register("attack", "random-answers")
@dataclass(frozen=True, kw_only=True)
class RandomAnswers(ServerManipulation):
    """Answer with coins: the server that saves itself the quantum computer.

    Attributes:
        nodes: How many of the last nodes; 0 for all.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="random-answers",
        idea="The quantum server answers with coins, as one without a quantum computer would.",
        source=Source(
            paper="Barz, Fitzsimons, Kashefi and Walther: Experimental verification of quantum computation",
            year=2013,
            where="Nature Physics 9, 727 (arXiv:1309.0005): traps tell a quantum computer from one that is none",
        ),
        family="server",
        goal="integrity",
        needs=("an active quantum server",),
    )
    nodes: int = 0

    def __post_init__(self) -> None:
        """Refuse a negative number."""
        super().__post_init__()
        if self.nodes < 0:
            raise ConfigError("bad number of nodes", got=self.nodes, expected="0 for all, or more")

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Tosser(self, graph, grid, rng)

    def caught(self, graph: Graph, colour: int) -> float:
        """Unless the coins agree with every trap that they answer for."""
        traps = sum(graph.colouring[node] == colour for node in last_nodes(graph, self.nodes))
        return float(1 - 0.5**traps)


class _Tosser(ActiveServer):
    def __init__(
        self, attack: RandomAnswers, graph: Graph, grid: AngleGrid, rng: np.random.Generator
    ) -> None:
        super().__init__(graph, grid, attack.fraction, rng)
        self._nodes = frozenset(last_nodes(graph, attack.nodes))

    def measure(self, node: int, delta: Angles) -> Bits:
        bits = super().measure(node, delta)
        if node not in self._nodes:
            return bits
        coins = self.rng.integers(2, size=len(bits), dtype=np.uint8)
        return np.where(self.chosen, coins, bits).astype(np.uint8)
