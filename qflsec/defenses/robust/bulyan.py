"""Bulyan: Krum picks n - 2f updates one by one; of these each coordinate keeps the values nearest to its median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.krum import krum_ranks
from qflsec.defenses.robust.mean_around_median import nearest_to_median
from qflsec.defenses.robust.rows import Array, Rows, Updates, like

__all__ = ["Bulyan", "bulyan", "bulyan_selection"]


def bulyan_selection(squares: Array, f: int) -> npt.NDArray[np.intp]:
    """The rows that Krum picks one after the other, each from those that are left; ascending.

    Scores are taken anew among the rows that are left, n' of them, over n' - f - 2 neighbours, and at least one: with
    f = 1 the last pick would otherwise have none.

    Args:
        squares: The squared distances between all rows.
        f: The declared number of corrupted rows.

    Shapes:
        squares: ``(n, n)``; returns: ``(n - 2f,)``
    """
    left = np.arange(len(squares))
    chosen = []
    for _ in range(len(squares) - 2 * f):
        neighbours = min(max(1, len(left) - f - 2), len(left) - 1)
        best = krum_ranks(squares[np.ix_(left, left)], neighbours)[0]
        chosen.append(left[best])  # the row's place among all rows, not among those that are left
        left = np.delete(left, best)
    return np.sort(np.array(chosen))


def bulyan(updates: Updates, *, f: int) -> Updates:
    """Bulyan with Krum.

    Krum picks theta = n - 2f rows, one after the other. Of these each coordinate keeps the theta - 2f = n - 4f values
    nearest to its median, and the result is their mean. The guarantee needs n >= 4f + 3; the rule is defined for n > 4f.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``4 f >= n`` of the finite rows.

    Source:
        El Mhamdi, Guerraoui, Rouault, ICML 2018, arXiv:1802.07927, section 4.
    """
    rows = Rows.of(updates, f)
    rows.need("bulyan", _defined(rows.n), "4f < n, and n >= 4f + 3 for its guarantee")
    if rows.f == 0:  # every row is picked and every value kept
        return like(updates, rows.values.mean(axis=0, dtype=np.float64))
    chosen = rows.values[bulyan_selection(squared_distances(rows.values), rows.f)]
    return like(updates, nearest_to_median(chosen, rows.n - 4 * rows.f))


def _defined(n: int) -> int:
    return (n - 1) // 4


@register("layer", "bulyan")
@dataclass(frozen=True, kw_only=True)
class Bulyan(RobustRule):
    """Krum picks n - 2f updates; each coordinate's n - 4f values nearest to their median are averaged."""

    card = DefenseCard(
        name="bulyan",
        idea="Krum picks n - 2f updates, of which each coordinate keeps the n - 4f values nearest to the median.",
        source=Source(
            paper="El Mhamdi, Guerraoui, Rouault: The hidden vulnerability of distributed learning in Byzantium, ICML "
            "2018, arXiv:1802.07927",
            year=2018,
            where="section 4",
        ),
        claim="With n >= 4f + 3 each coordinate of the step lies close to honest values, in high dimension too.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not stand as many corrupted clients as a median does.",
            "It does not average many updates: n - 4f values count in each coordinate.",
        ),
        cost="all pairs of distances, n - 2f selections and one sort for each coordinate; the server needs individual "
        "updates",
    )
    robustness = Robustness(breakdown="n >= 4f + 3", needs=("declared f",))

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """Bulyan with Krum."""
        return bulyan(updates, f=f)

    def defined(self, n: int) -> int:
        """Fewer than a quarter."""
        return _defined(n)

    def most(self, n: int) -> int:
        """At most (n - 3) / 4."""
        return max(0, (n - 3) // 4)
