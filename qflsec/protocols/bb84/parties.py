"""Alice and Bob: two objects, each with only what it would hold.

Their secrets come from their own :class:`~qflsec.base.Secrets`, by default from the operating system, and
they meet only through light and through messages. What happens to the light on its way is nature's
randomness, which belongs to neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import ProtocolAbort, Secrets
from qflsec.protocols.bb84.bits import (
    Bits,
    PositionSet,
    draw_biased,
    draw_bits,
    draw_levels,
    pack,
    take,
    unpack,
)
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.sifting import (
    AliceSifted,
    Announcement,
    BlockAnnouncement,
    BlockReply,
    BobSifted,
    Reply,
    sift,
)
from qflsec.protocols.bb84.signal import Detectors, Nature, PulseTrain, emit, measure
from qflsec.protocols.bb84.source import WeakCoherentSource
from qflsec.protocols.stages import OutOfOrder, Staged, stage

__all__ = ["Alice", "Bob"]


@dataclass(frozen=True, kw_only=True, repr=False)
class _Sent:
    """Alice's record of one block: of all its ``n`` pulses, or of those in ``kept``."""

    n: int
    bits: Bits
    x: Bits
    levels: Bits | None
    kept: PositionSet | None = None

    @property
    def count(self) -> int:
        """The pulses on record."""
        return self.n if self.kept is None else self.kept.count

    def only(self, positions: npt.NDArray[np.int64] | None) -> _Sent:
        """The record of some of the pulses on record, counted among them; all of them for ``None``."""
        if positions is None:
            return self
        return _Sent(
            n=self.n,
            bits=pack(take(self.bits, positions, self.count)),
            x=pack(take(self.x, positions, self.count)),
            levels=None if self.levels is None else self.levels[positions],
            kept=PositionSet.of(positions, self.n) if self.kept is None else None,
        )

    def find(self, named: PositionSet) -> npt.NDArray[np.int64] | None:
        """Where the pulses that Bob names are on record; ``None`` if they are the whole record.

        Raises:
            ProtocolAbort: One of them is not on record.
        """
        if named == self.kept:
            return None
        wanted = named.array()
        if self.kept is None:
            return wanted
        held = self.kept.array()
        at = np.searchsorted(held, wanted)
        if np.any(at >= held.size) or np.any(held[at] != wanted):
            raise ProtocolAbort("Bob announces detections of pulses whose record was let go")
        return at


class Alice(Staged):
    """The sender.

    Args:
        config: What was agreed.
        secrets: Where her bits, bases and intensities come from.
        nature: Where the outcomes of measuring her light will come from.
    """

    def __init__(self, *, config: QuantumConfig, secrets: Secrets, nature: Nature) -> None:
        self._config = config
        self._secrets = secrets
        self._nature = nature
        self._blocks: list[_Sent] = []
        n = config.source.n_intensities
        self._sent_x = [0] * n
        self._sent_z = [0] * n
        self._sifted: AliceSifted | None = None

    @stage(opens=True, until="reply")
    def prepare(self, n: int) -> PulseTrain:
        """Choose bits, bases and intensities in secret for ``n`` pulses, and send them."""
        source = self._config.source
        bits = draw_bits(self._secrets, n)
        x = draw_biased(self._secrets, n, self._config.basis_probability)
        levels = None
        if isinstance(source, WeakCoherentSource) and source.n_intensities > 1:
            levels = draw_levels(self._secrets, n, source.thresholds)
        self._blocks.append(_Sent(n=n, bits=bits, x=x, levels=levels))
        self._count(n, x, levels)
        code = source.code if levels is None else levels
        return emit(
            self._nature, n=n, sign=bits, x=x, code=code, means=source.means, isolation_db=source.isolation_db
        )

    def _count(self, n: int, x: Bits, levels: Bits | None) -> None:
        for level in range(len(self._sent_x)):
            plane = None if levels is None else pack(levels == level)
            total = n if plane is None else _ones(plane)
            in_x = _ones(x if plane is None else x & plane)
            self._sent_x[level] += in_x
            self._sent_z[level] += total - in_x

    @stage("prepare")
    def settle(self, positions: npt.NDArray[np.int64]) -> None:
        """Let go the record of those pulses of the last block that Bob will not name.

        This only frees memory. Nothing is announced before the last pulse, and whether Alice forgets a
        pulse now or when she hears Bob's announcement changes no message and no key.
        """
        self._blocks[-1] = self._blocks[-1].only(positions)

    @stage()
    def reply(self, heard: bytes) -> bytes:
        """Hear Bob's announcement; sift; answer with her bases.

        Raises:
            TranscriptError: The announcement cannot be read.
            ProtocolAbort: It names pulses that she has no record of, or pulses are still to be sent.
        """
        config = self._config
        sent = sum(record.n for record in self._blocks)
        if sent != config.n_pulses:
            raise OutOfOrder("Alice answers after the last pulse", got=sent, expected=config.n_pulses)
        announcement = Announcement.from_bytes(heard, n_pulses=config.n_pulses, block_size=config.block_size)
        named = [
            record.only(record.find(block.positions))
            for record, block in zip(self._blocks, announcement.blocks, strict=True)
        ]
        self._blocks = []
        replies = []
        for record, block in zip(named, announcement.blocks, strict=True):
            count = block.positions.count
            equal = np.flatnonzero(unpack(~(record.x ^ block.x_axis), count))
            levels = np.zeros(equal.size, dtype=np.uint8) if record.levels is None else record.levels[equal]
            replies.append(BlockReply(x_axis=record.x, intensity=levels))
        reply = Reply(sent_key=tuple(self._sent_x), sent_test=tuple(self._sent_z), blocks=tuple(replies))
        own = (unpack(r.bits, b.positions.count) for r, b in zip(named, announcement.blocks, strict=True))
        self._sifted = AliceSifted(**sift(own, announcement, reply), seeded=self._secrets.seeded)
        return reply.to_bytes()

    @property
    def sifted(self) -> AliceSifted:
        """Her half of the sifted strings.

        Raises:
            ProtocolAbort: She has not heard Bob's announcement yet.
        """
        if self._sifted is None:
            raise ProtocolAbort("Alice has not heard what Bob detected")
        return self._sifted


