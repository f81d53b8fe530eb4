"""States of cells: what a number means, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, CellState, TrialRow

__all__ = ["cell_state", "powerless", "strongest"]


_WITHOUT_SCORE: tuple[CellState, ...] = ("incompatible", "aborted", "blocked")


def cell_state(
    rows: Sequence[TrialRow], *, n_seeds: int, undefended: Score | None, useless: bool
) -> CellState:
    """The state of a cell.

    What went wrong comes before what was found, so that a mean over fewer seeds never looks complete. Where
    the advantage is undefined for every seed, there was nothing to win: the cell has no power.

    Args:
        rows: The trials that are stored.
        n_seeds: How many there should be.
        undefended: The advantage of the same attack on the stack without layers.
        useless: Whether the stack is useless on the cell's pipeline.
    """
    statuses = [row.status for row in rows]
    if "failed" in statuses:
        return "failed"
    if len(rows) < n_seeds:
        return "pending"
    for state in _WITHOUT_SCORE:
        if "ok" not in statuses and state in statuses:
            return state
    if undefended is not None and powerless(undefended):
        return "no power"
    if useless:
        return "useless"
    return "ok" if "ok" in statuses else "no power"


def powerless(undefended: Score) -> bool:
    """Whether the interval of an undefended attack touches its baseline; one seed allows no such claim."""
    return not math.isnan(undefended.low) and not undefended.clear_of(undefended.baseline)


def strongest(cells: Sequence[Cell]) -> tuple[str, Score] | None:
    """The attack with the largest advantage among those that were scored.

    An attack without power on the undefended stack counts only where it has power on this one.
    """
    scored = [
        (cell.attack, cell.advantage)
        for cell in cells
        if cell.advantage is not None
        and (cell.state != "no power" or cell.advantage.low > cell.advantage.baseline)
    ]
    return max(scored, key=lambda pair: pair[1].value, default=None)
