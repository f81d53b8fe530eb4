"""Guessing rounds: is this a test or a computation?

Whoever can tell corrupts the computations and passes every test. Where the dummies of a test are always |0>,
as in some implementations, asking whether a whole colour is |0> tells them apart and hardly disturbs a
computation. Where dummies are random, the answer says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from qflsec.attacks.server.base import Reading, ServerInference, WatchingServer
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, QuantumServer
from qflsec.protocols.blind.angles import Angles
from qflsec.protocols.blind.qubits import Bits, project

__all__ = ["GuessRounds"]


@register("attack", "guess-rounds")
@dataclass(frozen=True, kw_only=True)
class GuessRounds(ServerInference):
    """Tell tests from computations, and corrupt what looks like a computation.

    Attributes:
        by: ``"projector"`` asks the qubits that are there before the first answer whether all of one colour
            are |0>; ``"angles"`` asks whether all told angles are 0 or pi, and disturbs nothing.
        corrupt: Whether the last outcome of supposed computations is flipped (by the projector only: the
            angles are not known before the end).
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="guess-rounds",
        idea="The quantum server tells tests from computations, and corrupts computations only.",
        source=Source(
            paper="Fitzsimons and Kashefi: Unconditionally verifiable blind quantum computation",
            year=2017,
            where="PRA 96, 012303 (dummies are random so that no position shows itself): what happens if not",
        ),
        family="server",
        goal="integrity",
        needs=("an active quantum server", "all qubits of a round before the first answer"),
    )
    joint: ClassVar[bool] = True
    by: Literal["projector", "angles"] = "projector"
    corrupt: bool = True

    def __post_init__(self) -> None:
        """Refuse other ways."""
        if self.by not in ("projector", "angles"):
            raise ConfigError("unknown way to guess", got=repr(self.by), expected="projector or angles")

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Projector(self, graph, grid) if self.by == "projector" else _Angles(graph, grid)


class _Projector(WatchingServer):
    def __init__(self, attack: GuessRounds, graph: Graph, grid: AngleGrid) -> None:
        super().__init__(graph, grid)
        self._corrupt = attack.corrupt
        self._tests: list[Bits] = []

    def answer(self, node: int, delta: Angles) -> Bits:
        if node == self.graph.order[0]:
            self._tests.append(self._ask())
        return super().answer(node, delta)

    def _ask(self) -> Bits:
        groups: dict[int, list[int]] = {}
        for node in sorted(self.qubits):
            groups.setdefault(self.graph.colouring[node], []).append(node)
        return project([[self.qubits[node] for node in group] for group in groups.values()])

    def measure(self, node: int, delta: Angles) -> Bits:
        bits = super().measure(node, delta)
        if self._corrupt and node == self.graph.order[-1]:
            bits = bits ^ (1 - self._tests[-1])
        return bits

    def reading(self) -> Reading:
        return Reading(test=np.concatenate(self._tests).astype(np.float64))


class _Angles(WatchingServer):
    def reading(self) -> Reading:
        half = int(self.grid.half)
        unpadded = [delta.astype(np.int64) % half == 0 for delta in self.deltas.values()]
        return Reading(test=np.all(unpadded, axis=0).astype(np.float64))
