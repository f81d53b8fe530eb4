"""Five findings of a benchmark: what its systems and defenses change, each paired by seed and with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import Score
from qflsec.lab.benchmark import reference_of
from qflsec.lab.worlds.federation.results import Cell, MatrixResult
from qflsec.lab.worlds.federation.states import GOALS, shown
from qflsec.report.words import count, listed

__all__ = ["Survey", "findings", "plain_score"]

_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A matrix in which every pipeline is a system and asked the same questions.

    Attributes:
        result: The matrix.
    """

    result: MatrixResult

    @property
    def reference(self) -> str:
        """The stack without layers of its own, or the first."""
        return reference_of(self.result)

    @property
    def systems(self) -> tuple[str, ...]:
        """The systems, in the order of the matrix."""
        return tuple(self.result.pipelines)

    @property
    def questions(self) -> tuple[str, ...]:
        """The attacks by registry name, in the order of the matrix."""
        return tuple(dict.fromkeys(attack.name for attack in self.result.attacks))

    def words(self, question: str) -> str:
        """The attack's label up to its comma, behind which the survey names the system."""
        label = next(attack.label for attack in self.result.attacks if attack.name == question)
        return label.partition(",")[0]

    def goal(self, question: str) -> str:
        """What the attack is on: ``"privacy"`` or ``"robustness"``."""
        goal = next(attack.goal for attack in self.result.attacks if attack.name == question)
        return next(name for name, goals in GOALS.items() if goal in goals)

    def cell(self, question: str, system: str, stack: str) -> Cell | None:
        """The cell of a question; None where the system is not asked it."""
        for attack in self.result.attacks:
            if (attack.name, attack.pipeline) == (question, system):
                return self.result.cells[attack.label, stack]
        return None

    def values(self, question: str, system: str, stack: str) -> Mapping[int, float]:
        """The advantages by seed; empty where there are none."""
        cell = self.cell(question, system, stack)
        return {} if cell is None else cell.measures["advantage"]

    def accuracies(self, system: str, stack: str) -> Mapping[int, float]:
        """The last test accuracy of the honest runs, by seed."""
        return {
            run.seed: run.accuracy[-1]
            for run in self.result.runs
            if (run.pipeline, run.stack, run.attack) == (system, stack, "") and run.accuracy
        }


def plain_score(score: Score, digits: int = 2) -> str:
    """A value with its interval: ``0.31 [0.20, 0.42]``; one seed allows no interval."""
    value, low, high = (
        f"{round(part, digits) + 0.0:.{digits}f}" for part in (score.value, score.low, score.high)
    )
    return (value if score.low != score.low else f"{value} [{low}, {high}]").replace("-", "\u2212")


def findings(survey: Survey) -> tuple[str, ...]:
    """The five, a paragraph each."""
    return (_exposed(survey), *_against_star(survey), _defended(survey), _cost(survey))


def _paired(new: Mapping[int, float], old: Mapping[int, float]) -> Score | None:
    """The mean of the differences by seed; None where no interval is known."""
    pairs = tuple(new[seed] - old[seed] for seed in new if seed in old)
    return mean_over_seeds(pairs).score(name="change", baseline=0.0, ideal=0.0) if len(pairs) > 1 else None


def _apart(score: Score) -> bool:
    return score.low > 0 or score.high < 0


def _exposed(survey: Survey) -> str:
    parts = []
    for question in survey.questions:
        cells = [survey.cell(question, system, survey.reference) for system in survey.systems]
        scored = [cell.advantage for cell in cells if cell is not None and cell.advantage is not None]
        works = [score for score in scored if shown(score) == "better"]
        parts.append(f"{survey.words(question)} in {len(works)} of {len(scored)}")
    return (
        f"**Without a defense an attack is shown to beat guessing** (its interval lies above 0) in so many of the systems in which it "
        f"was scored: {listed(parts)}."
    )


