"""Wrong angles: measure beside the angle that was told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.attacks.server.base import ActiveServer, ServerManipulation, last_nodes
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer
from qflsec.protocols.blind.angles import Angles
from qflsec.protocols.blind.qubits import Bits

__all__ = ["WrongAngles"]


@register("attack", "wrong-angles")
@dataclass(frozen=True, kw_only=True)
class WrongAngles(ServerManipulation):
    """Measure the last nodes at an angle that is off by a fixed amount.

    A trap that is measured so fails with probability sin^2(offset / 2).

    Attributes:
        offset: By how much, in radians.
        nodes: How many of the last nodes; 0 for all.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="wrong-angles",
        idea="The quantum server measures at angles that are off by a fixed amount.",
        source=Source(
            paper="Leichtle, Music, Kashefi and Ollivier: Verifying BQP computations on noisy devices",
            year=2021,
            where="PRX Quantum 2, 040302 (a server that deviates; tests on the same graph)",
        ),
        family="server",
        goal="integrity",
        needs=("an active quantum server",),
    )
    offset: float = math.pi / 2
    nodes: int = 0

    def __post_init__(self) -> None:
        """Refuse angles that are none, and a negative number."""
        super().__post_init__()
        if not math.isfinite(self.offset):
            raise ConfigError("bad offset", got=self.offset, expected="an angle in radians")
        if self.nodes < 0:
            raise ConfigError("bad number of nodes", got=self.nodes, expected="0 for all, or more")

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Turner(self, graph, grid, rng)

    def caught(self, graph: Graph, colour: int) -> float:
        """Each turned trap fails on its own."""
        traps = sum(graph.colouring[node] == colour for node in last_nodes(graph, self.nodes))
        return float(1 - math.cos(self.offset / 2) ** (2 * traps))


class _Turner(ActiveServer):
    def __init__(self, attack: WrongAngles, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> None:
        super().__init__(graph, grid, attack.fraction, rng)
        self._nodes = frozenset(last_nodes(graph, attack.nodes))
        self._offset = grid.to_grid(np.array(attack.offset))

    def measure(self, node: int, delta: Angles) -> Bits:
        if node in self._nodes:
            delta = np.where(self.chosen, delta + self._offset, delta) & self.grid.mask
        return super().measure(node, delta)
