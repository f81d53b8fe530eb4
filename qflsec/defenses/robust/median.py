"""Coordinate-wise median: the server's rule takes the median of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.guarantee import Robustness, minority, share
from qflsec.defenses.robust.order import mean_of_places
from qflsec.defenses.robust.rows import Updates

__all__ = ["Median", "coordinate_median"]


def coordinate_median(updates: Updates, *, f: int = 0) -> Updates:
    """The median of each coordinate; the midpoint of the middle two for an even number of rows.

    ``torch.median`` returns the lower of the middle two instead, which moves the result.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``f`` is no number of clients.

    Source:
        Yin et al., ICML 2018, arXiv:1803.01498, definition 1.
    """
    return mean_of_places(updates, f, lambda rows: ((rows.n - 1) // 2, rows.n // 2 + 1))


@register("layer", "median")
@dataclass(frozen=True, kw_only=True)
class Median(RobustRule):
    """The median of each coordinate of the updates; the numbers of examples do not count."""

    card = DefenseCard(
        name="median",
        idea="The server takes the median of each coordinate instead of the mean.",
        source=Source(
            paper="Yin, Chen, Ramchandran, Bartlett: Byzantine-robust distributed learning: towards optimal "
            "statistical rates, ICML 2018, arXiv:1803.01498",
            year=2018,
            where="Algorithm 1, option I, and definition 1",
        ),
        claim="While fewer than half of the clients are corrupted, each coordinate of the step lies between "
        "two honest values.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not weight clients by their examples.",
            "It does not keep up with the mean where clients' data differ.",
        ),
        cost="one sort for each coordinate; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=(), proved=True)

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The coordinate-wise median, whatever ``f`` is."""
        return coordinate_median(updates, f=f)

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + r)^2 with r = f / (n - 2f): the bound of the geometric median, coordinate by coordinate."""
        return 4.0 * (1.0 + share(n, f)) ** 2
