"""The sorting network's kernel: compiled by numba at the first call, and kept."""

from __future__ import annotations

from typing import Any

import numpy as np

from qflsec.circuits.compiled.cache import kept

__all__ = ["order"]

WIDTH = 64
"""Columns of a block: a hundred rows of them fit the first cache, and a number that is known makes the loop straight code."""


def _order(  # noqa: C901 - one loop, which numba compiles as one
    values: Any,  # noqa: ANN401 - numba compiles it for both precisions
    network: Any,  # noqa: ANN401
    low: int,
    high: int,
    mean: bool,
    out: Any,  # noqa: ANN401
) -> None:
    """Sort the columns block by block, and write them, or the mean of the places ``low`` to ``high - 1``.

    Args:
        values: The rows.
        network: Pairs of places.
        low: The first place of the mean.
        high: The place after its last.
        mean: Whether the mean is wanted and not the rows.
        out: Where the result goes.

    Shapes:
        values: ``(n, d)``; network: ``(comparisons, 2)``; out: ``(1 or n, d)``, double
    """
    n, d = values.shape
    block = np.empty((n, WIDTH), values.dtype)
    for start in range(0, d, WIDTH):
        size = min(WIDTH, d - start)
        for i in range(n):
            for j in range(size):
                block[i, j] = values[i, start + j]
        for c in range(network.shape[0]):
            above, below = block[network[c, 0]], block[network[c, 1]]
            for j in range(WIDTH):
                x, y = above[j], below[j]
                above[j] = min(y, x)
                below[j] = max(x, y)
        if mean:
            part = out[0, start : start + size]
            part[:] = 0.0
            for i in range(low, high):
                for j in range(size):
                    part[j] += block[i, j]
            part /= high - low
        else:
            for i in range(n):
                for j in range(size):
                    out[i, start + j] = block[i, j]


order: Any = kept(_order)
