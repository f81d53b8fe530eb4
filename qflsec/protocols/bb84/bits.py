"""Packed bits: eight to a byte, most significant first, with zeros after the last bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import Secrets
from qflsec.protocols.bb84.transcript import TranscriptError

__all__ = [
    "Bits",
    "PositionSet",
    "draw_biased",
    "draw_bits",
    "draw_levels",
    "n_bytes",
    "pack",
    "stated_probability",
    "take",
    "unpack",
]

Bits = npt.NDArray[np.uint8]
_SCALE = 1 << 32
# Below this share of set positions a byte-wise gather is cheaper than unpacking the whole plane.
_SPARSE = 1 / 16


def n_bytes(n: int) -> int:
    """The bytes that ``n`` packed bits take."""
    return (n + 7) // 8


def pack(bits: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> Bits:
    """Pack an array of 0/1."""
    return np.packbits(bits)


def unpack(packed: Bits, n: int) -> Bits:
    """The first ``n`` bits of a packed plane, as 0/1."""
    return np.unpackbits(packed, count=n)


def take(packed: Bits, positions: npt.NDArray[np.int64] | None, n: int) -> Bits:
    """The bits at ``positions`` of a plane of ``n`` bits, as 0/1; all of them for ``None``."""
    if positions is None:
        return unpack(packed, n)
    if positions.size > n * _SPARSE:
        return unpack(packed, n)[positions]
    shift = (7 - (positions & 7)).astype(np.uint8)
    bits: Bits = (packed[positions >> 3] >> shift) & np.uint8(1)
    return bits


def stated_probability(probability: float) -> float:
    """The probability that :func:`draw_biased` realises exactly: a multiple of 2^-32."""
    return round(probability * _SCALE) / _SCALE


def draw_bits(secrets: Secrets, n: int) -> Bits:
    """``n`` fair secret bits, packed."""
    packed = np.frombuffer(secrets.draw(n_bytes(n)), dtype=np.uint8)
    if n % 8:
        packed = packed.copy()
        packed[-1] &= (0xFF00 >> (n % 8)) & 0xFF
    return packed


def draw_biased(secrets: Secrets, n: int, probability: float) -> Bits:
    """``n`` secret bits that are 1 with the stated probability, packed.

    Args:
        secrets: The drawing party's source.
        n: How many.
        probability: Of a 1; :func:`stated_probability` gives the value realised.
    """
    threshold = round(probability * _SCALE)
    if threshold == _SCALE // 2:
        return draw_bits(secrets, n)
    return pack(draw_levels(secrets, n, (_SCALE - threshold,)))


def draw_levels(secrets: Secrets, n: int, thresholds: tuple[int, ...]) -> Bits:
    """``n`` secret values, each the number of thresholds that a uniform 32-bit integer reaches.

    Only the first byte of each integer is drawn, and the other three for the few values that it leaves
    undecided, so that the distribution is exact at about one byte a value.

    Args:
        secrets: The drawing party's source.
        n: How many.
        thresholds: Ascending, each in [0, 2^32].
    """
    first = np.frombuffer(secrets.draw(n), dtype=np.uint8)
    levels = np.zeros(n, dtype=np.uint8)
    undecided = np.zeros(n, dtype=np.bool_)
    for threshold in thresholds:
        high, low = divmod(threshold, 1 << 24)
        if high > 0xFF:
            continue
        if low:
            levels += first > high
            undecided |= first == high
        else:
            levels += first >= high
    ties = np.flatnonzero(undecided)
    if ties.size:
        rest = np.frombuffer(secrets.draw(4 * ties.size), dtype="<u4") & 0xFFFFFF
        values = (first[ties].astype(np.uint32) << 24) | rest
        levels[ties] = sum(((values >= t).astype(np.uint8) for t in thresholds if t < _SCALE), np.uint8(0))
    return levels


@dataclass(frozen=True, kw_only=True)
class PositionSet:
    """A set of pulse numbers within one block, in whichever of two encodings is shorter.

    Attributes:
        n: The pulses of the block.
        count: The positions in the set.
        bitmap: Whether ``data`` is one bit for each pulse; else one 32-bit number for each position.
        data: The encoding.
    """

    n: int
    count: int
    bitmap: bool
    data: bytes

    @classmethod
    def of(cls, positions: npt.NDArray[np.integer], n: int) -> PositionSet:
        """Encode ascending, distinct positions below ``n``."""
        count = int(positions.size)
        if 4 * count <= n_bytes(n):
            return cls(n=n, count=count, bitmap=False, data=positions.astype("<u4").tobytes())
        plane = np.zeros(n, dtype=np.bool_)
        plane[positions] = True
        return cls(n=n, count=count, bitmap=True, data=pack(plane).tobytes())

    def array(self) -> npt.NDArray[np.int64]:
        """The positions, ascending.

        Raises:
            TranscriptError: The data is not an encoding of ``count`` ascending positions below ``n``.
        """
        raw = np.frombuffer(self.data, dtype=np.uint8)
        positions: npt.NDArray[np.int64]
        if self.bitmap and raw.size == n_bytes(self.n):
            positions = np.flatnonzero(np.unpackbits(raw))
        elif not self.bitmap and raw.size == 4 * self.count:
            positions = np.frombuffer(self.data, dtype="<u4").astype(np.int64)
        else:
            raise TranscriptError("a set of positions has the wrong length", got=f"{raw.size} bytes")
        ordered = positions.size < 2 or bool(np.all(positions[1:] > positions[:-1]))
        if positions.size != self.count or not ordered or (positions.size and positions[-1] >= self.n):
            raise TranscriptError("a set of positions is not ascending and within its block")
        return positions
