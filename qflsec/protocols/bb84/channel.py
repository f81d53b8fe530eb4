"""The fibre between Alice and Bob, and what is expected at its end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from qflsec.base import ConfigError, finite
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.signal import PulseTrain, attenuate

__all__ = [
    "FibreChannel",
    "coherent_error_gain",
    "coherent_gain",
    "photon_error_gain",
    "photon_gain",
]


@finite
@dataclass(frozen=True, kw_only=True)
class FibreChannel:
    """A fibre that loses photons, with optics that turn some to the wrong detector.

    Attributes:
        distance_km: Its length.
        loss_db_per_km: Its attenuation.
        misalignment: Probability that a photon goes to the wrong detector.
    """

    distance_km: float = 0.0
    loss_db_per_km: float = 0.2
    misalignment: float = 0.005

    def __post_init__(self) -> None:
        for name in ("distance_km", "loss_db_per_km"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"impossible {name}", got=value, expected="0 or more")
        if not 0 <= self.misalignment <= 0.5:
            raise ConfigError("impossible misalignment", got=self.misalignment, expected="from 0 to 0.5")

    @property
    def transmittance(self) -> float:
        """Probability that a photon arrives."""
        return float(10 ** (-self.loss_db_per_km * self.distance_km / 10))

    def carry(self, train: PulseTrain) -> PulseTrain:
        """Send a train through."""
        return attenuate(train, self.transmittance, misalignment=self.misalignment)

    def better(self, factor: float) -> FibreChannel:
        """The same optics behind a line that lets ``factor`` times as many photons through, at most all."""
        if self.transmittance * factor >= 1 or self.loss_db_per_km == 0:
            return replace(self, distance_km=0.0)
        gained = 10 * math.log10(factor) / self.loss_db_per_km
        return replace(self, distance_km=max(0.0, self.distance_km - gained))


def _detection(lost: float, detector: DetectorModel) -> float:
    """D: the probability that something clicks, without afterpulses."""
    return 1 - (1 - 2 * detector.dark_count) * lost


def _error(lost: float, channel: FibreChannel, detector: DetectorModel) -> float:
    dark = detector.dark_count + channel.misalignment * (1 - lost)
    return dark + detector.afterpulse * _detection(lost, detector) / 2


def coherent_gain(mean: float, channel: FibreChannel, detector: DetectorModel) -> float:
    """R_k: the probability that a pulse of mean photon number ``mean`` is detected.

    Source:
        Lim et al., Phys. Rev. A 89, 022307 (2014), section IV.
    """
    lost = math.exp(-channel.transmittance * detector.efficiency * mean)
    return _detection(lost, detector) * (1 + detector.afterpulse)


def coherent_error_gain(mean: float, channel: FibreChannel, detector: DetectorModel) -> float:
    """e_k: the probability that such a pulse is detected with the wrong bit, in equal bases.

    The paper prints the channel's transmittance in the exponent where the system's (with Bob's efficiency)
    is meant; with the former its own figures do not come out.

    Source:
        Lim et al., Phys. Rev. A 89, 022307 (2014), section IV.
    """
    return _error(math.exp(-channel.transmittance * detector.efficiency * mean), channel, detector)


def photon_gain(n: int, channel: FibreChannel, detector: DetectorModel) -> float:
    """Y_n: the probability that a pulse of exactly ``n`` photons is detected."""
    lost = (1 - channel.transmittance * detector.efficiency) ** n
    return _detection(lost, detector) * (1 + detector.afterpulse)


def photon_error_gain(n: int, channel: FibreChannel, detector: DetectorModel) -> float:
    """The probability that such a pulse is detected with the wrong bit, in equal bases."""
    return _error((1 - channel.transmittance * detector.efficiency) ** n, channel, detector)
