"""The sorting network's kernel: compiled by numba at the first call, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.simd import (
    BYTES,
    ahead,
    exchanges,
    plain,
    pointer,
    read,
    splat,
    store,
    total,
    widened,
    write,
)
from qflsec.defenses.robust.order_network import PATTERNS, PLACES, SINGLE, places_of, planned
from qflsec.defenses.robust.rows import Array

__all__ = ["columns", "order"]

_VECTORS = 4
"""Of a row of a block: a hundred such rows fit the first cache."""
_sort, _merge, *_windows = map(exchanges, PATTERNS)
_window_16, _window_32, _window_64, _window_128, _end_16, _end_32, _end_64 = _windows
_single = exchanges([(0, 1)])


def columns(dtype: np.dtype[Any]) -> int:
    """How many columns a block has, and so how many the kernel needs at least."""
    return _VECTORS * BYTES // dtype.itemsize


def order(values: npt.NDArray[Any], low: int, high: int, out: Array, *, mean: bool) -> bool:
    """Sort the columns block by block, and write them, or the mean of the places ``low`` to ``high - 1``.

    Args:
        values: The rows, C-contiguous; not changed.
        low: The first place of the mean.
        high: The place after its last.
        out: Where the result goes, C-contiguous.
        mean: Whether the mean is wanted and not the rows.

    Returns:
        Whether all values are finite, and the sums of the mean too. If not, ``out`` holds nothing of use.

    Shapes:
        values: ``(n, d)``, d at least :func:`columns`; out: ``(d,)`` or ``(n, d)``, double
    """
    n, width = len(values), columns(values.dtype)
    # sums of single precision in double are exact in any order, unless numbers differ by a factor of 2^24 or more
    plan = planned(n, low, high, ordered=values.dtype == np.float64) if mean else planned(n, 0, n)
    block = np.empty(places_of(n) * width + width // _VECTORS, dtype=values.dtype)
    return bool(_order(values, plan, low, high, mean, out, block))


@njit(**INNER)
def _compare(rows, kind, first, apart, width, lanes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901
    """One piece of the plan on all columns of a block."""
    step = apart * width
    for j in range(first * width, (first + 1) * width, lanes):
        at = ahead(rows, j)
        if kind == SINGLE:
            _single(at, step, at, step)
        elif kind == 0:
            _sort(at, width, at, width)
        elif kind == 1:
            _merge(at, step, at, step)
        elif kind == 2:
            _window_16(at, width, at, width)
        elif kind == 3:
            _window_32(at, width, at, width)
        elif kind == 4:
            _window_64(at, width, at, width)
        elif kind == 5:
            _window_128(at, width, at, width)
        elif kind == 6:
            _end_16(at, width, at, width)
        elif kind == 7:
            _end_32(at, width, at, width)
        else:
            _end_64(at, width, at, width)


def _run(values, plan, low, high, mean, out, block):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901, PLR0912
    n, d = values.shape
    lanes = BYTES // plain(block.itemsize)
    width = plain(_VECTORS) * lanes
    source, target = pointer(values), pointer(out)
    # rows begin at a cache line, which NumPy's memory need not
    rows = ahead(pointer(block), -block.ctypes.data % BYTES // block.itemsize)
    for i in range(n * width, len(block) - lanes, lanes):
        # a place that is not there holds more than any number
        store(rows, i, splat(values.dtype.type(np.inf)))
    whole = 0  # so many pieces sort whole rows, which they take from the source
    while whole < n // PLACES and whole < len(plan) and plan[whole, 0] == 0:
        whole += 1
    # nothing times a number is nothing, but for infinity and what is no number
    nothing = splat(values.dtype.type(0.0))
    spoiled, spoiled_sums = nothing, splat(0.0)
    for begin in range(0, d, width):
        start = min(begin, d - width)  # the last block goes over columns of the one before once more
        for i in range(0, PLACES * whole, PLACES):
            for j in range(0, width, lanes):
                found = _sort(ahead(source, i * d + start + j), d, ahead(rows, i * width + j), width)
                spoiled = spoiled + found
        for i in range(PLACES * whole, n):
            for j in range(0, width, lanes):
                number = read(source, i * d + start + j)
                store(rows, i * width + j, number)
                spoiled = spoiled + number * nothing
        for piece in range(whole, len(plan)):
            _compare(rows, plan[piece, 0], plan[piece, 1], plan[piece, 2], width, lanes)
        if mean:
            for j in range(0, width, 16):
                left, right = splat(0.0), splat(0.0)
                for i in range(low, high):
                    left = left + widened(rows, i * width + j)
                    right = right + widened(rows, i * width + j + 8)
                write(target, start + j, left)
                write(target, start + j + 8, right)
                spoiled_sums = spoiled_sums + (left + right) * splat(0.0)
        else:
            for i in range(n):
                for j in range(0, width, 8):
                    write(target, i * d + start + j, widened(rows, i * width + j))
    if mean:
        out /= high - low
    return total(spoiled) == 0 and total(spoiled_sums) == 0


_order: Any = kept(_run)
