"""Detector blinding: turn Bob's detectors into classical ones that click when Eve wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve
from qflsec.base import AttackCard, Source, register
from qflsec.protocols.bb84.bits import Bits, pack
from qflsec.protocols.bb84.channel import FibreChannel, photon_gain
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import MAX_PHOTONS
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.tampering import count_photons, emit_blinding

__all__ = ["BlindingEve", "DetectorBlinding"]


@register("attack", "detector-blinding")
@dataclass(frozen=True, kw_only=True)
class DetectorBlinding(ChannelAttack):
    """Measure everything, and make Bob's blinded detectors repeat it.

    A trigger makes a blinded detector click only if Bob chose Eve's basis; in the other basis its light is
    halved and nothing clicks. That costs half of the clicks, so that each photon number is triggered twice
    as often as Bob expects to detect it, which no decoy state shows.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="detector-blinding",
        idea="Blind Bob's detectors with bright light and trigger them with what Eve measured.",
        source=Source(
            paper="Lydersen et al.: Hacking commercial quantum cryptography systems by tailored bright illumination",
            year=2010,
            where="Nature Photonics 4, 686; Fig. 4",
        ),
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "detectors that bright light blinds", "the public discussion"),
        metric="eve_information",
    )

    def open(self, config: QuantumConfig, *, seed: int) -> BlindingEve:
        """The adversary of one run."""
        return BlindingEve(config, seed=seed)


class BlindingEve(ChannelEve):
    """The adversary."""

    def __init__(self, config: QuantumConfig, *, seed: int) -> None:
        super().__init__(config, seed=seed)
        gains = [photon_gain(n, config.channel, config.detector) for n in range(MAX_PHOTONS + 1)]
        self._trigger = np.minimum(1.0, 2 * np.array(gains))

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Measure each pulse in a random basis; trigger Bob in that basis."""
        photons, train = count_photons(train)
        x = self.random_bits(photons.size)
        bit = self.observe(train, x=x)
        trigger = self.rng.random(photons.size) < self._trigger[photons]
        self.record(bit=bit, photons=photons)
        return line.carry(emit_blinding(self.nature, trigger=trigger, sign=pack(bit), x=pack(x)))

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """Bob clicked, so the bases agreed; only for an empty pulse Alice's bit is another."""
        return columns["bit"], np.where(columns["photons"] > 0, 1.0, 0.5)
