"""Trials that stand alone, their cells, and the results that these make."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from qflsec.accounting.statistics import Interval, mean_over_seeds
from qflsec.base import Score
from qflsec.lab.grid.results import Result, plain

__all__ = ["PairCell", "PairResult", "Trial", "mean", "mean_document"]

O = TypeVar("O")  # noqa: E741 - an outcome


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[O]):
    """One run of an attack against a column.

    Attributes:
        trial_id: Its id.
        seed: The seed.
        status: ``"ok"``, ``"incompatible"`` where the attack cannot be made there, or ``"failed"``.
        outcome: What came of it; None unless ``status`` is ``"ok"``.
        reason: Why there is no outcome, as a sentence.
        traceback: The traceback of a bug; empty otherwise.
        seconds: Processor time.
    """

    trial_id: str = ""
    seed: int
    status: str = "ok"
    outcome: O | None = None
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PairCell(ABC, Generic[O]):
    """One attack against one column, over all seeds.

    Attributes:
        attack: The row's label.
        column: The column's name.
        n_seeds: How many trials there should be.
        trials: The trials that are stored, in the order of the seeds.
    """

    attack: str
    column: str
    n_seeds: int
    trials: tuple[Trial[O], ...]

    @property
    def outcomes(self) -> tuple[O, ...]:
        """What came of the trials that were made."""
        return tuple(trial.outcome for trial in self.trials if trial.outcome is not None)

    @property
    def reason(self) -> str:
        """Why there is no outcome, where one is missing; empty otherwise."""
        ended = sorted((t for t in self.trials if t.outcome is None), key=lambda t: t.status != "failed")
        if ended:
            return ended[0].reason
        left = self.n_seeds - len(self.trials)
        return f"{left} of {self.n_seeds} trials have not been run" if left else ""

    @property
    def state(self) -> str:
        """What went wrong, or else the worst that happened in any trial."""
        statuses = set(self.statuses.values())
        if "failed" in statuses:
            return "failed"
        if len(self.trials) < self.n_seeds:
            return "pending"
        return "not applicable" if "incompatible" in statuses else self.verdict

    @property
    @abstractmethod
    def verdict(self) -> str:
        """The worst that happened in any trial; asked only where all were made."""

    @property
    @abstractmethod
    def finding(self) -> str:
        """What the trials found, in words without a full stop; asked only where all were made."""

    @property
    def sentence(self) -> str:
        """The cell in one plain sentence."""
        return f"{self.attack} against {self.column}: {self.reason or self.finding}."

    @property
    def statuses(self) -> Mapping[int, str]:
        """What became of each trial that is stored, by seed."""
        return {trial.seed: trial.status for trial in self.trials}

    @property
    def measures(self) -> Mapping[str, Mapping[int, float]]:
        """Every number of the outcomes, by seed."""
        found: dict[str, dict[int, float]] = {}
        for trial in self.trials:
            for name, value in ({} if trial.outcome is None else self.figures(trial.outcome)).items():
                found.setdefault(name, {})[trial.seed] = value
        return found

    @staticmethod
    @abstractmethod
    def figures(outcome: O) -> dict[str, float]:
        """The numbers of an outcome that two results are compared by, and that a table shows."""

    blamed: ClassVar[str]
    """Who causes an abort, as the honest parties can tell."""

    @staticmethod
    @abstractmethod
    def stopped(outcome: O) -> bool:
        """Whether the honest parties stopped the trial."""

    @property
    def aborts(self) -> Mapping[str, int]:
        """The trials that were stopped, by cause."""
        return Counter(self.blamed for outcome in self.outcomes if self.stopped(outcome))

    def records(self) -> list[dict[str, Any]]:
        """The stored trials, a flat record each."""
        return [
            {
                "attack": self.attack,
                "column": self.column,
                "cell_state": self.state,
                "seed": trial.seed,
                "status": trial.status,
                "reason": trial.reason,
                "caused_by": self.blamed if trial.outcome is not None and self.stopped(trial.outcome) else "",
                "seconds": trial.seconds,
                "trial_id": trial.trial_id,
                **({} if trial.outcome is None else self.figures(trial.outcome)),
            }
            for trial in self.trials
        ]


C = TypeVar("C", bound=PairCell[Any])


@dataclass(frozen=True, kw_only=True)
class PairResult(Result[C]):
    """What such a matrix found.

    Attributes:
        rows: The labels of the attacks, the honest row first.
        ideas: Each attack's idea and source, by label.
        columns: What each column is, by name.
        spec: The specification.
    """

    rows: tuple[str, ...]
    ideas: Mapping[str, str]
    columns: Mapping[str, Any]
    spec: Mapping[str, Any] = field(repr=False)


def mean(
    values: Sequence[float],
    *,
    name: str,
    ideal: float,
    unit: str = "1",
    within: Interval = (-math.inf, math.inf),
    records: Sequence[Interval] | None = None,
) -> Score | None:
    """The mean over the seeds; None where there is none.

    Args:
        values: One value for each seed.
        name: What it is.
        ideal: The value of a perfect attack.
        unit: The values' unit.
        within: What the mean can be.
        records: For each value its interval over what it was counted from.
    """
    if not values:
        return None
    found = mean_over_seeds(values, within=within, records=records)
    return found.score(name=name, baseline=0.0, ideal=ideal, unit=unit)


def mean_document(score: Score | None) -> dict[str, Any] | None:
    """A mean over seeds as a document says it."""
    if score is None:
        return None
    return plain({"mean": score.value, "low": score.low, "high": score.high, "n_seeds": score.n})  # type: ignore[no-any-return]
