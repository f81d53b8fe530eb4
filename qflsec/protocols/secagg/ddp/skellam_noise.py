"""Skellam noise from secret bytes, by a table of probabilities in whole units of 2^-124.

The table is computed in fixed-point integers of 240 bits, so that what is drawn is Skellam up to a total
variation distance that :attr:`SkellamTable.distance` bounds, and no floating point decides a draw.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from qflsec.accounting.skellam import skellam_tail
from qflsec.base import Secrets

__all__ = ["LARGEST_VARIANCE", "SkellamTable", "draw_skellam", "sampling_distance"]

_HALF = 62
_UNITS = 2 * _HALF
_FIXED = 240
_TAIL = 2.0**-134
_LARGEST_PIECE = 10**8
LARGEST_VARIANCE = 10**10
"""Beyond it a draw is a sum of too many."""
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class SkellamTable:
    """The cumulative probabilities of the magnitude.

    Attributes:
        variance: A whole number.
        cumulative: Entry ``m`` is the probability of a magnitude up to ``m``, in units of 2^-124.
        leading: The leading 62 bits of each.
    """

    variance: int
    cumulative: tuple[int, ...] = field(repr=False)
    leading: npt.NDArray[np.int64] = field(repr=False)

    @property
    def distance(self) -> float:
        """A bound on the total variation distance of one draw: a unit for each entry, and the tail cut off."""
        return len(self.cumulative) * 2.0 ** (1 - _UNITS) + 4 * _TAIL

    def draw(self, secrets: Secrets, n: int) -> npt.NDArray[np.int64]:
        """Independent draws.

        Shapes:
            returns: ``(n,)``
        """
        words = np.frombuffer(secrets.draw(8 * n), dtype="<u8")
        first = (words >> np.uint64(2)).astype(np.int64)
        magnitudes = np.searchsorted(self.leading, first, side="right")
        # where the leading bits do not decide, which hardly ever happens, as many more bits do
        for i in np.flatnonzero(self.leading[np.maximum(magnitudes - 1, 0)] == first):
            more = int.from_bytes(secrets.draw(8), "little") >> 2
            magnitudes[i] = bisect_right(self.cumulative, (int(first[i]) << _HALF) + more)
        return np.where(words & np.uint64(1), -magnitudes, magnitudes).astype(np.int64)


def draw_skellam(secrets: Secrets, variance: int, n: int) -> npt.NDArray[np.int64]:
    """Independent Skellam draws; large variances as sums of smaller ones, which is exact.

    Shapes:
        returns: ``(n,)``
    """
    if variance == 0:
        return np.zeros(n, dtype=np.int64)
    total = np.zeros(n, dtype=np.int64)
    for piece in _pieces(variance):
        table = skellam_table(piece)
        for start in range(0, n, _CHUNK):
            part = total[start : start + _CHUNK]
            part += table.draw(secrets, part.size)
    return total


def sampling_distance(variance: int) -> float:
    """A bound on the total variation distance of one draw of :func:`draw_skellam`."""
    return sum(skellam_table(piece).distance for piece in _pieces(variance)) if variance else 0.0


def _pieces(variance: int) -> list[int]:
    n = -(-variance // _LARGEST_PIECE)
    return [variance // n + (1 if i < variance % n else 0) for i in range(n)]


@lru_cache(maxsize=16)
def skellam_table(variance: int) -> SkellamTable:
    """The table for a whole variance.

    Ratios of neighbouring Bessel functions follow a backward recurrence, which forgets where it started.

    Source:
        Amos, Mathematics of Computation 28 (1974), section 2: ``I_{k+1} / I_k`` from
        ``I_{k-1} - I_{k+1} = (2 k / x) I_k``; the probability of ``k`` is ``exp(-x) I_k(x)`` (Skellam 1946).
    """
    last = 1
    while skellam_tail(variance, last) > _TAIL:
        last *= 2
    low = last // 2
    while last - low > 1:
        middle = (low + last) // 2
        low, last = (low, middle) if skellam_tail(variance, middle) <= _TAIL else (middle, last)
    # log2(e) (start - last) last / variance bits of the start are forgotten on the way
    start = last + math.ceil(_FIXED * max(1.0, variance / last)) + 16
    one, square = 1 << _FIXED, 1 << (2 * _FIXED)
    step, ratio = 2 * one // variance, 0
    ratios = [0] * (start + 1)
    for k in range(start, 0, -1):
        ratio = square // (k * step + ratio)
        ratios[k - 1] = ratio
    weight, weights = one, []
    for k in range(last + 1):
        weights.append(weight if k == 0 else 2 * weight)
        weight = weight * ratios[k] >> _FIXED
    total = sum(weights)
    units = [(w << _UNITS) // total for w in weights]
    units[0] += (1 << _UNITS) - sum(units)
    cumulative = tuple(accumulate(units))
    leading = np.array([c >> _HALF for c in cumulative], dtype=np.int64)
    return SkellamTable(variance=variance, cumulative=cumulative, leading=leading)
