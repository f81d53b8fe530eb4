"""Time shift: make a pulse arrive when one of Bob's detectors sees better than the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve
from qflsec.base import AttackCard, Source, register
from qflsec.protocols.bb84.bits import Bits
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.tampering import shift

__all__ = ["TimeShift", "TimeShiftEve"]


@register("attack", "time-shift")
@dataclass(frozen=True, kw_only=True)
class TimeShift(ChannelAttack):
    """Let every pulse arrive early or late, on a better line that makes up for the loss.

    An early pulse that is detected was most likely seen by detector 0, a late one by detector 1. Where the
    efficiencies are eta_0 and eta_1 the adversary knows 1 - h(eta_1 / (eta_0 + eta_1)) of each bit.
    """

    card: ClassVar[AttackCard] = AttackCard(
        name="time-shift",
        idea="Shift pulses in time so that Bob's mismatched detectors betray his bit.",
        source=Source(
            paper="Qi, Fung, Lo, Ma: Time-shift attack in practical quantum cryptosystems",
            year=2007,
            where="Quantum Inf. Comput. 7, 73",
        ),
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "detectors of unequal efficiency", "the public discussion"),
        metric="eve_information",
    )

    def open(self, config: QuantumConfig, *, seed: int) -> TimeShiftEve:
        """The adversary of one run."""
        return TimeShiftEve(config, seed=seed)


class TimeShiftEve(ChannelEve):
    """The adversary."""

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Shift each pulse by a fair coin."""
        late = self.random_bits(len(train))
        self.record(late=late)
        ratio = self.config.detector.shift_ratio
        return line.better(2 / (1 + ratio)).carry(shift(train, late + np.uint8(1)))

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """Early speaks for 0, late for 1."""
        ratio = self.config.detector.shift_ratio
        hidden = self.config.detector.random_assignment
        sure = 0.5 if hidden else 1 / (1 + ratio)
        return columns["late"], np.full(columns["late"].size, sure)
