"""The sorting network's kernel: compiled by numba at the first call, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.simd import (
    BYTES,
    ahead,
    exchanges,
    plain,
    pointer,
    read,
    splat,
    store,
    widened,
    write,
)
from qflsec.defenses.robust.order_network import PATTERNS, PLACES, SINGLE, planned
from qflsec.defenses.robust.rows import Array

__all__ = ["columns", "order"]

_VECTORS = 4
"""Of a row of a block: a hundred such rows fit the first cache."""
_sort, _merge, _window_16, _window_32, _window_64, _window_128 = map(exchanges, PATTERNS)
_single = exchanges([(0, 1)])


def columns(dtype: np.dtype[Any]) -> int:
    """How many columns a block has, and so how many the kernel needs at least."""
    return _VECTORS * BYTES // dtype.itemsize


def order(values: npt.NDArray[Any], low: int, high: int, out: Array, *, mean: bool) -> None:
    """Sort the columns block by block, and write them, or the mean of the places ``low`` to ``high - 1``.

    Args:
        values: The rows, C-contiguous.
        low: The first place of the mean.
        high: The place after its last.
        out: Where the result goes, C-contiguous.
        mean: Whether the mean is wanted and not the rows.

    Shapes:
        values: ``(n, d)``, d at least :func:`columns`; out: ``(1 or n, d)``, double
    """
    n, width = len(values), columns(values.dtype)
    kinds, places = planned(n, low, high) if mean else planned(n, 0, n)
    # memory of torch begins at a cache line, which NumPy's need not
    block = torch.empty((n + 1) * width * values.dtype.itemsize, dtype=torch.uint8).numpy().view(values.dtype)
    _order(values, kinds, places, low, high, mean, out, block)


def _run(values, kinds, places, low, high, mean, out, block):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, C901, PLR0912
    n, d = values.shape
    width = len(block) // (n + 1)
    lanes = width // plain(_VECTORS)
    source, rows, target, listed = pointer(values), pointer(block), pointer(out), pointer(places)
    block[n * width :] = np.inf  # a place that is not there holds more than any number
    for begin in range(0, d, width):
        start = min(begin, d - width)  # the last block goes over columns of the one before once more
        for i in range(n):
            for j in range(0, width, lanes):
                store(rows, i * width + j, read(source, i * d + start + j))
        for piece in range(len(kinds)):
            kind, at = kinds[piece], ahead(listed, piece * PLACES)
            for j in range(0, width, lanes):
                if kind == SINGLE:
                    _single(rows, at, width, j)
                elif kind == 0:
                    _sort(rows, at, width, j)
                elif kind == 1:
                    _merge(rows, at, width, j)
                elif kind == 2:
                    _window_16(rows, at, width, j)
                elif kind == 3:
                    _window_32(rows, at, width, j)
                elif kind == 4:
                    _window_64(rows, at, width, j)
                else:
                    _window_128(rows, at, width, j)
        if mean:
            for j in range(0, width, 16):
                first, second = splat(0.0), splat(0.0)
                for i in range(low, high):
                    first = first + widened(rows, i * width + j)
                    second = second + widened(rows, i * width + j + 8)
                write(target, start + j, first)
                write(target, start + j + 8, second)
        else:
            for i in range(n):
                for j in range(0, width, 8):
                    write(target, i * d + start + j, widened(rows, i * width + j))
    if mean:
        out /= high - low


_order: Any = kept(_run)
