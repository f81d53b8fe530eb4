"""Nearest-neighbour mixing (NNM): each update is replaced by the mean of its n - f nearest ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.distances import SMALL, squared_distances
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.order import has_numba, mean_of_ranks
from qflsec.defenses.robust.order_network import LARGEST
from qflsec.defenses.robust.rows import Array, Rows, Updates, like
from qflsec.federation import RoundUpdates

__all__ = ["NearestNeighbourMixing", "nearest_neighbour_mixing"]

_COLUMNS = 64
"""The kernels take so many columns at once."""
_LONG = 64.0
"""A row of so many times the usual squared length is not summed with others and taken away again."""
_CLOSE = 1e-8
"""Squared distances by products may be off by a smaller part."""
_BLOCK = 1024
"""So many products are added in the rows' own precision, and such sums in double precision."""


def nearest_neighbour_mixing(updates: Updates, *, f: int) -> Updates:
    """Replace each row by the mean of its n - f nearest rows, itself among them.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.

    Returns:
        A mixed row for each finite one. Of rows at the same distance the earlier ones count as nearer.

    Shapes:
        updates: ``(n, d)``; returns: ``(n', d)``, n' the number of finite rows

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``2 f >= n`` of the finite rows.

    Source:
        Allouah et al., AISTATS 2023, arXiv:2302.01772 (NNM).
    """
    rows = Rows.of(updates, f)
    rows.need("nnm", minority(rows.n), "2f < n")
    if rows.f == 0:
        both = np.broadcast_to(rows.values.mean(axis=0, dtype=np.float64), rows.values.shape)
        return like(updates, both)
    count = rows.n - rows.f
    quick = _quickly(rows, count)
    if quick is not None:
        return like(updates, quick)
    near = _nearest(rows.values, squared_distances(rows.values), count)
    return like(updates, _means(near, rows, count))


def _quickly(rows: Rows, count: int) -> npt.NDArray[Any] | None:
    """The same by kernels, with the distances of one product in the rows' own precision.

    A product says of most pairs whether they are near: its error is bounded, and what the bound leaves open is measured by differences.

    Returns:
        None where rows are few or many, so much is left open that all distances are quicker, or one that is far counts as near.
    """
    values, squares = rows.values, rows.squares
    n, d = values.shape
    if squares is None or n * n * d <= SMALL or not 4 <= n <= LARGEST or d < _COLUMNS or not has_numba():
        return None
    from qflsec.defenses.robust import mixing_kernel  # numba takes its time to load

    middle, numbers = float(np.partition(squares, n // 2)[n // 2]), np.finfo(values.dtype)
    if middle == 0.0 or not float(squares.max()) < float(numbers.max) / 64:
        return None
    values = np.ascontiguousarray(values)
    # after at most 1,024 sums by the usual bound, and some for rows that were centred and for what is rounded after the product
    part = 1.05 * min(d, _BLOCK) * float(numbers.eps) + 2.0**-20
    least = 8.0 * d * float(numbers.smallest_normal)
    between = mixing_kernel.bounds(_products(values, squares, middle), part, least, 1.0 / middle)
    near = mixing_kernel.choose(values, between, mean_of_ranks(between, count - 1, count), count, n * n // 3)
    return None if near is None else mixing_kernel.mix(values, near, count, squares, _LONG * middle)


def _products(values: npt.NDArray[Any], squares: npt.NDArray[Any], middle: float) -> npt.NDArray[Any]:
    """All scalar products, of centred rows where a part that they have in common would hide their differences."""
    n, d = values.shape
    usual = squares <= 4.0 * middle  # not those that a liar sends from afar
    centre = (usual / np.count_nonzero(usual)).astype(values.dtype) @ values
    if 4.0 * float(centre @ centre) > middle:
        values = values - centre
    if d <= _BLOCK:
        return np.asarray(values @ values.T)
    found = np.zeros((n, n))
    for start in range(0, d, _BLOCK):
        part = values[:, start : start + _BLOCK]
        found += part @ part.T
    return found


def _means(near: npt.NDArray[np.bool_], rows: Rows, count: int) -> npt.NDArray[Any]:
    """The means of chosen rows, by a product with zeros and ones: gathering them would copy n * n * d numbers.

    A sum of so few rows in their own precision is off by less than its last digits; only one that overflows needs more.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = near.astype(rows.values.dtype) @ rows.values
    if not np.isfinite(sums).all():
        return np.asarray((near / count) @ rows.wide)
    sums /= count
    return np.asarray(sums)


def _nearest(values: npt.NDArray[Any], squares: Array, count: int) -> npt.NDArray[np.bool_]:
    """For each row, its ``count`` nearest rows."""
    n, d = values.shape
    bound = np.partition(squares, count - 1, axis=1)[:, count - 1 : count]
    near: npt.NDArray[Any] = squares <= bound
    # by products equal distances are no longer equal: those around the bound are formed by differences
    with np.errstate(invalid="ignore"):
        close = np.abs(squares - bound) <= (_CLOSE * bound if n * n * d > SMALL else 0.0)
    for row in np.flatnonzero((close.sum(axis=1) > 1) | (near.sum(axis=1) > count)):
        apart, others = squares[row].copy(), np.flatnonzero(close[row])
        with np.errstate(over="ignore"):
            steps = values[others].astype(np.float64) - values[row]
            apart[others] = np.einsum("ij,ij->i", steps, steps)
        near[row] = False
        near[row, np.argsort(apart, kind="stable")[:count]] = (
            True  # of several at the bound those that come first
        )
    return near


@register("layer", "nnm")
@dataclass(frozen=True, kw_only=True)
class NearestNeighbourMixing(RobustFilter):
    """Each update is replaced by the mean of its n - f nearest ones, in front of a rule."""

    card = DefenseCard(
        name="nnm",
        idea="The server replaces each update by the mean of its n - f nearest ones before its rule.",
        source=Source(
            paper="Allouah, Farhadkhani, Guerraoui, Gupta, Pinot, Stephan: Fixing by mixing: a recipe for optimal "
            "Byzantine ML under heterogeneity, AISTATS 2023, arXiv:2302.01772",
            year=2023,
            where="nearest-neighbour mixing",
        ),
        claim="With 2f < n a rule with a bound kappa has 8f / (n - f) times (kappa + 1) behind it.",
        assumption="none",
        hides="nothing",
        does_not=("It does not help a mean, which has no bound.",),
        cost="all pairs of distances and one product of matrices; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",), proved=True)

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The mixed updates."""
        f = min(batch.f, minority(len(batch.ids)))
        return batch.with_updates(nearest_neighbour_mixing(batch.updates, f=f))

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def kappa(self, n: int, f: int, inner: float | None) -> float | None:
        """8 f / (n - f) (kappa + 1)."""
        return None if inner is None else 8.0 * f / (n - f) * (inner + 1.0)
