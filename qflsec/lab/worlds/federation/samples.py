"""Values over the seeds with what is known of each from its records, and the scores that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from qflsec.accounting.statistics import Interval, mean_over_seeds, seeds_to_decide
from qflsec.base import Score
from qflsec.lab.scoring.records import attainable, record_interval
from qflsec.lab.worlds.federation.frame import FramedAttack
from qflsec.lab.worlds.federation.results import TrialRow
from qflsec.lab.worlds.federation.states import SCORED, margin

__all__ = ["Sample", "advantages", "interval_of"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One quantity over the seeds.

    Attributes:
        values: Its value for each seed.
        within: What it can be.
        records: Each value's interval over the records of its run; None where they say nothing.
    """

    values: tuple[float, ...]
    within: Interval = (-math.inf, math.inf)
    records: tuple[Interval, ...] | None = None

    def score(self, *, name: str, baseline: float, ideal: float, unit: str = "1") -> Score:
        """The mean with its interval."""
        found = mean_over_seeds(self.values, within=self.within, records=self.records)
        return found.score(name=name, baseline=baseline, ideal=ideal, unit=unit)

    def seeds_to_decide(self, score: Score, *below: float) -> int | None:
        """About how many seeds would tell the mean from the baseline, from nothing worth the name, or from a level above.

        Args:
            score: The mean.
            below: Levels which the interval may turn out to lie below.
        """
        gaps = (score.value - score.baseline, *(level - score.value for level in (margin(score), *below)))
        return seeds_to_decide(self.values, max(gaps), records=self.records)


def advantages(rows: Sequence[TrialRow], attack: FramedAttack) -> tuple[Sample, Score] | None:
    """The advantages of the trials that have one, and their mean; None where none has."""
    scored = [row for row in rows if row.status in SCORED and row.advantage is not None]
    if not scored:
        return None
    values = tuple(float(row.advantage) for row in scored if row.advantage is not None)
    ranges = [attainable(row.raw) for row in scored if row.status == "ok"] or [(-math.inf, math.inf)]
    records = tuple(row.interval for row in scored if row.interval is not None)
    sample = Sample(
        values=values,
        within=(min(low for low, _ in ranges), max(1.0, *(high for _, high in ranges))),
        records=records if len(records) == len(values) else None,
    )
    return sample, sample.score(name=attack.metric, baseline=attack.baseline, ideal=attack.ideal)


def interval_of(row: TrialRow) -> Interval | None:
    """The interval of a trial's advantage over the records of its run; None where it has none, or they say nothing."""
    if row.status not in SCORED or row.advantage is None:
        return None
    if row.status == "lost":  # it counts as 1 by what it is, not by its records
        return row.advantage, row.advantage
    return record_interval(row.advantage, row.metrics, row.raw)
