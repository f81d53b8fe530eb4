"""The sorting network's kernel: compiled by numba at the first call, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.pointers import ahead, pointer
from qflsec.circuits.compiled.simd import BYTES, exchanges, read, splat, store, total, widened, write
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


@intrinsic  # type: ignore[untyped-decorator]
def _lanes(typing: Any, pointer: Any) -> Any:  # noqa: ANN401, ARG001 - numba's types
    """The numbers of a vector, as a constant of the compiler, so that distances between rows are parts of instructions."""

    def generate(_context: Any, _builder: Any, _: Any, _args: Any) -> Any:  # noqa: ANN401
        return ir.Constant(ir.IntType(64), BYTES * 8 // pointer.dtype.bitwidth)

    return types.intp(pointer), generate


@njit(**INNER)
def _compare(rows, kind, first, apart):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901, PLR0912
    """One piece of the plan on all columns of a block: the kind is asked for once, and not for every vector."""
    lanes = _lanes(rows)
    width = _VECTORS * lanes
    step = apart * width
    at = ahead(rows, first * width)
    if kind == SINGLE:
        for j in range(0, width, lanes):
            _single(ahead(at, j), step, ahead(at, j), step)
    elif kind == 0:
        for j in range(0, width, lanes):
            _sort(ahead(at, j), width, ahead(at, j), width)
    elif kind == 1:
        for j in range(0, width, lanes):
            _merge(ahead(at, j), step, ahead(at, j), step)
    elif kind == 2:
        for j in range(0, width, lanes):
            _window_16(ahead(at, j), width, ahead(at, j), width)
    elif kind == 3:
        for j in range(0, width, lanes):
            _window_32(ahead(at, j), width, ahead(at, j), width)
    elif kind == 4:
        for j in range(0, width, lanes):
            _window_64(ahead(at, j), width, ahead(at, j), width)
    elif kind == 5:
        for j in range(0, width, lanes):
            _window_128(ahead(at, j), width, ahead(at, j), width)
    elif kind == 6:
        for j in range(0, width, lanes):
            _end_16(ahead(at, j), width, ahead(at, j), width)
    elif kind == 7:
        for j in range(0, width, lanes):
            _end_32(ahead(at, j), width, ahead(at, j), width)
    else:
        for j in range(0, width, lanes):
            _end_64(ahead(at, j), width, ahead(at, j), width)


@njit(**INNER)
def _sums(rows, count, width, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Sums of the first rows, of 32 columns at once: each number waits for the one before in its own column alone.

    Returns zero times the sums: no number where one is not finite.
    """
    spoiled = splat(0.0)
    for j in range(0, width, 32):
        a, b, c, e = splat(0.0), splat(0.0), splat(0.0), splat(0.0)
        at = ahead(rows, j)
        for _ in range(count):
            a = a + widened(at, 0)
            b = b + widened(at, 8)
            c = c + widened(at, 16)
            e = e + widened(at, 24)
            at = ahead(at, width)
        write(target, j, a)
        write(target, j + 8, b)
        write(target, j + 16, c)
        write(target, j + 24, e)
        spoiled = spoiled + ((a + b) + (c + e)) * splat(0.0)
    return spoiled


def _run(values, plan, low, high, mean, out, block):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901, PLR0912
    n, d = values.shape
    source, target = pointer(values), pointer(out)
    lanes = _lanes(source)
    width = _VECTORS * lanes
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
            _compare(rows, plan[piece, 0], plan[piece, 1], plan[piece, 2])
        if mean:
            spoiled_sums = spoiled_sums + _sums(
                ahead(rows, low * width), high - low, width, ahead(target, start)
            )
        else:
            for i in range(n):
                for j in range(0, width, 8):
                    write(target, i * d + start + j, widened(rows, i * width + j))
    if mean:
        out /= high - low
    return total(spoiled) == 0 and total(spoiled_sums) == 0


_order: Any = kept(_run)
