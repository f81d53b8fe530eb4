"""Nearest-neighbour mixing (NNM): each update is replaced by the mean of its n - f nearest ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, Rows, Updates, like
from qflsec.federation import RoundUpdates

__all__ = ["NearestNeighbourMixing", "nearest_neighbour_mixing"]


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
    near = _nearest(squared_distances(rows.values), count)
    return like(updates, _means(near, rows, count))


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


def _nearest(squares: Array, count: int) -> npt.NDArray[np.bool_]:
    """For each row, its ``count`` nearest rows."""
    bound = np.partition(squares, count - 1, axis=1)[:, count - 1 : count]
    near: npt.NDArray[Any] = squares <= bound
    for row in np.flatnonzero(near.sum(axis=1) > count):  # several at the bound: those that come first
        near[row] = False
        near[row, np.argsort(squares[row], kind="stable")[:count]] = True
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
