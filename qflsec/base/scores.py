"""Scores: a metric is never a bare number."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Score"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric with its interval and what it is to be compared with.

    Attributes:
        name: The metric, for example ``"advantage"`` or ``"auc"``.
        value: The point estimate.
        low: Lower end of the 95 % interval; NaN where one observation allows none.
        high: Upper end of the 95 % interval; NaN where one observation allows none.
        n: What the interval was taken over (records of one run, or seeds of one cell).
        baseline: The value of an adversary who learned nothing.
        ideal: The value of a perfect attack.
        unit: ``"1"`` for a ratio, else the unit's symbol.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    baseline: float
    ideal: float
    unit: str = "1"
