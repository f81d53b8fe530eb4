"""Intercept and resend: measure a share of the pulses, and send on what was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.tampering import count_photons

__all__ = ["InterceptResend", "InterceptResendEve", "intercept_resend_qber"]

_BREIDBART = math.cos(math.pi / 8) ** 2


def intercept_resend_qber(fraction: float, error: float) -> float:
    """QBER under the attack on a single-photon source.

    Args:
        fraction: Of the pulses that are intercepted.
        error: QBER without the attack.

    Source:
        Bennett, Bessette, Brassard, Salvail, Smolin, J. Cryptology 5, 3 (1992): an intercepted pulse has
        error 1/4 + e/2.
    """
    return error + fraction / 4 * (1 - 2 * error)


@register("attack", "intercept-resend")
@dataclass(frozen=True, kw_only=True)
class InterceptResend(ChannelAttack):
    """Measure a share of the pulses and resend them.

    Attributes:
        fraction: Share of the pulses that are intercepted.
        basis: ``"random"`` is X or Z by a fair coin; ``"breidbart"`` lies halfway between the two.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="intercept-resend",
        idea="Measure a share of the pulses in a guessed basis and resend what was seen.",
        source=Source(
            paper="Bennett, Bessette, Brassard, Salvail, Smolin: Experimental quantum cryptography",
            year=1992,
            where="J. Cryptology 5, 3; section 4 (Breidbart basis)",
        ),
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "the public discussion"),
        metric="eve_information",
    )
    fraction: float = 1.0
    basis: Literal["random", "breidbart"] = "random"

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ConfigError("impossible fraction", got=self.fraction, expected="from 0 to 1")
        if self.basis not in ("random", "breidbart"):
            raise ConfigError("unknown basis", got=self.basis, expected="random or breidbart")

    def open(self, config: QuantumConfig, *, seed: int) -> InterceptResendEve:
        """The adversary of one run."""
        return InterceptResendEve(self, config, seed=seed)


class InterceptResendEve(ChannelEve):
    """The adversary."""

    def __init__(self, attack: InterceptResend, config: QuantumConfig, *, seed: int) -> None:
        super().__init__(config, seed=seed)
        self._attack = attack

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Measure and resend the chosen pulses at Alice's door."""
        photons, train = count_photons(train)
        chosen = (self.rng.random(photons.size) < self._attack.fraction) & (photons > 0)
        if self._attack.basis == "random":
            x, half = self.random_bits(photons.size), np.zeros(photons.size, dtype=np.uint8)
        else:
            x, half = np.zeros(photons.size, dtype=np.uint8), np.ones(photons.size, dtype=np.uint8)
        outcome, train = self.resend(train, chosen, photons=photons, x=x, half=half)
        self.record(bit=outcome, x=x, chosen=chosen.astype(np.uint8))
        return line.carry(train)

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """An outcome is worth something where the basis was right, and always a little halfway."""
        if self._attack.basis == "random":
            return columns["bit"], np.where(columns["chosen"] & columns["x"], 1.0, 0.5)
        return columns["bit"], np.where(columns["chosen"], _BREIDBART, 0.5)
