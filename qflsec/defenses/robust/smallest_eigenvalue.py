"""Smallest maximum eigenvalue averaging (SMEA): the mean of the n - f updates that spread least in their worst direction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.guarantee import Robustness, minority, share
from qflsec.defenses.robust.rows import Array, Rows, Updates, like

__all__ = ["SmallestEigenvalue", "smallest_eigenvalue"]

MOST_SETS = 20_000
"""So many sets of rows are searched: a second or two."""
_AT_ONCE = 2000
_SAME = 1e-9
"""Eigenvalues that differ by less, relative to the largest, are the same but for rounding."""


def smallest_eigenvalue(updates: Updates, *, f: int, most_sets: int = MOST_SETS) -> Updates:
    """The mean of the n - f rows whose covariance has the smallest largest eigenvalue.

    Every set is tried. Its largest eigenvalue is that of the centred Gram matrix of its rows, which follows from their
    distances. Among sets with the same one that with the smallest trace is taken, and then the first.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        most_sets: The largest number of sets that is searched.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``2 f >= n``, or there are more sets than ``most_sets``.

    Source:
        Allouah, Guerraoui, Gupta, Pinot, Stephan, ICML 2023, arXiv:2302.04787 (SMEA), by the definition that ByzFL
        implements; ByzFL estimates eigenvalues by one random power iteration, here they are exact.
    """
    rows = Rows.of(updates, f)
    rows.need("smea", minority(rows.n), "2f < n")
    if math.comb(rows.n, rows.f) > most_sets:
        raise ConfigError(
            "an exact search among so many sets of updates takes too long",
            got=f"n = {rows.n}, f = {rows.f}: {math.comb(rows.n, rows.f):,} sets",
            expected=f"at most {most_sets:,}",
            fix="raise 'most_sets', lower 'f', or put 'bucketing' in front",
        )
    squares = squared_distances(rows.values)
    if not np.isfinite(squares).all():  # only what is largest counts there
        squares = squared_distances(rows.wide / np.abs(rows.values).max())
    kept = _least(squares, rows.f)
    return like(updates, rows.values[kept].mean(axis=0, dtype=np.float64))


def _least(squares: Array, f: int) -> list[int]:
    """The rows of the best set, ascending."""
    n = len(squares)
    sets = np.array(list(combinations(range(n), n - f)))
    parts = np.split(sets, range(_AT_ONCE, len(sets), _AT_ONCE))
    largest, traces = (
        np.concatenate(found) for found in zip(*(_spread(squares, part) for part in parts), strict=True)
    )
    same = np.flatnonzero(largest <= largest.min() + _SAME * largest.max())
    low = traces[same].min()
    first = same[np.flatnonzero(traces[same] <= low + _SAME * traces.max())[0]]
    return [int(row) for row in sets[first]]


def _spread(squares: Array, sets: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[Array, Array]:
    """The largest eigenvalue of each set's covariance, times its size, and the trace."""
    part = squares[sets[:, :, None], sets[:, None, :]]
    means = part.mean(axis=2)
    gram = -0.5 * (part - means[:, :, None] - means[:, None, :] + means.mean(axis=1)[:, None, None])
    return np.linalg.eigvalsh(gram)[:, -1], np.trace(gram, axis1=1, axis2=2)


@register("layer", "smea")
@dataclass(frozen=True, kw_only=True)
class SmallestEigenvalue(RobustRule):
    """The mean of the n - f updates that spread least in their worst direction; exact, for up to 20,000 sets of them."""

    card = DefenseCard(
        name="smea",
        idea="The server averages the n - f updates whose covariance has the smallest largest eigenvalue.",
        source=Source(
            paper="Allouah, Guerraoui, Gupta, Pinot, Stephan: On the privacy-robustness-utility trilemma in distributed "
            "learning, ICML 2023, arXiv:2302.04787",
            year=2023,
            where="smallest maximum eigenvalue averaging; the bound is derived in docs/robust.md",
        ),
        claim="With 2f < n the squared error is at most 4 f / (n - 2f) times the largest eigenvalue of the honest covariance.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not work where there are more than 20,000 sets of n - f clients.",
            "It does not tell a short lie from an honest client that differs.",
        ),
        cost="all pairs of distances, and the eigenvalues of every set of n - f; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",), proved=True)

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The mean of the best set."""
        return smallest_eigenvalue(updates, f=f)

    def defined(self, n: int) -> int:
        """Fewer than half, as far as the sets can be searched."""
        return max(f for f in range(minority(n) + 1) if f == 0 or math.comb(n, f) <= MOST_SETS)

    def most(self, n: int) -> int:
        """Fewer than half, as far as the sets can be searched."""
        return self.defined(n)

    def kappa(self, n: int, f: int) -> float | None:
        """4 r with r = f / (n - 2f): of the largest eigenvalue, which the variance is never below."""
        return 4.0 * share(n, f)
