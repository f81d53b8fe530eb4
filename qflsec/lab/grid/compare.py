"""Two results of a matrix side by side: which cells differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import ConfigError, Score
from qflsec.lab.grid.results import Cell, Result
from qflsec.lab.grid.units import Place

__all__ = ["CellDifference", "compare"]


@dataclass(frozen=True, kw_only=True)
class CellDifference:
    """One cell in two results.

    Attributes:
        attack: The attack's label.
        column: The column's name.
        before: Its state in the first result; None where it has no such cell.
        after: Its state in the second result; None where it has no such cell.
        changes: For each measure that both results have for a seed in common: second less first, paired by
            seed, with a Student t interval.
        same: Whether state and measures by seed are equal.
    """

    attack: str
    column: str
    before: str | None
    after: str | None
    changes: Mapping[str, Score] = field(default_factory=dict)
    same: bool


def compare(first: Result[Any], second: Result[Any]) -> tuple[CellDifference, ...]:
    """Every cell that either result has.

    Raises:
        ConfigError: They are of different kinds.
    """
    if first.kind != second.kind:
        raise ConfigError(
            "matrices of different kinds have no cells in common",
            got=f"{first.kind} and {second.kind}",
            expected="two results of the same kind",
        )
    keys = dict.fromkeys((*first.cells, *second.cells))
    return tuple(_difference(key, first.cells.get(key), second.cells.get(key)) for key in keys)


def _difference(place: Place, first: Cell | None, second: Cell | None) -> CellDifference:
    old, new = ({} if cell is None else cell.measures for cell in (first, second))
    before, after = (None if cell is None else cell.state for cell in (first, second))
    changes = {}
    for name in old:
        pairs = [new[name][seed] - value for seed, value in old[name].items() if seed in new.get(name, {})]
        if pairs:
            changes[name] = mean_over_seeds(pairs).score(name=f"{name}_difference", baseline=0.0, ideal=0.0)
    return CellDifference(
        attack=place[0],
        column=place[1],
        before=before,
        after=after,
        changes=changes,
        same=before == after and old == new,
    )
