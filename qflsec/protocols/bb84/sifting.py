"""Sifting: what is announced after the last pulse, and what each party keeps of its own record.

The number of pulses is fixed beforehand and everything is announced at the end. Announcing bases round by
round until enough bits have gathered ("iterative sifting") is insecure: Pfister, Lütkenhaus, Wehner, Coles,
New J. Phys. 18, 053001 (2016).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from qflsec.protocols.bb84.bits import Bits, PositionSet, n_bytes, pack, unpack
from qflsec.protocols.bb84.transcript import Transcript, TranscriptError

__all__ = [
    "AliceSifted",
    "Announcement",
    "BlockAnnouncement",
    "BlockReply",
    "BobSifted",
    "PublicSift",
    "Reply",
    "SiftedCounts",
    "SiftedStrings",
    "public_sift",
    "read_public",
    "sift",
]

_ANNOUNCEMENT = struct.Struct(">QIIB")
_BLOCK = struct.Struct(">I?")
_REPLY = struct.Struct(">BI")


@dataclass(frozen=True, kw_only=True)
class SiftedCounts:
    """What everybody knows after sifting.

    Attributes:
        n_pulses: Pulses sent.
        n_detected: Pulses that Bob detected.
        key: Detections for which both chose X, by Alice's intensity.
        test: Detections for which both chose Z, by Alice's intensity.
        sent_key: Pulses that Alice sent in X, by intensity.
        sent_test: Pulses that Alice sent in Z, by intensity.
        alarm: Whether Bob's detector monitor saw bright light.
    """

    n_pulses: int
    n_detected: int
    key: tuple[int, ...]
    test: tuple[int, ...]
    sent_key: tuple[int, ...]
    sent_test: tuple[int, ...]
    alarm: bool = False

    @property
    def n_key(self) -> int:
        """All raw-key bits (basis X)."""
        return sum(self.key)

    @property
    def n_test(self) -> int:
        """All test bits (basis Z)."""
        return sum(self.test)

    @property
    def n_mismatched(self) -> int:
        """Detections for which the bases differed."""
        return self.n_detected - self.n_key - self.n_test


@dataclass(frozen=True, kw_only=True)
class _Sifted:
    """One party's half of the sifted strings, in the order of the pulses.

    Attributes:
        key_bits: Its bits of the raw key (basis X), 0/1.
        key_intensity: Alice's intensity of each of them, announced.
        test_bits: Its bits in the test basis Z, 0/1.
        test_intensity: Alice's intensity of each of them, announced.
        counts: The public counts.
        seeded: Whether this party's secrets can be reproduced, and so protect nothing.
    """

    key_bits: Bits = field(repr=False)
    key_intensity: Bits = field(repr=False)
    test_bits: Bits = field(repr=False)
    test_intensity: Bits = field(repr=False)
    counts: SiftedCounts
    seeded: bool


@dataclass(frozen=True, kw_only=True)
class AliceSifted(_Sifted):
    """What Alice holds after sifting."""


@dataclass(frozen=True, kw_only=True)
class BobSifted(_Sifted):
    """What Bob holds after sifting."""


@dataclass(frozen=True, kw_only=True)
class BlockAnnouncement:
    """Bob's announcement for one block: which pulses he detected, and in which bases."""

    positions: PositionSet
    x_axis: Bits


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Bob's announcement, made after the last pulse.

    Attributes:
        n_pulses: Pulses received.
        block_size: Pulses of every block but the last.
        alarm: Whether his detector monitor saw bright light.
        blocks: One entry for each block.
    """

    n_pulses: int
    block_size: int
    alarm: bool
    blocks: tuple[BlockAnnouncement, ...]

    def to_bytes(self) -> bytes:
        """The message ``"detections"``."""
        parts = [_ANNOUNCEMENT.pack(self.n_pulses, self.block_size, len(self.blocks), self.alarm)]
        for block in self.blocks:
            parts += [_BLOCK.pack(block.positions.count, block.positions.bitmap), block.positions.data]
            parts.append(block.x_axis.tobytes())
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes, *, n_pulses: int, block_size: int) -> Announcement:
        """Read Bob's message.

        Args:
            data: The message.
            n_pulses: The number of pulses agreed.
            block_size: The block size agreed.

        Raises:
            TranscriptError: It cannot be read, or speaks of another run.
        """
        reader = _Reader(data)
        said = reader.fields(_ANNOUNCEMENT)
        if said[:3] != (n_pulses, block_size, -(-n_pulses // block_size)) or said[3] > 1:
            raise TranscriptError(
                "the announcement is of another run", got=said, expected=(n_pulses, block_size)
            )
        blocks = []
        for start in range(0, n_pulses, block_size):
            n = min(block_size, n_pulses - start)
            count, bitmap = reader.fields(_BLOCK)
            raw = reader.bytes(n_bytes(n) if bitmap else 4 * count)
            positions = PositionSet(n=n, count=count, bitmap=bool(bitmap), data=raw)
            blocks.append(BlockAnnouncement(positions=positions, x_axis=reader.bits(count)))
        reader.end()
        return cls(n_pulses=n_pulses, block_size=block_size, alarm=bool(said[3]), blocks=tuple(blocks))


@dataclass(frozen=True, kw_only=True)
class BlockReply:
    """Alice's reply for one block: her bases, and her intensities where the bases agree.

    Attributes:
        x_axis: Her basis of each detected pulse, packed.
        intensity: The number of her intensity of each detection with equal bases.
    """

    x_axis: Bits
    intensity: Bits


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Alice's reply.

    Attributes:
        sent_key: Pulses that she sent in X, by intensity.
        sent_test: Pulses that she sent in Z, by intensity.
        blocks: One entry for each block.
    """

    sent_key: tuple[int, ...]
    sent_test: tuple[int, ...]
    blocks: tuple[BlockReply, ...]

    def to_bytes(self) -> bytes:
        """The message ``"bases"``."""
        sent = (*self.sent_key, *self.sent_test)
        parts = [_REPLY.pack(len(self.sent_key), len(self.blocks)), struct.pack(f">{len(sent)}Q", *sent)]
        for block in self.blocks:
            parts.append(block.x_axis.tobytes())
            parts += [
                pack((block.intensity >> np.uint8(bit)) & np.uint8(1)).tobytes()
                for bit in _planes(len(self.sent_key))
            ]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes, announcement: Announcement, *, n_intensities: int) -> Reply:
        """Read Alice's message, the reply to ``announcement``.

        Raises:
            TranscriptError: It cannot be read, or speaks of another run.
        """
        reader = _Reader(data)
        said = reader.fields(_REPLY)
        if said != (n_intensities, len(announcement.blocks)):
            raise TranscriptError("the reply is of another run", got=said, expected=(n_intensities, "blocks"))
        sent = reader.fields(struct.Struct(f">{2 * n_intensities}Q"))
        blocks = []
        for heard in announcement.blocks:
            count = heard.positions.count
            x_axis = reader.bits(count)
            matched = count - int(np.bitwise_count(x_axis ^ heard.x_axis).sum())
            intensity = np.zeros(matched, dtype=np.uint8)
            for bit in _planes(n_intensities):
                intensity |= unpack(reader.bits(matched), matched) << bit
            if intensity.size and intensity.max() >= n_intensities:
                raise TranscriptError(
                    "unknown intensity", got=intensity.max(), expected=f"below {n_intensities}"
                )
            blocks.append(BlockReply(x_axis=x_axis, intensity=intensity))
        reader.end()
        return cls(sent_key=sent[:n_intensities], sent_test=sent[n_intensities:], blocks=tuple(blocks))


