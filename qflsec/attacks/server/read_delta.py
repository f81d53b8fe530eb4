"""Reading what the quantum server is told: angles and replies, taken at their word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.attacks.server.base import Reading, ServerInference, WatchingServer
from qflsec.base import AttackCard, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer

__all__ = ["ReadDelta"]


@register("attack", "read-delta")
@dataclass(frozen=True, kw_only=True)
class ReadDelta(ServerInference):
    """Take the told angles for the angles of the computation, and the replies for its outcomes.

    That is right modulo signs and pi wherever there are no pads.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="read-delta",
        idea="The quantum server reads data and results off the angles that it is told and the bits that it says.",
        source=Source(
            paper="Broadbent, Fitzsimons and Kashefi: Universal blind quantum computation",
            year=2009,
            where="FOCS 2009 (arXiv:0807.4154), theorem 2: angles and outcomes are padded against this",
        ),
        family="server",
        goal="confidentiality",
        needs=("the quantum server",),
    )

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Reader(graph, grid)


class _Reader(WatchingServer):
    def reading(self) -> Reading:
        angles = {node: np.mod(self.grid.to_radians(d), math.pi) for node, d in self.deltas.items()}
        return Reading(angles=angles, bits=self.replies)
