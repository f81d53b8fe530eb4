"""Flipped outcomes: report the opposite of what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.attacks.server.base import ActiveServer, ServerManipulation, last_nodes
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer
from qflsec.protocols.blind.angles import Angles
from qflsec.protocols.blind.qubits import Bits

__all__ = ["FlipOutcomes"]


@register("attack", "flip-outcomes")
@dataclass(frozen=True, kw_only=True)
class FlipOutcomes(ServerManipulation):
    """Flip the outcomes of the last nodes, which hold the results.

    A test notices if one of the flipped nodes is a trap.

    Attributes:
        nodes: How many of the last nodes; 0 for all.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="flip-outcomes",
        idea="The quantum server reports the opposite of what it measured.",
        source=Source(
            paper="Fitzsimons and Kashefi: Unconditionally verifiable blind quantum computation",
            year=2017,
            where="PRA 96, 012303 (deviations come down to Pauli errors, which traps notice)",
        ),
        family="server",
        goal="integrity",
        needs=("an active quantum server",),
    )
    nodes: int = 1

    def __post_init__(self) -> None:
        """Refuse a negative number."""
        super().__post_init__()
        if self.nodes < 0:
            raise ConfigError("bad number of nodes", got=self.nodes, expected="0 for all, or more")

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Flipper(self, graph, grid, rng)

    def caught(self, graph: Graph, colour: int) -> float:
        """Surely, where a flipped node is a trap."""
        return float(any(graph.colouring[node] == colour for node in last_nodes(graph, self.nodes)))


class _Flipper(ActiveServer):
    def __init__(self, attack: FlipOutcomes, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> None:
        super().__init__(graph, grid, attack.fraction, rng)
        self._nodes = frozenset(last_nodes(graph, attack.nodes))

    def measure(self, node: int, delta: Angles) -> Bits:
        bits = super().measure(node, delta)
        return bits ^ self.chosen.astype(np.uint8) if node in self._nodes else bits
