"""Coordinate-wise median: the server's rule takes the median of each coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.base import RobustRule

__all__ = ["Median", "coordinate_median"]


def coordinate_median(updates: torch.Tensor) -> torch.Tensor:
    """The median of each coordinate; the midpoint of the middle two for an even number of rows.

    ``torch.median`` returns the lower of the middle two instead, which moves the result.

    Args:
        updates: One row for each client.

    Shapes:
        updates: ``(n, P)``; returns: ``(P,)``

    Raises:
        UpdateError: There is no row, the shape is not ``(n, P)``, or a number is not finite.

    Source:
        Yin et al., ICML 2018, arXiv:1803.01498, definition 1.
    """
    if updates.ndim != 2 or updates.shape[0] == 0:
        raise UpdateError(
            "the median needs updates as rows",
            got=f"shape {tuple(updates.shape)}",
            expected="(n, P) with n at least 1",
        )
    if not bool(torch.isfinite(updates).all()):
        raise UpdateError("the median got updates that are not finite", expected="finite numbers")
    ordered = np.sort(updates.detach().cpu().numpy(), axis=0)
    n = len(ordered)
    middle = ordered[(n - 1) // 2 : n // 2 + 1].astype(np.float64).mean(axis=0)
    return torch.from_numpy(middle).to(updates)


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

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The coordinate-wise median, whatever ``f`` is."""
        return coordinate_median(updates)
