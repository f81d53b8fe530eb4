"""Order statistics of the columns of a round's updates, by a sorting network on many columns at once.

A column has as many numbers as there are clients: few, so that sorting one after the other wastes a processor's vectors. A network
is a fixed list of comparisons, and each one of them is a minimum and a maximum of whole rows (Batcher 1968). What is sorted, and in
double precision the order of every sum, is that of NumPy's sort, so that results are the same to the last bit without numba. A mean of
single precision asks only for the numbers that belong between two places: their sum in double precision is exact in any order unless
they differ by a factor of 2^24, which then may move the last bit of the double, and next to never that of the single.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.defenses.robust.order_network import LARGEST
from qflsec.defenses.robust.rows import Array, Rows, Updates, like

__all__ = ["has_numba", "mean_of_places", "mean_of_ranks", "sorted_rows"]

_FEW = 4096
"""Below so many numbers NumPy sorts before the kernel would be loaded."""
_COLUMNS = 64
"""The kernel takes so many columns at once."""


def mean_of_places(updates: Updates, f: int, places: Callable[[Rows], tuple[int, int]]) -> Updates:
    """The mean of the values of each column at some places in order of size, for a rule.

    The kernel reads every number once anyway, and sees in passing whether all are finite: most updates are checked by it alone.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        places: The first place and the one after the last, of finite rows; it refuses an ``f`` for which there is none.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``f`` is no number of clients, or ``places`` refuses it.
    """
    rows = Rows.unchecked(updates, f)
    if _by_network(rows.values) and 2 * rows.f < rows.n:
        found = _quick_mean(rows.values, *places(rows))
        if found is not None:
            return like(updates, found)
    rows = Rows.of(updates, f)
    return like(updates, mean_of_ranks(rows.values, *places(rows)))


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
        found = _quick_mean(values, low, high)
        if found is not None:
            return found
    kept = np.sort(values, axis=0)[low:high]
    with np.errstate(over="ignore"):
        plain: Array = kept.mean(axis=0, dtype=np.float64)
    if np.isfinite(plain).all():
        return plain
    # parts are added: the sum of huge numbers overflows
    return np.asarray((kept.astype(np.float64) / len(kept)).sum(axis=0))


def _quick_mean(values: npt.NDArray[Any], low: int, high: int) -> Array | None:
    """None where a value or a sum is not finite."""
    found = np.empty(values.shape[1])
    return found if _run(values, low, high, found, mean=True) else None


def _by_network(values: npt.NDArray[Any]) -> bool:
    n, d = values.shape
    return values.size >= _FEW and n <= LARGEST and d >= _COLUMNS and has_numba()


@lru_cache(maxsize=1)
def has_numba() -> bool:
    """Whether kernels can be compiled."""
    return find_spec("numba") is not None


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., bool]:
    from qflsec.defenses.robust.order_kernel import order  # numba takes its time to load

    return order


def _run(values: npt.NDArray[Any], low: int, high: int, out: Array, *, mean: bool) -> bool:
    return _kernel()(np.ascontiguousarray(values), low, high, out, mean=mean)
