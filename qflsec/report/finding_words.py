"""Words and numbers that the findings of a matrix are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell
from qflsec.report.html import interval, number
from qflsec.report.words import listed

__all__ = ["NAMED", "few", "high_of", "low_of", "spread_of", "value_of"]

NAMED = 3
"""How many pairs a sentence names; the others stand below it."""


def few(names: Sequence[str]) -> str:
    """The first ones where they are many; the details have them all."""
    more = len(names) - NAMED
    return listed([*names[:NAMED], f"{more} more below"]) if more > 0 else listed(list(names))


def low_of(cell: Cell) -> float:
    """The lower end of a cell's interval."""
    return math.nan if cell.advantage is None else cell.advantage.low


def high_of(cell: Cell) -> float:
    """The upper end; infinite where there is none."""
    return math.inf if cell.advantage is None or math.isnan(cell.advantage.high) else cell.advantage.high


def value_of(cell: Cell) -> float:
    """A cell's mean advantage; minus infinity where there is none."""
    return -math.inf if cell.advantage is None else cell.advantage.value


def spread_of(score: Score | None, digits: int = 2, *, absolute: bool = False) -> str:
    """A score and its interval, in words."""
    if score is None:
        return "not scored"
    if absolute and score.value < 0:
        ends = f"[{number(-score.high, digits)}, {number(-score.low, digits)}]"
        return f"{number(-score.value, digits)} {ends}"
    return f"{number(score.value, digits)} {interval(score, digits)}".strip()