@dataclass(frozen=True, kw_only=True)
class PublicSift:
    """What the two announcements say of one block, which anybody can compute.

    Attributes:
        key: Which of the block's detections are raw-key bits, ascending.
        test: Which of them are test bits, ascending.
        key_intensity: Intensity numbers of the raw-key bits.
        test_intensity: Intensity numbers of the test bits.
    """

    key: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    key_intensity: Bits
    test_intensity: Bits


def public_sift(announcement: Announcement, reply: Reply) -> Iterator[PublicSift]:
    """Work out each block's sifted detections from what was said in public."""
    several = len(reply.sent_key) > 1
    for heard, answer in zip(announcement.blocks, reply.blocks, strict=True):
        n = heard.positions.count
        equal = ~(heard.x_axis ^ answer.x_axis)
        key = _where(equal & heard.x_axis, n)
        test = _where(equal & ~heard.x_axis, n)
        intensity = np.zeros(n if several else 0, dtype=np.uint8)
        if several:
            intensity[_where(equal, n)] = answer.intensity
        yield PublicSift(
            key=key,
            test=test,
            key_intensity=intensity[key] if several else np.zeros(key.size, dtype=np.uint8),
            test_intensity=intensity[test] if several else np.zeros(test.size, dtype=np.uint8),
        )


