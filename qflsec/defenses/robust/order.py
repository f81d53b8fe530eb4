"""Order statistics of the columns of a round's updates, by a sorting network on many columns at once.

A column has as many numbers as there are clients: few, so that sorting one after the other wastes a processor's vectors. A network
is a fixed list of comparisons, and each one of them is a minimum and a maximum of whole rows (Batcher 1968). What is sorted, and the
order of every sum, is that of NumPy's sort, so that results are the same to the last bit without numba.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.defenses.robust.rows import Array

__all__ = ["mean_of_ranks", "sorted_rows", "sorting_network"]

_FEW = 4096
"""Below so many numbers NumPy sorts before the kernel would be loaded."""
_ROWS = 256
"""Above so many rows the comparisons of a network outgrow those of a sort."""


def sorted_rows(values: npt.NDArray[Any]) -> Array:
    """Each column in order of size.

    Args:
        values: The rows, finite.

    Shapes:
        values: ``(n, d)``; returns the same, double
    """
    if not _by_network(values):
        return np.sort(values, axis=0).astype(np.float64)
    found = np.empty(values.shape)
    _run(values, 0, len(values), found, mean=False)
    return found


def mean_of_ranks(values: npt.NDArray[Any], low: int, high: int) -> Array:
    """The mean of the values of each column at the places ``low`` to ``high - 1`` in order of size.

    Args:
        values: The rows, finite.
        low: The first place, from 0.
        high: The place after the last; above ``low``.

    Shapes:
        values: ``(n, d)``; returns: ``(d,)``, double
    """
    if _by_network(values):
        found = np.empty((1, values.shape[1]))
        _run(values, low, high, found, mean=True)
        if np.isfinite(found).all():
            return np.asarray(found[0])
    kept = np.sort(values, axis=0)[low:high]
    with np.errstate(over="ignore"):
        plain: Array = kept.mean(axis=0, dtype=np.float64)
    if np.isfinite(plain).all():
        return plain
    # parts are added: the sum of huge numbers overflows
    return np.asarray((kept.astype(np.float64) / len(kept)).sum(axis=0))


@lru_cache(maxsize=64)
def sorting_network(n: int, low: int, high: int) -> npt.NDArray[np.int64]:
    """Pairs of places to compare, the smaller number to the first, so that those from ``low`` to ``high`` are in order.

    Comparisons that only order numbers below or above these places are left out.

    Args:
        n: How many numbers.
        low: The first place.
        high: The place after the last.

    Shapes:
        returns: ``(comparisons, 2)``

    Source:
        Batcher: Sorting networks and their applications, AFIPS 1968 (odd-even merge).
    """
    return np.array(_needed(_batcher(n), n, low, high), dtype=np.int64).reshape(-1, 2)


def _batcher(n: int) -> list[tuple[int, int]]:
    """Batcher's odd-even merge sort for any n: runs of length p are merged in steps of k."""
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k:
            for start in range(k % p, n - k, 2 * k):
                run = range(start, min(start + k, n - k))
                pairs += [(i, i + k) for i in run if i // (2 * p) == (i + k) // (2 * p)]
            k //= 2
        p *= 2
    return pairs


def _needed(pairs: list[tuple[int, int]], n: int, low: int, high: int) -> list[tuple[int, int]]:
    """The comparisons without which a place between the bounds could hold another number, found from the last to the first."""
    side = [-1 if place < low else 0 if place < high else 1 for place in range(n)]
    compared, needed = [False] * n, []
    for first, second in reversed(pairs):
        both = side[first] * side[second] > 0  # nothing is asked of the order on one side
        if compared[first] or compared[second] or not both:
            compared[first] = compared[second] = True
            needed.append((first, second))
    return needed[::-1]


def _by_network(values: npt.NDArray[Any]) -> bool:
    return values.size >= _FEW and len(values) <= _ROWS and _has_numba()


@lru_cache(maxsize=1)
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _run(values: npt.NDArray[Any], low: int, high: int, out: Array, *, mean: bool) -> None:
    from qflsec.defenses.robust.order_kernel import order  # numba takes its time to load

    bounds = (0, len(values)) if not mean else (low, high)
    order(np.ascontiguousarray(values), sorting_network(len(values), *bounds), low, high, mean, out)
