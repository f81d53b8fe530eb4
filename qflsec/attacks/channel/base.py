"""What an attack on the quantum channel is: a configuration that opens an adversary on the line."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qflsec.attacks.base import Attack
from qflsec.base import numpy_stream
from qflsec.protocols.bb84.bits import Bits, pack
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import PERFECT_DETECTORS
from qflsec.protocols.bb84.eavesdropper import Eavesdropper
from qflsec.protocols.bb84.sifting import Announcement, BobSifted, Reply, public_sift, read_public
from qflsec.protocols.bb84.signal import Detectors, Nature, PulseTrain, measure
from qflsec.protocols.bb84.tampering import Mask, divert, emit_photons, insert
from qflsec.protocols.bb84.transcript import Transcript

__all__ = ["ChannelAttack", "ChannelEve", "KeyGuess"]


@dataclass(frozen=True, kw_only=True)
class KeyGuess:
    """What an adversary makes of the raw key after hearing the public discussion.

    Attributes:
        bits: A guess of each raw-key bit.
        confidence: The probability, in the adversary's own eyes, that it is right; 1/2 is no knowledge.

    Shapes:
        bits: (n_key,); confidence: (n_key,)
    """

    bits: Bits = field(repr=False)
    confidence: npt.NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ChannelAttack(Attack):
    """An attack on the line between Alice and Bob."""

    @abstractmethod
    def open(self, config: QuantumConfig, *, seed: int) -> ChannelEve:
        """The adversary of one run.

        Args:
            config: What Alice and Bob agreed in public.
            seed: The run's seed, for the adversary's own choices.
        """


class ChannelEve(Eavesdropper):
    """An adversary that keeps a record of each block and reads it once the bases are public.

    Args:
        config: What Alice and Bob agreed in public.
        seed: The run's seed.
    """

    def __init__(self, config: QuantumConfig, *, seed: int) -> None:
        self.config = config
        self.rng = numpy_stream(seed, "bb84", "eve", type(self).__name__)
        self.nature = Nature(seed, "eve", type(self).__name__)
        self._records: list[dict[str, npt.NDArray[np.uint8]]] = []

    def record(self, **columns: npt.NDArray[np.uint8]) -> None:
        """Write down what was learned of each pulse of a block."""
        self._records.append(columns)

    def settle(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Keep the record of the detected pulses only."""
        self._records[-1] = {name: column[positions] for name, column in self._records[-1].items()}
        return positions

    def public(self, transcript: Transcript) -> tuple[Announcement, Reply]:
        """What Bob and Alice announced."""
        config = self.config
        return read_public(
            transcript,
            n_pulses=config.n_pulses,
            block_size=config.block_size,
            n_intensities=config.source.n_intensities,
        )

    def guess(self, transcript: Transcript) -> KeyGuess:
        """Guess the raw key, after the public discussion."""
        bits, confidence = [np.zeros(0, dtype=np.uint8)], [np.zeros(0)]
        for record, sift in zip(self._records, public_sift(*self.public(transcript)), strict=True):
            guessed, sure = self.read({name: column[sift.key] for name, column in record.items()})
            bits.append(guessed)
            confidence.append(sure)
        return KeyGuess(bits=np.concatenate(bits), confidence=np.concatenate(confidence))

    def partner(self, bob: BobSifted) -> BobSifted:
        """The half that Alice's post-processing meets: Bob's, unless somebody answers in his name."""
        return bob

    @abstractmethod
    def read(self, columns: dict[str, npt.NDArray[np.uint8]]) -> tuple[Bits, npt.NDArray[np.float64]]:
        """Guess the bits of pulses that both sent and measured in X, from what was recorded of them."""

    def random_bits(self, n: int) -> Bits:
        """Fair bits of the adversary's own, 0/1."""
        return self.rng.integers(0, 2, n, dtype=np.uint8)

    def resend(
        self, train: PulseTrain, where: Mask, *, photons: Bits, x: Bits, half: Bits
    ) -> tuple[Bits, PulseTrain]:
        """Measure some counted pulses with perfect detectors, and send what was seen in their places.

        As many photons are sent as were counted, so that the gains of all intensities stay as they were.

        Args:
            train: The pulses, counted.
            where: Which of them.
            photons: How many photons each has.
            x: Basis of each, 0/1.
            half: Whether the basis is turned by a further eighth of a turn, 0/1.

        Returns:
            The outcomes, 0/1, and the train.
        """
        aside, through = divert(train, where)
        outcome = self.observe(aside, x=x, half=half)
        sent = np.where(where, photons, 0)
        fresh = emit_photons(self.nature, photons=sent, sign=pack(outcome), x=pack(x), half=pack(half))
        return outcome, insert(through, fresh, where)

    def observe(self, train: PulseTrain, *, x: Bits, half: Bits | None = None) -> Bits:
        """Measure every pulse with perfect detectors; a fair bit where none or both click."""
        turned = None if half is None else pack(half)
        clicks = measure(train, Detectors(PERFECT_DETECTORS), x=pack(x), half=turned)
        outcome = self.random_bits(clicks.n)
        single = clicks.pattern != 3
        outcome[clicks.positions[single]] = clicks.pattern[single] >> np.uint8(1)
        return outcome
