"""The plain mean: every client counts the same, and one of them can move the step anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.rows import Rows, Updates, like

__all__ = ["Mean", "mean"]


def mean(updates: Updates, *, f: int = 0) -> Updates:
    """The mean of the rows, added up in double precision.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``f`` is no number of clients.
    """
    rows = Rows.of(updates, f)
    return like(updates, rows.values.mean(axis=0, dtype=np.float64))


@register("layer", "mean")
@dataclass(frozen=True, kw_only=True)
class Mean(RobustRule):
    """The mean of the updates, whatever number of examples clients state."""

    card = DefenseCard(
        name="mean",
        idea="The server takes the mean of the updates and ignores the numbers of examples.",
        source=Source(
            paper="McMahan et al., AISTATS 2017, arXiv:1602.05629", year=2017, where="equal weights"
        ),
        claim="No client gains weight by the number of examples that it states.",
        assumption="none",
        hides="nothing",
        does_not=("It does not bound what a single client can do to the model.",),
        cost="one mean; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f = 0", needs=(), proved=True)

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The mean, whatever ``f`` is."""
        return mean(updates, f=f)

    def most(self, n: int) -> int:
        """None."""
        return 0

    def kappa(self, n: int, f: int) -> float | None:
        """0: without corrupted rows the mean is exact."""
        return 0.0
