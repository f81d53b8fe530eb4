"""States of trials and cells: what a number means, or why there is none.

A run that ends before its last round leaves no model to score. What a trial on it is worth follows from the goal of
the attack, and from who ended the run (:class:`qflsec.federation.round.turns.Turns` tells):

- *aborted*, the honest run as well: nothing can be said, and the trial is left out of every mean;
- *lost*, and the attack wants integrity or availability: a corrupted party ended the run, nobody has a model, and
  the trial counts with an advantage of 1, in every mean and ranking;
- *lost*, and the attack wants to learn something: it was noticed, and learned no more than its view holds until
  then. Ending a run is not what it was after, so the trial is *aborted*;
- *failed*: a mistake of the experiment, shown as one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, CellState, TrialRow, TrialStatus

__all__ = ["SCORED", "cell_state", "powerless", "strongest", "trial_status"]

SCORED: frozenset[TrialStatus] = frozenset({"ok", "lost"})
"""The statuses of trials that have an advantage."""


_WITHOUT_SCORE: tuple[CellState, ...] = ("incompatible", "aborted", "blocked")


def trial_status(outcome: str, goal: str) -> tuple[str, str]:
    """What the outcome of the attacked run makes of a trial, before anything is scored; with the reason.

    Args:
        outcome: The run's outcome.
        goal: The goal on the attack's card.
    """
    status, _, reason = outcome.partition(": ")
    return ("aborted" if status == "lost" and goal == "confidentiality" else status), reason


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
    for state in ("lost", *(() if "ok" in statuses else _WITHOUT_SCORE)):
        if state in statuses:
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