def _against_star(survey: Survey) -> Iterable[str]:
    first = survey.systems[0]
    for goal, lead in (
        ("privacy", "What a system hides"),
        ("robustness", "What liars break"),
    ):
        compared, told = 0, []
        for question in (one for one in survey.questions if survey.goal(one) == goal):
            base = survey.values(question, first, survey.reference)
            changes = {
                system: change
                for system in survey.systems[1:]
                if (change := _paired(survey.values(question, system, survey.reference), base)) is not None
            }
            compared += len(changes)
            apart = sorted(
                (pair for pair in changes.items() if _apart(pair[1])), key=lambda pair: pair[1].value
            )
            if apart:
                named = [f"`{system}` {plain_score(change)}" for system, change in apart[:_NAMED]]
                more = f" and {len(apart) - _NAMED} more" if len(apart) > _NAMED else ""
                told.append(f"{survey.words(question)}: {', '.join(named)}{more}")
        yield (
            f"**{lead}.** Beside `{first}`, without a defense and paired by seed, the advantage changes by an interval that leaves 0 "
            f"out in {'; '.join(told) if told else 'no system'}. Of {compared} comparisons about {0.05 * compared:.0f} would by chance."
        )


def _pooled(survey: Survey, question: str, stack: str) -> tuple[Score, int] | None:
    """The mean change by a stack: over the systems for each seed, then over the seeds; and over how many systems."""
    changes: dict[int, list[float]] = {}
    systems = 0
    for system in survey.systems:
        old, new = (survey.values(question, system, name) for name in (survey.reference, stack))
        both = [seed for seed in new if seed in old]
        systems += bool(both)
        for seed in both:
            changes.setdefault(seed, []).append(new[seed] - old[seed])
    if len(changes) < 2:
        return None
    means = tuple(fmean(values) for values in changes.values())
    return mean_over_seeds(means).score(name="change", baseline=0.0, ideal=0.0), systems


def _defended(survey: Survey) -> str:
    told = []
    for stack in (one.name for one in survey.result.stacks if one.name != survey.reference):
        parts = []
        for question in survey.questions:
            found = _pooled(survey, question, stack)
            if found is not None and _apart(found[0]):
                parts.append(
                    f"{survey.words(question)} {plain_score(found[0])} ({count(found[1], 'system')})"
                )
        told.append(f"`{stack}`: {', '.join(parts) if parts else 'nothing that leaves 0 out'}")
    return (
        "**What a defense changes**, as the mean change of the advantage over the systems in which it runs, for each seed and "
        f"then over the seeds: {'; '.join(told)}."
    )


def _cost(survey: Survey) -> str:
    first = survey.systems[0]
    base = survey.accuracies(first, survey.reference)
    worse = [
        f"`{system}` {plain_score(change, 3)}"
        for system in survey.systems[1:]
        if (change := _paired(survey.accuracies(system, survey.reference), base)) is not None
        and _apart(change)
    ]
    by_stack = []
    for stack in (one.name for one in survey.result.stacks if one.name != survey.reference):
        change = _paired(survey.accuracies(first, stack), base)
        if change is not None:
            by_stack.append(f"`{stack}` {plain_score(change, 3)}")
    sent = {system: found for system in survey.systems if (found := _bytes(survey, system)) is not None}
    least, most = min(sent, key=sent.__getitem__), max(sent, key=sent.__getitem__)
    return (
        f"**What it costs.** Accuracy without an attack differs from that of `{first}` by an interval that leaves 0 out in "
        f"{', '.join(worse) if worse else 'no system'}; under the defenses of `{first}` it changes by {', '.join(by_stack)}. "
        f"Bytes go from {sent[least] / 1e3:.1f} kB (`{least}`) to {sent[most] / 1e3:.1f} kB (`{most}`), beside "
        f"{sent[first] / 1e3:.1f} kB in `{first}`."
    )


def _bytes(survey: Survey, system: str) -> float | None:
    """The bytes of an honest run without defense; None where none was completed."""
    part = survey.result.summaries[survey.reference].by_pipeline.get(system)
    cost = None if part is None else part.costs.get("network_bytes")
    return None if cost is None else cost.value
