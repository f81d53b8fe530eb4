"""Minimum-diameter averaging: the mean of the n - f updates that lie closest together, found exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, IncompatibleStack, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, Rows, Updates, like
from qflsec.federation import Pipeline

__all__ = ["MinimumDiameter", "minimum_diameter"]

EXACT_ROWS = 30
"""Up to so many rows the search ends in milliseconds whatever the rows are: its cost is exponential in f alone."""


def minimum_diameter(updates: Updates, *, f: int, exact_rows: int = EXACT_ROWS) -> Updates:
    """The mean of the n - f rows whose largest distance from each other is the smallest.

    Rows that may be left out form a vertex cover of the graph of all distances above a threshold: the search is for the
    smallest threshold with a cover of at most f rows. Several sets may have the same diameter, since two rows alone set
    it: the one with the smallest sum of squared distances is taken, and where equal distances leave rows free to be left
    out, those farthest from the others go first.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.
        exact_rows: The largest number of rows that is searched.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``2 f >= n``, or there are more rows than ``exact_rows``.

    Source:
        El Mhamdi, Guerraoui, Rouault, ICML 2018, arXiv:1802.07927, section 2 ("Brute"); Rousseeuw 1985 for the idea.
    """
    rows = Rows.of(updates, f)
    rows.need("minimum-diameter", minority(rows.n), "2f < n")
    if rows.n > exact_rows:
        raise ConfigError(
            "an exact search among so many updates may never end",
            got=f"n = {rows.n}",
            expected=f"at most {exact_rows}",
            fix="raise 'exact_rows' if f is small, or put 'bucketing' in front",
        )
    kept = _closest(squared_distances(rows.values), rows.f)
    return like(updates, rows.values[kept].mean(axis=0, dtype=np.float64))


def _closest(squares: Array, f: int) -> list[int]:
    """The rows to keep, ascending."""
    n = len(squares)
    if f == 0:
        return list(range(n))
    levels = np.unique(squares)
    low, high = 0, len(levels) - 1
    while low < high:
        middle = (low + high) // 2
        if next(_covers(_edges(squares > levels[middle]), f), None) is None:
            low = middle + 1
        else:
            high = middle
    best: tuple[float, list[int]] | None = None
    for cover in set(_covers(_edges(squares > levels[low]), f)):
        kept = _filled(squares, [row for row in range(n) if not cover >> row & 1], n - f)
        found = float(squares[np.ix_(kept, kept)].sum()), kept
        best = found if best is None else min(best, found)
    assert best is not None
    return best[1]


def _filled(squares: Array, kept: list[int], size: int) -> list[int]:
    """Leave out the rows that are farthest from the others, one by one, until ``size`` are left."""
    while len(kept) > size:
        sums = squares[np.ix_(kept, kept)].sum(axis=1)
        kept = [row for place, row in enumerate(kept) if place != int(sums.argmax())]
    return kept


def _edges(apart: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    """The neighbours of each row as bits of a number."""
    return [sum(1 << int(other) for other in np.flatnonzero(line)) for line in apart]


def _covers(neighbours: list[int], budget: int, cover: int = 0) -> Iterator[int]:
    """Every vertex cover of at most so many rows that this branching meets, as bits; all minimal ones are among them.

    Either the row with the most uncovered edges is in the cover, or all its neighbours are.
    """
    degrees = [0 if cover >> row & 1 else (near & ~cover).bit_count() for row, near in enumerate(neighbours)]
    most = max(degrees)
    if most == 0:
        yield cover
        return
    if sum(degrees) > 2 * budget * most:
        return
    row = degrees.index(most)
    yield from _covers(neighbours, budget - 1, cover | 1 << row)
    if most <= budget:
        yield from _covers(neighbours, budget - most, cover | (neighbours[row] & ~cover))


@register("layer", "minimum-diameter")
@dataclass(frozen=True, kw_only=True)
class MinimumDiameter(RobustRule):
    """The mean of the n - f updates that lie closest together; exact, for up to 30 clients in a round."""

    card = DefenseCard(
        name="minimum-diameter",
        idea="The server averages the n - f updates whose largest distance from each other is the smallest.",
        source=Source(
            paper="El Mhamdi, Guerraoui, Rouault: The hidden vulnerability of distributed learning in Byzantium, ICML "
            "2018, arXiv:1802.07927",
            year=2018,
            where="section 2, 'Brute'",
        ),
        claim="With 2f < n the squared error is at most 8 f^2 / (n - f) times the honest variance.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not work for more than 30 clients in a round.",
            "It does not tell a short lie from an honest client that differs.",
        ),
        cost="all pairs of distances, and a search that is exponential in f; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",), proved=True)

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The mean of the closest updates."""
        return minimum_diameter(updates, f=f)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds that are too large for an exact search.

        Raises:
            IncompatibleStack: They are, or the declared f is too large.
        """
        super().check(pipeline)
        federation = pipeline.federation
        n = federation.n_clients if federation.who == "poisson" else federation.n_participants
        if n > EXACT_ROWS:
            raise IncompatibleStack(
                "'minimum-diameter' searches exactly, which may never end among so many clients",
                got=f"{n} in a round",
                expected=f"at most {EXACT_ROWS}",
                fix="lower 'participation'",
            )

    def defined(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def kappa(self, n: int, f: int) -> float | None:
        """8 f^2 / (n - f)."""
        return 8.0 * f * f / (n - f)
