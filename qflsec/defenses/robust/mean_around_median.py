"""Mean around the median: the mean of each coordinate's values nearest to its median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.order import sorted_rows
from qflsec.defenses.robust.rows import Array, Rows, Updates, like

__all__ = ["MeanAroundMedian", "mean_around_median", "nearest_to_median"]


def nearest_to_median(values: npt.NDArray[Any], count: int) -> Array:
    """The mean of the ``count`` values of each coordinate that lie nearest to its median.

    In order of size these values are neighbours. A window of this length moves up while the value above it lies nearer than
    its lowest one; of two values that are equally near, the lower one counts.

    Shapes:
        values: ``(n, d)``; returns: ``(d,)``
    """
    n = len(values)
    ordered = sorted_rows(values)
    middle = ordered[(n - 1) // 2 : n // 2 + 1]
    median = (middle / len(middle)).sum(axis=0)
    first = (median - ordered[: n - count] > ordered[count:] - median).sum(axis=0)
    window = np.take_along_axis(ordered, first[None, :] + np.arange(count)[:, None], axis=0)
    return np.asarray(window.mean(axis=0))


def mean_around_median(updates: Updates, *, f: int) -> Updates:
    """The mean of the n - f values of each coordinate that lie nearest to its median.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``2 f >= n`` of the finite rows.

    Source:
        Xie, Koyejo, Gupta, arXiv:1802.10116 (2018), definition of "mean around median".
    """
    rows = Rows.of(updates, f)
    rows.need("mean-around-median", minority(rows.n), "2f < n")
    return like(updates, nearest_to_median(rows.values, rows.n - rows.f))


@register("layer", "mean-around-median")
@dataclass(frozen=True, kw_only=True)
class MeanAroundMedian(RobustRule):
    """The mean of the n - f values of each coordinate that lie nearest to its median."""

    card = DefenseCard(
        name="mean-around-median",
        idea="The server averages the n - f values of each coordinate that lie nearest to its median.",
        source=Source(
            paper="Xie, Koyejo, Gupta: Generalized Byzantine-tolerant SGD, arXiv:1802.10116",
            year=2018,
            where="mean around median",
        ),
        claim="While fewer than half of the clients are corrupted, each value that counts lies no farther from the "
        "median than the honest ones do.",
        assumption="none",
        hides="nothing",
        does_not=("It does not hold when more clients are corrupted than declared.",),
        cost="one sort for each coordinate; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",))

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The mean around the median."""
        return mean_around_median(updates, f=f)

    def defined(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)
