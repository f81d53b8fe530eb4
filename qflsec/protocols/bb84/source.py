"""Alice's light source: true single photons, or weak coherent pulses with decoy intensities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.bits import stated_probability
from qflsec.protocols.bb84.detector import FOCK

__all__ = ["PhotonSource", "SinglePhotonSource", "WeakCoherentSource"]

_MAX_INTENSITIES = 4


@dataclass(frozen=True, kw_only=True)
class SinglePhotonSource:
    """Exactly one photon in every pulse.

    Attributes:
        isolation_db: Attenuation of light shone into the device and reflected back out.

    Units:
        isolation_db: dB.
    """

    isolation_db: float = 40.0

    def __post_init__(self) -> None:
        _check_isolation(self.isolation_db)

    @property
    def n_intensities(self) -> int:
        """One."""
        return 1

    @property
    def means(self) -> tuple[float, ...]:
        """No coherent intensity."""
        return ()

    @property
    def code(self) -> int:
        """What every pulse is made of."""
        return FOCK + 1

    @property
    def stated_probabilities(self) -> tuple[float, ...]:
        """Of the one intensity."""
        return (1.0,)


@finite
@dataclass(frozen=True, kw_only=True)
class WeakCoherentSource:
    """Phase-randomised laser pulses whose intensity Alice chooses in secret.

    Attributes:
        intensities: Mean photon numbers, descending; three of them are the decoy protocol, one is the
            source that a photon-number-splitting attack breaks.
        probabilities: Of choosing each.
        isolation_db: Attenuation of light shone into the device and reflected back out.

    Units:
        intensities: photons per pulse; isolation_db: dB.

    Source:
        Lim, Curty, Walenta, Xu, Zbinden, Phys. Rev. A 89, 022307 (2014), section II.
    """

    intensities: tuple[float, ...] = (0.5, 0.15, 2e-4)
    probabilities: tuple[float, ...] = (0.4, 0.4, 0.2)
    isolation_db: float = 40.0

    def __post_init__(self) -> None:
        _check_isolation(self.isolation_db)
        mu = self.intensities
        ordered = all(a > b for a, b in pairwise(mu)) and all(math.isfinite(m) and 0 <= m <= 10 for m in mu)
        if not (1 <= len(mu) <= _MAX_INTENSITIES and ordered and mu[0] > 0):
            raise ConfigError("impossible intensities", got=mu, expected="1 to 4, descending, within 0 to 10")
        if len(mu) == 3 and not mu[0] > mu[1] + mu[2]:
            raise ConfigError(
                "the decoy bounds do not hold", got=mu, expected="the first above the others' sum"
            )
        p = self.probabilities
        if len(p) != len(mu) or not all(0 < q <= 1 for q in p) or not math.isclose(sum(p), 1, abs_tol=1e-9):
            raise ConfigError(
                "impossible intensity probabilities", got=p, expected="positive, with the sum 1"
            )

    @property
    def n_intensities(self) -> int:
        """The number of intensities."""
        return len(self.intensities)

    @property
    def means(self) -> tuple[float, ...]:
        """The intensities."""
        return self.intensities

    @property
    def code(self) -> int:
        """What every pulse is made of where there is one intensity."""
        return 0

    @property
    def thresholds(self) -> tuple[int, ...]:
        """Where a uniform 32-bit integer passes from one intensity to the next."""
        return tuple(round(c * 2**32) for c in accumulate(self.probabilities[:-1]))

    @property
    def stated_probabilities(self) -> tuple[float, ...]:
        """The probabilities that are realised exactly: multiples of 2^-32."""
        edges = (0.0, *(stated_probability(c) for c in accumulate(self.probabilities[:-1])), 1.0)
        return tuple(b - a for a, b in pairwise(edges))


PhotonSource = SinglePhotonSource | WeakCoherentSource


def _check_isolation(isolation_db: float) -> None:
    if not (math.isfinite(isolation_db) and isolation_db >= 0):
        raise ConfigError("impossible isolation", got=isolation_db, expected="dB, 0 or more")
