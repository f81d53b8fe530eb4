"""What the numbers of a matrix support: attacks that are shown to work, and what a stack changes in them.

Every statement rests on a 95 % interval. An attack *is shown to work* where its interval lies above guessing. A stack
*moved* an attack where the differences to the stack without layers, paired by seed, have an interval that excludes 0
and a mean of a tenth of a perfect attack or more. Two disjoint intervals of the cells imply such an interval of the
differences, since their standard deviations, and their distances to the records' ends, add up to no less than those
of the differences; only cut ends can be nearer together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.accounting.statistics import Interval, mean_over_seeds
from qflsec.base import Score
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    CellState,
    MatrixResult,
    Strongest,
    TrialRow,
)
from qflsec.lab.worlds.federation.states import GOALS, SCORED, margin, shown, strongest

__all__ = ["Effect", "effects", "family_worst", "protects", "reference", "works"]

_COMPLETE: frozenset[CellState] = frozenset({"ok", "no power", "too few seeds", "lost"})
"""The states of cells with an advantage for every trial that counts, of a model that is of use."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a stack changes in an attack that works without it.

    Attributes:
        attack: The attack.
        stack: The stack's name.
        before: The advantage without layers.
        after: The advantage against the stack.
        change: The second less the first, paired by seed.
    """

    attack: AttackInfo
    stack: str
    before: Score
    after: Score
    change: Score

    @property
    def moved(self) -> bool:
        """Whether the change is shown, and worth the name."""
        excludes = self.change.low > 0 or self.change.high < 0
        return excludes and abs(self.change.value) >= margin(self.before) - self.before.baseline

    @property
    def at_least(self) -> float:
        """The smallest change that the interval leaves possible."""
        return max(0.0, self.change.low, -self.change.high)


def reference(result: MatrixResult) -> str | None:
    """The stack without layers, against which all others are compared; None where there is none."""
    return next((stack.name for stack in result.stacks if not stack.layers and not stack.incompatible), None)


def protects(attack: AttackInfo) -> str:
    """What the attack is on: ``"privacy"`` or ``"robustness"``."""
    return next(name for name, goals in GOALS.items() if attack.goal in goals)


def works(cell: Cell) -> bool:
    """Whether the attack is shown to be better than guessing here."""
    return cell.state in _COMPLETE and cell.advantage is not None and shown(cell.advantage) == "better"


def effects(result: MatrixResult) -> tuple[Effect, ...]:
    """Every pair of an attack that is shown to work without layers and a stack against which it was scored."""
    none = reference(result)
    found = []
    if none is None:
        return ()
    for attack in result.attacks:
        control = result.cells[attack.label, none]
        for stack in result.stacks if works(control) else ():
            cell = result.cells[attack.label, stack.name]
            change = None if stack.name == none or cell.state not in _COMPLETE else paired(control, cell)
            if change is not None and control.advantage is not None and cell.advantage is not None:
                found.append(
                    Effect(
                        attack=attack,
                        stack=stack.name,
                        before=control.advantage,
                        after=cell.advantage,
                        change=change,
                    )
                )
    return tuple(found)


def family_worst(result: MatrixResult, stack: str, family: str) -> Strongest | None:
    """The strongest attack of a family on a stack, over its pipelines; None where none was scored."""
    none = reference(result)
    mine = [attack for attack in result.attacks if attack.family == family]
    silent = {
        attack.label for attack in mine if none is not None and _silent(result.cells[attack.label, none])
    }
    summary = result.summaries[stack].by_pipeline
    found = [
        strongest(
            [result.cells[attack.label, stack] for attack in mine if attack.pipeline == pipeline],
            silent=silent,
            use=summary[pipeline].open_use if pipeline in summary else "",
        )
        for pipeline in dict.fromkeys(attack.pipeline for attack in mine)
    ]
    return max((one for one in found if one is not None), key=lambda one: one.advantage.value, default=None)


def _silent(control: Cell) -> bool:
    return control.advantage is not None and control.state != "lost" and shown(control.advantage) != "better"


def paired(control: Cell, cell: Cell) -> Score | None:
    """The second advantage less the first over the seeds that both have; None where fewer than two show a spread.

    Source:
        Zou, Donner: Construction of confidence limits about effect measures, Statistics in Medicine 27, 2008
        (limits of a difference from limits of its terms).
    """
    before, after = (
        {row.seed: row for row in one.per_seed if row.status in SCORED and row.advantage is not None}
        for one in (control, cell)
    )
    pairs = [(before[seed], after[seed]) for seed in before if seed in after]
    values = [float(new.advantage or 0.0) - float(old.advantage or 0.0) for old, new in pairs]
    ranges = [found for old, new in pairs if (found := _difference(old, new)) is not None]
    records = ranges if pairs and len(ranges) == len(pairs) else None
    if len(values) < 2 or (records is None and max(values) == min(values)):
        return None
    estimate = mean_over_seeds(values, records=records)
    return estimate.score(name="advantage_difference", baseline=0.0, ideal=0.0)


def _difference(old: TrialRow, new: TrialRow) -> Interval | None:
    """The interval of a trial's difference over the records of both runs."""
    if old.interval is None or new.interval is None or old.advantage is None or new.advantage is None:
        return None
    (low, high), (new_low, new_high) = old.interval, new.interval
    change = new.advantage - old.advantage
    below = math.hypot(new.advantage - new_low, high - old.advantage)
    above = math.hypot(new_high - new.advantage, old.advantage - low)
    return change - below, change + above