def _where(packed: Bits, n: int) -> npt.NDArray[np.int64]:
    return np.flatnonzero(unpack(packed, n))


def read_public(
    transcript: Transcript, *, n_pulses: int, block_size: int, n_intensities: int
) -> tuple[Announcement, Reply]:
    """The two announcements in a transcript.

    Raises:
        TranscriptError: They are missing or cannot be read.
    """
    said = transcript.last("detections").payload
    announcement = Announcement.from_bytes(said, n_pulses=n_pulses, block_size=block_size)
    reply = Reply.from_bytes(transcript.last("bases").payload, announcement, n_intensities=n_intensities)
    return announcement, reply


class SiftedStrings(TypedDict):
    """The fields of one party's sifted strings but for ``seeded``."""

    key_bits: Bits
    key_intensity: Bits
    test_bits: Bits
    test_intensity: Bits
    counts: SiftedCounts


def sift(bits: Iterable[Bits], announcement: Announcement, reply: Reply) -> SiftedStrings:
    """Cut one party's detected bits down to its sifted strings.

    Args:
        bits: The party's own bits of the detected pulses, block by block, 0/1.
        announcement: What Bob announced.
        reply: What Alice replied.
    """
    parts: tuple[list[Bits], list[Bits], list[Bits], list[Bits]] = ([], [], [], [])
    for own, block in zip(bits, public_sift(announcement, reply), strict=True):
        chosen = (own[block.key], block.key_intensity, own[block.test], block.test_intensity)
        for part, new in zip(parts, chosen, strict=True):
            part.append(new)
    key, key_intensity, test, test_intensity = (np.concatenate(part) for part in parts)
    n = len(reply.sent_key)
    counts = SiftedCounts(
        n_pulses=announcement.n_pulses,
        n_detected=sum(block.positions.count for block in announcement.blocks),
        key=tuple(int(c) for c in np.bincount(key_intensity, minlength=n)),
        test=tuple(int(c) for c in np.bincount(test_intensity, minlength=n)),
        sent_key=reply.sent_key,
        sent_test=reply.sent_test,
        alarm=announcement.alarm,
    )
    return SiftedStrings(
        key_bits=key,
        key_intensity=key_intensity,
        test_bits=test,
        test_intensity=test_intensity,
        counts=counts,
    )


def _planes(n_levels: int) -> range:
    """The bit planes that a number below ``n_levels`` takes."""
    return range((n_levels - 1).bit_length())


class _Reader:
    """Reads fields off a message, and refuses one that is too short or too long."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, n: int) -> bytes:
        piece = self._data[self._at : self._at + n]
        if len(piece) != n:
            raise TranscriptError("the message is cut short", got=f"{len(self._data)} bytes")
        self._at += n
        return piece

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.bytes(form.size))

    def bits(self, n: int) -> Bits:
        packed = np.frombuffer(self.bytes(n_bytes(n)), dtype=np.uint8)
        if n % 8 and packed[-1] & (0xFF >> (n % 8)):
            raise TranscriptError("the message has bits after its last")
        return packed

    def end(self) -> None:
        if self._at != len(self._data):
            raise TranscriptError(
                "the message is too long", got=f"{len(self._data)} bytes", expected=self._at
            )
