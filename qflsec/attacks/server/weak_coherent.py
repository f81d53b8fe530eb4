"""Weak coherent pulses: photons beyond the first are copies of the qubit, and copies can be measured.

The server computes with one photon of each pulse and measures the others, half of them in |0> +- |1> and
half in |0> +- i |1>. That tells something of the pad theta modulo pi, and with the told angle of the padded one: of
phi' = delta - theta modulo pi. (The pad r hides the rest: one copy more, and nothing is learned.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.server.base import Reading, ServerInference, WatchingServer
from qflsec.base import AttackCard, Source, register
from qflsec.protocols.blind import AngleGrid, Graph, Line, PulsedSource, QuantumServer, Qubits
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.qubits import measure, spare_photons

__all__ = ["WeakCoherent", "copies_advantage", "covariant_advantage", "weak_coherent_advantage"]

_POINTS = 256
"""Angles over which a polynomial of lower degree in cos and sin is averaged: exact."""


@register("attack", "weak-coherent")
@dataclass(frozen=True, kw_only=True)
class WeakCoherent(ServerInference):
    """Measure the photons that a pulse has too many.

    Where the client's source gives single photons, there are none.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="weak-coherent",
        idea="The quantum server measures the photons that a laser pulse carries beyond the first.",
        source=Source(
            paper="Dunjko, Kashefi and Leverrier: Blind quantum computing with weak coherent pulses",
            year=2012,
            where="PRL 108, 200502 (arXiv:1108.5571): the setting; what is measured is worked out here",
        ),
        family="server",
        goal="confidentiality",
        needs=("the quantum server", "a client whose source is a laser"),
    )

    def open(self, graph: Graph, grid: AngleGrid, rng: np.random.Generator) -> QuantumServer:
        """The server of one delegation."""
        return _Splitter(graph, grid)


class _Splitter(WatchingServer):
    """Theta is estimated from (photons measured, results +1 of the first kind, of the second)."""

    def __init__(self, graph: Graph, grid: AngleGrid) -> None:
        super().__init__(graph, grid)
        self._theta: dict[int, list[Floats]] = {node: [] for node in range(graph.n_nodes)}
        self._several = self._held = 0

    def receive(self, node: int, qubits: Qubits) -> None:
        photons, spares = spare_photons(qubits)
        super().receive(node, qubits)
        if photons is None:
            return
        self._several += int((photons > 1).sum())
        self._held += len(photons)
        plus = np.zeros((2, len(photons)), dtype=np.int64)
        for k, spare in enumerate(spares):
            axis = np.full(len(photons), k % 2 * math.pi / 2)
            plus[k % 2] += (measure(spare, axis) == 0) & (photons > k + 1)
        theta = np.zeros(len(photons))
        for extra in np.unique(photons - 1):
            here = photons - 1 == extra
            theta[here] = np.angle(_moments(int(extra)))[plus[0, here], plus[1, here]] / 2
        self._theta[node].append(theta)

    def reading(self) -> Reading:
        angles = {}
        for node, delta in self.deltas.items():
            parts = self._theta[node]
            theta = np.concatenate(parts) if parts else np.zeros(self.rounds)
            angles[node] = np.mod(self.grid.to_radians(delta) - theta, math.pi)
        return Reading(angles=angles, exposed=self._several / self._held if self._held else 0.0)


@lru_cache(maxsize=64)
def _moments(copies: int) -> npt.NDArray[np.complex128]:
    """The mean of exp(2 i theta) times the probability of each pair of counts, over uniform theta."""
    theta = 2 * math.pi * np.arange(_POINTS) / _POINTS
    first, second = (copies + 1) // 2, copies // 2

    def counts(n: int, p: Floats) -> Floats:
        ways = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        return np.array(ways)

    a = counts(first, (1 + np.cos(theta)) / 2)
    b = counts(second, (1 + np.sin(theta)) / 2)
    found: npt.NDArray[np.complex128] = (a[:, None] * b[None] * np.exp(2j * theta)).mean(axis=-1)
    return found


def copies_advantage(copies: int) -> float:
    """The mean of cos 2 (guess - theta) from a number of measured copies of |+_theta>: 0 knows nothing.

    The best guess from these outcomes: the sum over outcomes of |mean of exp(2 i theta) times their
    probability|. None or one copy: 0; two: 1/4.
    """
    return float(np.abs(_moments(copies)).sum())


def covariant_advantage(copies: int) -> float:
    """The same for the best measurement of all copies together: the bound on any server.

    |+_theta> to the n is a superposition of n + 1 levels with weights C(n, j) / 2^n, and exp(2 i theta)
    moves by two levels.

    Source:
        Holevo, Probabilistic and Statistical Aspects of Quantum Theory, 1982, chapter 4 (covariant measurements).
    """
    pairs = (math.comb(copies, j) * math.comb(copies, j + 2) for j in range(copies - 1))
    return math.fsum(math.sqrt(pair) for pair in pairs) / math.ldexp(1.0, copies)


def weak_coherent_advantage(source: PulsedSource, line: Line) -> float:
    """What :class:`WeakCoherent` gains of every angle modulo pi: the mean of cos 2 (guess - phi')."""
    return sum(p * copies_advantage(n - 1) for n, p in enumerate(source.photons(line)) if n > 1 and p > 1e-12)
