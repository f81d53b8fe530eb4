"""A client whose qubits are weak laser pulses: a pulse of several photons carries as many copies of the qubit.

A pulse that brings no photon is sent again with a fresh pad, so that only the kept ones matter. How many are
kept is public, and the client knows how many to expect; a server that stands at the client's door can hold
back single photons and keep several ones, as long as that number comes out right.

Source:
    Dunjko, Kashefi and Leverrier, Blind quantum computing with weak coherent pulses, PRL 108, 200502, 2012
    (arXiv:1108.5571): the setting; splitting as in Brassard et al., PRL 85, 1330, 2000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qflsec.base import finite
from qflsec.protocols.blind.errors import BlindError

__all__ = ["MOST_PHOTONS", "Line", "PulsedSource"]

Line = Literal["lossy", "split"]
MOST_PHOTONS = 40
"""Photons of a pulse beyond which its probability is left out."""


@finite
@dataclass(frozen=True, kw_only=True)
class PulsedSource:
    """Weak coherent pulses with phases at random, each a qubit in the polarisation of all its photons.

    Attributes:
        mean_photons: Mean number of photons of a pulse.
        transmittance: Of the line that the client expects.
    """

    mean_photons: float
    transmittance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse pulses without light, and so much light that nothing is hidden."""
        if not 0 < self.mean_photons <= 10:
            raise BlindError("bad mean photon number", got=self.mean_photons, expected="above 0, at most 10")
        if not 0 < self.transmittance <= 1:
            raise BlindError("bad transmittance", got=self.transmittance, expected="above 0, at most 1")

    def emitted(self, photons: int) -> float:
        """The probability of a number of photons."""
        return math.exp(-self.mean_photons) * self.mean_photons**photons / math.factorial(photons)

    @property
    def kept(self) -> float:
        """The share of the pulses that arrive, which the client expects."""
        return -math.expm1(-self.mean_photons * self.transmittance)

    def shares(self) -> tuple[float, float]:
        """Which shares of the single and of the several photons a splitting server keeps.

        As few single ones as it can, so that in all as many pulses are kept as the client expects.
        """
        several = 1 - self.emitted(0) - self.emitted(1)
        if several >= self.kept:
            return 0.0, self.kept / several
        return min(1.0, (self.kept - several) / self.emitted(1)), 1.0

    def photons(self, line: Line) -> tuple[float, ...]:
        """The probability of each number of photons that the server gets with a kept pulse."""
        if line == "lossy":
            arriving = PulsedSource(mean_photons=self.mean_photons * self.transmittance)
            return (0.0, *(arriving.emitted(n) / self.kept for n in range(1, MOST_PHOTONS)))
        single, several = self.shares()
        rest = (several * self.emitted(n) / self.kept for n in range(2, MOST_PHOTONS))
        return (0.0, single * self.emitted(1) / self.kept, *rest)

    def leaked(self, line: Line) -> float:
        """The share of the qubits that the server gets more than once: the bound on what can leak."""
        return sum(self.photons(line)[2:])