class Bob(Staged):
    """The receiver.

    Args:
        config: What was agreed.
        secrets: Where his bases, his detector assignments and the bits of double clicks come from.
    """

    def __init__(self, *, config: QuantumConfig, secrets: Secrets) -> None:
        self._config = config
        self._secrets = secrets
        self._detectors = Detectors(config.detector)
        self._bits: list[Bits] = []
        self._blocks: list[BlockAnnouncement] = []
        self._alarm = False

    @stage(opens=True, until="announce")
    def receive(self, train: PulseTrain) -> npt.NDArray[np.int64]:
        """Measure one block in bases chosen in secret; returns which of its pulses he detected."""
        n, detector = len(train), self._config.detector
        x = draw_biased(self._secrets, n, self._config.basis_probability)
        swap = draw_bits(self._secrets, n) if detector.random_assignment else None
        clicks = measure(train, self._detectors, x=x, swap=swap)
        bits = clicks.pattern >> np.uint8(1)
        double = np.flatnonzero(clicks.pattern == 3)
        bits[double] = unpack(draw_bits(self._secrets, double.size), double.size)
        if swap is not None:
            bits ^= take(swap, clicks.positions, n)
        self._bits.append(pack(bits))
        positions = PositionSet.of(clicks.positions, n)
        self._blocks.append(BlockAnnouncement(positions=positions, x_axis=pack(take(x, clicks.positions, n))))
        self._alarm |= detector.monitor and clicks.bright > 0
        return clicks.positions

    def _announcement(self) -> Announcement:
        config = self._config
        received = sum(block.positions.n for block in self._blocks)
        return Announcement(
            n_pulses=received, block_size=config.block_size, alarm=self._alarm, blocks=tuple(self._blocks)
        )

    @stage()
    def announce(self) -> bytes:
        """Say, after the last pulse, what he detected and in which bases.

        Raises:
            ProtocolAbort: Fewer pulses have come than were agreed.
        """
        announcement = self._announcement()
        if announcement.n_pulses != self._config.n_pulses:
            raise OutOfOrder(
                "the announcement comes after the last pulse",
                got=announcement.n_pulses,
                expected=self._config.n_pulses,
            )
        return announcement.to_bytes()

    @stage("announce")
    def sift(self, heard: bytes) -> BobSifted:
        """Hear Alice's bases, and sift.

        Raises:
            TranscriptError: Her message cannot be read.
        """
        announcement = self._announcement()
        reply = Reply.from_bytes(heard, announcement, n_intensities=self._config.source.n_intensities)
        own = (unpack(b, a.positions.count) for b, a in zip(self._bits, self._blocks, strict=True))
        return BobSifted(**sift(own, announcement, reply), seeded=self._secrets.seeded)


def _ones(packed: Bits) -> int:
    return int(np.bitwise_count(packed).sum())
