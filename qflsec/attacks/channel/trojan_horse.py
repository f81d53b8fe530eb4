"""Trojan horse: read Alice's basis off the light that her modulator reflects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.tampering import count_photons, probe_modulator

__all__ = ["TrojanHorse", "TrojanHorseEve", "leaky_phase_error", "reflected_photons"]

_SOURCE = Source(
    paper="Lucamarini et al.: Practical security bounds against the Trojan-horse attack in QKD",
    year=2015,
    where="Phys. Rev. X 5, 031030; Eqs. (4), (5) and (7)",
)


def reflected_photons(injected: float, isolation_db: float) -> float:
    """Mean photons that come back for each pulse."""
    return float(injected * 10 ** (-isolation_db / 10))


def leaky_phase_error(error: float, reflected: float, single_photon_yield: float) -> float:
    """The phase error rate that privacy amplification must assume of a leaking sender.

    Args:
        error: Error rate seen in the test basis.
        reflected: Bound on the mean photons that come back to an adversary for each pulse.
        single_photon_yield: Probability that a single photon of Alice's is detected.

    Returns:
        At most 1/2.

    Source:
        Lucamarini et al., Phys. Rev. X 5, 031030 (2015), Eq. (7).
    """
    if not (0 <= error <= 0.5 and reflected >= 0 and 0 < single_photon_yield <= 1):
        raise ConfigError("impossible leak", got=(error, reflected, single_photon_yield))
    leak = (1 - math.exp(-reflected) * math.cos(reflected)) / 2 / single_photon_yield
    if leak >= 0.5:
        return 0.5
    spread = leak * (1 - leak)
    root = math.sqrt(spread * error * (1 - error))
    return min(0.5, error + 4 * spread * (1 - 2 * error) + 4 * (1 - 2 * leak) * root)


@register("attack", "trojan-horse")
@dataclass(frozen=True, kw_only=True)
class TrojanHorse(ChannelAttack):
    """Find the basis by a reflection; measure and resend in it where it was found for certain.

    Attributes:
        injected: Mean photons sent into Alice's device for each pulse. The default is what a fibre bears
            before it melts, at 1 GHz.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="trojan-horse",
        idea="Read Alice's basis off reflected light, then measure and resend without an error.",
        source=_SOURCE,
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "a reflection out of Alice's device", "the public discussion"),
        metric="eve_information",
    )
    injected: float = 1e11

    def __post_init__(self) -> None:
        if not (math.isfinite(self.injected) and self.injected >= 0):
            raise ConfigError("impossible light", got=self.injected, expected="photons per pulse, 0 or more")

    def open(self, config: QuantumConfig, *, seed: int) -> TrojanHorseEve:
        """The adversary of one run."""
        return TrojanHorseEve(self, config, seed=seed)


class TrojanHorseEve(ChannelEve):
    """The adversary."""

    def __init__(self, attack: TrojanHorse, config: QuantumConfig, *, seed: int) -> None:
        super().__init__(config, seed=seed)
        self._attack = attack

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Measure and resend the pulses whose basis is known."""
        found, x, train = probe_modulator(train, self._attack.injected)
        photons, train = count_photons(train)
        known = found & (photons > 0)
        half = np.zeros(photons.size, dtype=np.uint8)
        bit, train = self.resend(train, known, photons=photons, x=x, half=half)
        self.record(bit=bit, known=known.astype(np.uint8))
        return line.carry(train)

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """A bit measured in the right basis is known."""
        return columns["bit"], np.where(columns["known"], 1.0, 0.5)
