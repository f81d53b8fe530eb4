"""Two results of a matrix side by side: which cells differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, MatrixResult

__all__ = ["CellDifference", "compare"]


@dataclass(frozen=True, kw_only=True)
class CellDifference:
    """One cell in two results.

    Attributes:
        attack: The attack's label.
        stack: The stack's name.
        before: Its state in the first result; None where it has no such cell.
        after: Its state in the second result; None where it has no such cell.
        first: Its advantage in the first result.
        second: Its advantage in the second result.
        difference: Second less first, paired by the seeds that both have, with a Student t interval; None
            where there is no such seed.
        same: Whether state and advantages by seed are equal.
    """

    attack: str
    stack: str
    before: str | None
    after: str | None
    first: Score | None
    second: Score | None
    difference: Score | None
    same: bool


def compare(first: MatrixResult, second: MatrixResult) -> tuple[CellDifference, ...]:
    """Every cell that either result has."""
    keys = dict.fromkeys((*first.cells, *second.cells))
    return tuple(_difference(key, first.cells.get(key), second.cells.get(key)) for key in keys)


def _difference(key: tuple[str, str], first: Cell | None, second: Cell | None) -> CellDifference:
    old, new = _by_seed(first), _by_seed(second)
    pairs = [new[seed] - old[seed] for seed in old if seed in new]
    states = [None if cell is None else cell.state for cell in (first, second)]
    return CellDifference(
        attack=key[0],
        stack=key[1],
        before=states[0],
        after=states[1],
        first=None if first is None else first.advantage,
        second=None if second is None else second.advantage,
        difference=mean_over_seeds(pairs).score(name="advantage_difference", baseline=0.0, ideal=0.0)
        if pairs
        else None,
        same=states[0] == states[1] and old == new,
    )


def _by_seed(cell: Cell | None) -> Mapping[int, float]:
    rows = () if cell is None else cell.per_seed
    return {row.seed: row.advantage for row in rows if row.advantage is not None}
