"""Trimmed mean: the mean of each coordinate without its f smallest and f largest values."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.guarantee import Robustness, minority, share
from qflsec.defenses.robust.order import mean_of_places
from qflsec.defenses.robust.rows import Rows, Updates

__all__ = ["TrimmedMean", "trimmed_mean"]


def trimmed_mean(updates: Updates, *, f: int) -> Updates:
    """The mean of each coordinate without its ``f`` smallest and ``f`` largest values.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: Nothing is left: ``2 f >= n`` of the finite rows.

    Source:
        Yin et al., ICML 2018, arXiv:1803.01498, with beta = f / n.
    """
    return mean_of_places(updates, f, _middle)


def _middle(rows: Rows) -> tuple[int, int]:
    rows.need("trimmed-mean", minority(rows.n), "2f < n")
    return rows.f, rows.n - rows.f


@register("layer", "trimmed-mean")
@dataclass(frozen=True, kw_only=True)
class TrimmedMean(RobustRule):
    """The mean of each coordinate without its f smallest and f largest values, f as the server declares it."""

    card = DefenseCard(
        name="trimmed-mean",
        idea="The server leaves out the f smallest and f largest values of each coordinate, and takes the mean.",
        source=Source(
            paper="Yin, Chen, Ramchandran, Bartlett: Byzantine-robust distributed learning: towards optimal "
            "statistical rates, ICML 2018, arXiv:1803.01498",
            year=2018,
            where="the coordinate-wise trimmed mean",
        ),
        claim="With at most f corrupted clients the squared error is at most f / (n - 2f) times the honest variance.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not hold when more clients are corrupted than declared.",
            "It does not follow a client over the rounds.",
        ),
        cost="one sort for each coordinate; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",), proved=True)

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The trimmed mean."""
        return trimmed_mean(updates, f=f)

    def defined(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def kappa(self, n: int, f: int) -> float | None:
        """The ratio r = f / (n - 2f), which no rule can go below."""
        return share(n, f)
