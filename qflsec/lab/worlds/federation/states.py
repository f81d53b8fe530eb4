"""States of trials and cells: what a number means, or why there is none.

A run that ends before its last round leaves no model to score. What a trial on it is worth follows from the goal of
the attack, and from who ended the run (:class:`qflsec.federation.round.turns.Turns` tells):

- *aborted*, the honest run as well: nothing can be said, and the trial is left out of every mean;
- *lost*, and the attack wants integrity or availability: a corrupted party ended the run, nobody has a model, and
  the trial counts with an advantage of 1, in every mean and ranking;
- *lost*, and the attack wants to learn something: it was noticed, and learned no more than its view holds until
  then. Ending a run is not what it was after, so the trial is *aborted*;
- *failed*: a mistake of the experiment, shown as one.

What an interval shows is one of three things, and never more than one side of it: the attack is *better than guessing*
(the interval lies above the baseline), it is *nothing worth the name* (it lies below a tenth of the way to a perfect
attack, which includes an attack reliably worse than guessing), or the seeds are too few to tell.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Literal

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import Cell, CellState, Strongest, TrialRow, TrialStatus

__all__ = [
    "DETECTION",
    "GOALS",
    "OWN",
    "SCORED",
    "cell_state",
    "margin",
    "shown",
    "strongest",
    "trial_status",
]

GOALS = {"privacy": frozenset({"confidentiality"}), "robustness": frozenset({"integrity", "availability"})}
"""What a stack protects, and the goals of the attacks on it."""

OWN = {
    "personal": "accuracy on own classes",
    "alone": "the same, each client alone",
    "shared": "the same, all shared",
    "personal_auroc": "AUROC on own classes",
    "alone_auroc": "AUROC, each client alone",
    "shared_auroc": "AUROC, all shared",
    "personal_aupr": "AUPR on own classes",
    "alone_aupr": "AUPR, each client alone",
    "shared_aupr": "AUPR, all shared",
}
"""What is measured of clients that keep a part of the model, in words."""

DETECTION = {
    "auroc": "AUROC without attack",
    "aupr": "AUPR without attack",
    "recall": "recall without attack",
}
"""How the class that a pipeline detects is ranked, in words."""

SCORED: frozenset[TrialStatus] = frozenset({"ok", "lost"})
"""The statuses of trials that have an advantage."""


_WITHOUT_SCORE: tuple[CellState, ...] = ("incompatible", "aborted", "blocked")
_COUNTS: frozenset[CellState] = frozenset({"ok", "useless", "lost", "too few seeds"})
_NOT_TESTED: tuple[CellState, ...] = ("failed", "pending", "incompatible", "too few seeds")
_WORTH_THE_NAME = 0.1


def trial_status(outcome: str, goal: str) -> tuple[str, str]:
    """What the outcome of the attacked run makes of a trial, before anything is scored; with the reason.

    Args:
        outcome: The run's outcome.
        goal: The goal on the attack's card.
    """
    status, _, reason = outcome.partition(": ")
    return ("aborted" if status == "lost" and goal == "confidentiality" else status), reason


def margin(score: Score) -> float:
    """Where an effect worth the name begins: a tenth of the way from the baseline to the ideal."""
    return score.baseline + _WORTH_THE_NAME * (score.ideal - score.baseline)


def shown(score: Score) -> Literal["better", "nothing", "open"]:
    """What an interval shows of what is better the higher it is: one side alone counts.

    Returns:
        ``"better"`` than the baseline; ``"nothing"`` worth the name; ``"open"``, where the interval allows both.
    """
    if score.low > score.baseline:
        return "better"
    return "nothing" if score.high < margin(score) else "open"


def cell_state(
    rows: Sequence[TrialRow],
    *,
    n_seeds: int,
    advantage: Score | None,
    undefended: Score | None,
    useless: bool = False,
) -> CellState:
    """The state of a cell.

    What went wrong comes before what was found, so that a mean over fewer seeds never looks complete. Then comes
    whether the attack is better than guessing without a defense: where it is not, or where nobody can tell, the
    cell says nothing of one. Where the advantage is undefined for every seed, there was nothing to win: the cell
    has no power.

    Args:
        rows: The trials that are stored.
        n_seeds: How many there should be.
        advantage: Their mean; None where no trial was scored.
        undefended: The advantage of the same attack on the stack without layers; None where there is none.
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
    control = "better" if undefended is None else shown(undefended)
    unknown = advantage is not None and not _says_something(advantage, undefended)
    if control == "open" or (control == "better" and not useless and unknown):
        return "too few seeds"
    if control == "better" and useless:
        return "useless"
    return "ok" if control == "better" and "ok" in statuses else "no power"


def _says_something(advantage: Score, undefended: Score | None) -> bool:
    """Whether the attack works here, does not, or does less than without a defense."""
    less = undefended is not None and advantage.high < undefended.low
    return less or shown(advantage) != "open"


def strongest(
    cells: Sequence[Cell], *, silent: Collection[str], use: Literal["", "useless", "too few seeds"] = ""
) -> Strongest | None:
    """The attack with the largest advantage among cells that can be compared: of one stack, pipeline and goal.

    Args:
        cells: The cells.
        silent: The labels of attacks that are not shown to be better than guessing without a defense. They count
            only where they are on this stack.
        use: Why the stack ranks nowhere on the pipeline, whatever the attacks do: it is useless, or the seeds are too
            few to tell.
    """
    heard = [cell for cell in cells if cell.attack not in silent]
    loud = [
        cell
        for cell in cells
        if cell.attack in silent and cell.advantage is not None and shown(cell.advantage) == "better"
    ]
    scored = [
        (cell.attack, cell.advantage)
        for cell in (*(cell for cell in heard if cell.state in _COUNTS), *loud)
        if cell.advantage is not None and math.isfinite(cell.advantage.value)
    ]
    if not scored:
        return None
    attack, advantage = max(scored, key=lambda pair: pair[1].value)
    states = {cell.state for cell in heard}
    gaps: list[str] = [state for state in _NOT_TESTED if state in states]
    return Strongest(attack=attack, advantage=advantage, unranked=use or (gaps[0] if gaps else ""))
