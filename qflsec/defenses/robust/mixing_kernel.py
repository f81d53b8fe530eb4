"""Kernels of nearest-neighbour mixing: which rows are near, and their means; compiled by numba at the first call, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.pointers import ahead, plain, pointer
from qflsec.circuits.compiled.simd import BYTES, fma, load, read, splat, store, total, widened, write

__all__ = ["COLUMNS", "bounds", "choose", "mix"]

_VECTORS = 4
"""Of a row of a block: a hundred such rows fit the first cache."""
COLUMNS = _VECTORS * BYTES // 4
"""The kernel of means takes so many columns at once, or half as many in double precision."""
_LANES = BYTES // 8
_FAR = 1e30
"""What is farther, in units of the scale, is as far: a square must not overflow."""


def _bounds(gram, part, least, scale, between):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n, lengths = len(gram), np.diag(gram).copy()
    part, least, scale = gram.dtype.type(part), gram.dtype.type(least), gram.dtype.type(scale)
    two, far = gram.dtype.type(2.0), gram.dtype.type(_FAR)
    for i in range(n):
        for j in range(n):
            sums = lengths[i] + lengths[j]
            apart, error = sums - two * gram[i, j], part * sums + least
            low, high = (apart - error) * scale, (apart + error) * scale
            between[i, j] = min(far, low)
            between[i, n + j] = min(far, high)
        between[i, i] = between[i, n + i] = -far  # a row is the nearest one to itself


def _choose(values, between, limits, count, most, near):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n, d = values.shape
    rows = pointer(values)
    where, apart = np.empty(n, np.int64), np.empty(n)
    for i in range(n):
        low, high, below, above = between[i, :n], between[i, n:], limits[i], limits[n + i]
        sure, possible = 0, 0
        for j in range(n):
            sure += high[j] < below
            near[i, j] = low[j] <= above
            possible += near[i, j]
        if possible == count:
            continue
        most -= possible - sure
        if most < 0:
            return False
        found = 0
        for j in range(n):
            if near[i, j] and not high[j] < below:
                near[i, j] = 0
                sums, end = splat(0.0), d - d % _LANES
                for k in range(0, end, _LANES):
                    step = widened(rows, i * d + k) - widened(rows, j * d + k)
                    sums = fma(step, step, sums)
                apart[found] = total(sums)
                for k in range(end, d):
                    apart[found] += (np.float64(values[i, k]) - values[j, k]) ** 2
                where[found] = j
                found += 1
        for _ in range(count - sure):
            first = np.argmin(apart[:found])
            near[i, where[first]] = 1
            apart[first] = np.inf
    return True


@njit(**INNER)
def _apart(near, common, width, lists, added, left):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """For each row what comes to the common rows, from the front of its list, and what goes, from the back."""
    n = len(near)
    for i in range(n):
        more, less = 0, 0
        for j in range(n):  # without a branch: what does not belong there is written over
            lists[i, more] = j * width
            more += near[i, j] > common[j]
            lists[i, n - less] = j * width
            less += near[i, j] < common[j]
        added[i], left[i] = more, less


def _mix(values, near, count, lengths, longest, block, lists, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901
    n, d = values.shape
    lanes = BYTES // plain(values.itemsize)
    width = plain(_VECTORS) * lanes
    source, target = pointer(values), pointer(out)
    rows = ahead(pointer(block), -block.ctypes.data % BYTES // values.itemsize)
    common, added, left = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        for j in range(n):
            common[j] += near[i, j]
    for j in range(n):
        common[j] = 2 * common[j] > n
        if common[j] and not lengths[j] <= longest:
            return False
    _apart(near, common, width, lists, added, left)
    nothing, share = splat(values.dtype.type(0.0)), splat(values.dtype.type(1.0 / count))
    for begin in range(0, d, width):
        start = min(begin, d - width)  # the last block goes over columns of the one before once more
        a, b, c, e = nothing, nothing, nothing, nothing
        for i in range(n):
            at, here = i * width, i * d + start
            p, q = read(source, here), read(source, here + lanes)
            r, s = read(source, here + 2 * lanes), read(source, here + 3 * lanes)
            store(rows, at, p)
            store(rows, at + lanes, q)
            store(rows, at + 2 * lanes, r)
            store(rows, at + 3 * lanes, s)
            if common[i]:
                a, b, c, e = a + p, b + q, c + r, e + s
        for i in range(n):
            p, q, r, s = a, b, c, e
            for j in range(added[i]):
                at = lists[i, j]
                p, q = p + load(rows, at), q + load(rows, at + lanes)
                r, s = r + load(rows, at + 2 * lanes), s + load(rows, at + 3 * lanes)
            for j in range(n - left[i] + 1, n + 1):
                at = lists[i, j]
                p, q = p - load(rows, at), q - load(rows, at + lanes)
                r, s = r - load(rows, at + 2 * lanes), s - load(rows, at + 3 * lanes)
            here = i * d + start
            write(target, here, p * share)
            write(target, here + lanes, q * share)
            write(target, here + 2 * lanes, r * share)
            write(target, here + 3 * lanes, s * share)
    return True


_bounded, _chosen, _mixed = kept(_bounds), kept(_choose), kept(_mix)


def bounds(gram: npt.NDArray[Any], part: float, least: float, scale: float) -> npt.NDArray[np.float32]:
    """Bounds of the squared distances between rows, from their scalar products.

    Args:
        gram: The scalar products.
        part: How far a squared distance may be off, as a part of the two squared lengths.
        least: How far it may be off in any case.
        scale: What distances are multiplied with, so that they fit single precision.

    Returns:
        Lower bounds, and to their right upper ones.

    Shapes:
        gram: ``(n, n)``; returns: ``(n, 2 n)``
    """
    n = len(gram)
    between = np.empty((n, 2 * n), np.float32)
    _bounded(gram, part, least, scale, between)
    return between


def choose(
    values: npt.NDArray[Any],
    between: npt.NDArray[np.float32],
    limits: npt.NDArray[Any],
    count: int,
    most: int,
) -> npt.NDArray[np.uint8] | None:
    """For each row its ``count`` nearest rows; only distances on which it depends are measured.

    Args:
        values: The rows.
        between: Bounds of their squared distances.
        limits: For each row the smallest distance that the last near row may have, and then the largest ones.
        count: How many are near.
        most: How many distances may be measured.

    Returns:
        One for each row that is near; None where more distances would have to be measured.

    Shapes:
        values: ``(n, d)``; between: ``(n, 2 n)``; limits: ``(2 n,)``; returns: ``(n, n)``
    """
    near = np.empty((len(values), len(values)), np.uint8)
    return near if _chosen(values, between, limits, count, most, near) else None


def mix(
    values: npt.NDArray[Any],
    near: npt.NDArray[np.uint8],
    count: int,
    lengths: npt.NDArray[Any],
    longest: float,
) -> npt.NDArray[Any] | None:
    """The mean of the near rows for each row.

    Most rows are near to most of the others. Their sum is formed once, and for each row only what it does not share is added or
    taken away.

    Args:
        values: The rows, C-contiguous, :data:`COLUMNS` columns at least.
        near: One for each row that is near.
        count: How many these are.
        lengths: A measure of each row's length.
        longest: A longer row must not be in the common sum: taking it away would cost digits.

    Returns:
        The means in the rows' own precision; None where a common row is too long.

    Shapes:
        values: ``(n, d)``; near: ``(n, n)``; lengths: ``(n,)``; returns: ``(n, d)``
    """
    n = len(values)
    out, block = np.empty_like(values), np.empty((n + 1) * COLUMNS, values.dtype)
    lists = np.empty((n, n + 1), np.int32)
    return out if _mixed(values, near, count, lengths, longest, block, lists, out) else None
