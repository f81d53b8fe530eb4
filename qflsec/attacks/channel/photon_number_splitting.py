"""Photon-number splitting: keep one photon of every pulse that has several."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qflsec.attacks.channel.base import ChannelAttack, ChannelEve, KeyGuess
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.protocols.bb84.bits import Bits, unpack
from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.signal import PulseTrain
from qflsec.protocols.bb84.source import WeakCoherentSource
from qflsec.protocols.bb84.tampering import count_photons, select, split
from qflsec.protocols.bb84.transcript import Transcript

__all__ = ["PhotonNumberSplitting", "SplittingEve", "forwarding"]

_MOST_PHOTONS = 60


def forwarding(config: QuantumConfig) -> tuple[float, float]:
    """Shares of the single-photon and of the multi-photon pulses to forward on a line without loss.

    They are chosen so that Bob's gain, averaged over the intensities, is the one that he expects, with as
    few single photons as possible.
    """
    source, eta = config.source, config.detector.efficiency
    if not isinstance(source, WeakCoherentSource):
        raise ConfigError("the attack needs pulses of several photons", got="a single-photon source")
    expected = single = multiple = 0.0
    for p, mean in zip(source.stated_probabilities, source.intensities, strict=True):
        expected -= p * math.expm1(-config.channel.transmittance * eta * mean)
        single += p * mean * math.exp(-mean) * eta
        for n in range(2, _MOST_PHOTONS):
            weight = math.exp(-mean) * mean**n / math.factorial(n)
            multiple += p * weight * (1 - (1 - eta) ** (n - 1))
    if multiple >= expected:
        return 0.0, expected / multiple
    return min(1.0, (expected - multiple) / single), 1.0


@register("attack", "photon-number-splitting")
@dataclass(frozen=True, kw_only=True)
class PhotonNumberSplitting(ChannelAttack):
    """Count photons, block single ones, keep one of several until the bases are public."""

    card: ClassVar[AttackCard] = AttackCard(
        name="photon-number-splitting",
        idea="Keep one photon of every multi-photon pulse and block single photons to hide the loss.",
        source=Source(
            paper="Brassard, Lütkenhaus, Mor, Sanders: Limitations on practical quantum cryptography",
            year=2000,
            where="Phys. Rev. Lett. 85, 1330",
        ),
        family="channel",
        goal="confidentiality",
        needs=("the quantum line", "a quantum memory", "the public discussion"),
        metric="eve_information",
    )

    def open(self, config: QuantumConfig, *, seed: int) -> SplittingEve:
        """The adversary of one run.

        Raises:
            ConfigError: The source sends single photons.
        """
        return SplittingEve(config, seed=seed)


class SplittingEve(ChannelEve):
    """The adversary, with a quantum memory."""

    def __init__(self, config: QuantumConfig, *, seed: int) -> None:
        super().__init__(config, seed=seed)
        self._single, self._multiple = forwarding(config)
        self._memory: list[PulseTrain] = []

    def intercept(self, train: PulseTrain, line: FibreChannel) -> PulseTrain:
        """Take a photon out of each forwarded multi-photon pulse; send the rest on without loss."""
        photons, train = count_photons(train)
        share = np.where(photons == 1, self._single, self._multiple)
        forwarded = self.rng.random(photons.size) < share
        held = (photons > 1) & forwarded
        kept, train = split(train, held.astype(np.uint8))
        _, train = split(train, np.where(forwarded, 0, photons).astype(np.uint8))
        self._memory.append(kept)
        self.record(held=held.astype(np.uint8))
        return replace(line, distance_km=0.0).carry(train)

    def settle(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Let the photons of undetected pulses go."""
        self._memory[-1] = select(self._memory[-1], positions)
        return super().settle(positions)

    def guess(self, transcript: Transcript) -> KeyGuess:
        """Measure the kept photons in the bases that are now public; then guess."""
        if self._memory:
            _, reply = self.public(transcript)
            for train, block, record in zip(self._memory, reply.blocks, self._records, strict=True):
                record["bit"] = self.observe(train, x=unpack(block.x_axis, len(train)))
            self._memory = []
        return super().guess(transcript)

    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """A kept photon tells the bit with certainty."""
        return columns["bit"], np.where(columns["held"], 1.0, 0.5)
