"""A sorting network in pieces of sixteen numbers, which a processor holds in its registers.

A network is a fixed list of comparisons that puts the smaller of two numbers first (Batcher 1968). One after the other, each of them
reads and writes two numbers. Here those of sixteen places that need no other place in between are one piece, which reads and writes
each number once. The places of a piece are equally far apart, so that nothing has to look them up: sixteen numbers are sorted, two sorted runs of eight are merged at any distance from each other, and what a merge
does among near places is cut into windows. The comparisons that cross the windows stay single.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["LARGEST", "PATTERNS", "PLACES", "SINGLE", "places_of", "planned", "sorting_network"]

PLACES = 16
"""The numbers of a piece."""
LARGEST = 256
"""The most numbers of a column: beyond, the comparisons of a network outgrow those of a sort."""

Pair = tuple[int, int]
Piece = tuple[int, int, int]
"""A kind, its first place, and how far its places are from each other."""


def _layer(p: int, k: int, n: int) -> list[Pair]:
    """The comparisons at the distance k where runs of length p are merged."""
    starts = range(k % p, n - k, 2 * k)
    pairs = [(i, i + k) for start in starts for i in range(start, min(start + k, n - k))]
    # a pair of runs of which one is empty is in order
    return [(i, j) for i, j in pairs if i // (2 * p) == j // (2 * p) and i - i % (2 * p) + p < n]


def _halves(k: int) -> list[int]:
    """k, k / 2, and so on to 1."""
    return [k >> step for step in range(k.bit_length())]


def _batcher(n: int) -> list[Pair]:
    """Batcher's odd-even merge sort for any n: runs of length p are merged in steps of k."""
    lengths = [1 << step for step in range((n - 1).bit_length())]
    return [pair for p in lengths for k in _halves(p) for pair in _layer(p, k, n)]


def _windows(p: int) -> tuple[list[Pair], list[Pair]]:
    """The last steps of a merge of two runs of length p, by windows of sixteen places from the place p / 16 on.

    Returns:
        The comparisons in a window, by the places in it, and those that come after all windows, as they cross a border or need one
        that does.
    """
    crossed = set[int]()
    inside: dict[int, list[Pair]] = {}
    later: list[Pair] = []
    for pair in (pair for k in _halves(p // PLACES) for pair in _layer(p, k, 2 * p)):
        (low, a), (high, b) = (divmod(place - p // PLACES, PLACES) for place in pair)
        if low != high or not crossed.isdisjoint(pair):
            crossed.update(pair)
            later.append(pair)
        else:
            inside.setdefault(low, []).append((a, b))
    return inside[0], later


_MERGED = (16, 32, 64, 128)
"""The lengths of the runs that are merged after sixteen numbers are in order."""
PATTERNS: tuple[list[Pair], ...] = (
    _batcher(PLACES),
    [pair for k in _halves(8) for pair in _layer(8, k, PLACES)],
    *(_windows(p)[0] for p in _MERGED),
    *([pair for pair in _windows(p)[0] if max(pair) < PLACES - p // PLACES] for p in _MERGED[:-1]),
)
"""The comparisons of each kind of piece: sorting sixteen numbers, merging two times eight, and the windows of a merge, of which the
last one ends where the merge does: for the longest nothing is left of it."""
SINGLE = len(PATTERNS)
"""The kind of a piece that is one comparison, of two places."""


def _pieces(n: int) -> Iterable[Piece]:
    """Batcher's network; places from n on are there for nothing."""
    for start in range(0, n, PLACES):
        yield 0, start, 1
    for kind, p in enumerate(_MERGED, start=2):
        step = p // 8
        for base in range(0, n - p, 2 * p):
            for start in range(base, base + step):
                yield 1, start, step
            end = min(base + 2 * p, n)
            for start in range(base + p // PLACES, end, PLACES):
                if start + PLACES <= base + 2 * p:
                    yield kind, start, 1
                elif p < _MERGED[-1]:
                    yield kind + len(_MERGED), start, 1
            for a, b in _windows(p)[1]:
                if base + b < end:
                    yield SINGLE, base + a, b - a


def _pairs(piece: Piece, n: int) -> list[Pair]:
    """The comparisons of a piece among the first n places."""
    kind, start, step = piece
    if kind == 0:  # not the large pattern's, of which nothing may be left out
        pattern = _batcher(min(PLACES, n - start))
    else:
        pattern = [(0, 1)] if kind == SINGLE else PATTERNS[kind]
    # the larger of two places of a piece is the one that may be missing
    return [(start + step * a, start + step * b) for a, b in pattern if start + step * b < n]


def _needed(pairs: list[Pair], n: int, low: int, high: int, *, ordered: bool) -> list[bool]:
    """Whether a place between the bounds could hold another number without a comparison, found from the last to the first.

    Without an order between the bounds: whether another set of numbers could be there.
    """
    side = [-1 if place < low else 0 if place < high else 1 for place in range(n)]
    compared, needed = [False] * n, [False] * len(pairs)
    for at in range(len(pairs) - 1, -1, -1):
        first, second = pairs[at]
        # nothing is asked of the order on one side
        free = side[first] == side[second] and (side[first] != 0 or not ordered)
        if compared[first] or compared[second] or not free:
            compared[first] = compared[second] = needed[at] = True
    return needed


def sorting_network(n: int, low: int, high: int) -> list[Pair]:
    """Pairs of places to compare, the smaller number to the first, so that those from ``low`` to ``high`` are in order.

    Comparisons that only order numbers below or above these places are left out.

    Args:
        n: How many numbers, to :data:`LARGEST`.
        low: The first place.
        high: The place after the last.

    Source:
        Batcher: Sorting networks and their applications, AFIPS 1968 (odd-even merge).
    """
    pairs = [pair for piece in _pieces(n) for pair in _pairs(piece, n)]
    return [
        pair for pair, wanted in zip(pairs, _needed(pairs, n, low, high, ordered=True), strict=True) if wanted
    ]


@lru_cache(maxsize=64)
def planned(n: int, low: int, high: int, *, ordered: bool = True) -> npt.NDArray[np.int64]:
    """The same network in pieces, as numbers for the kernel.

    A piece of which little is needed is taken apart; one of which much is makes comparisons that are not, which do no harm. Pieces may
    reach over places from n on, to :func:`places_of`, which have to hold more than any number.

    Args:
        n: How many numbers, to :data:`LARGEST`.
        low: The first place.
        high: The place after the last.
        ordered: Whether the numbers from ``low`` to ``high`` have to be in order, or only those that belong there.

    Returns:
        For each piece its kind, its first place, and how far its places are apart.

    Shapes:
        returns: ``(pieces, 3)``
    """
    pieces = list(_pieces(n))
    split = [_pairs(piece, n) for piece in pieces]
    needed = iter(_needed([pair for pairs in split for pair in pairs], n, low, high, ordered=ordered))
    plan: list[Piece] = []
    for piece, pairs in zip(pieces, split, strict=True):
        wanted = [pair for pair in pairs if next(needed)]
        if piece[0] == SINGLE or 3 * len(wanted) < len(PATTERNS[piece[0]]):
            plan += [(SINGLE, a, b - a) for a, b in wanted]
        else:
            plan.append(piece)
    return np.array(plan, dtype=np.int64).reshape(-1, 3)


def places_of(n: int) -> int:
    """How many places the pieces of a network of n numbers reach over.

    Args:
        n: How many numbers.
    """
    return 1 << max(n - 1, PLACES - 1).bit_length()
