"""The lab: matrix specification, runs and trials, runner, store and results."""

from __future__ import annotations

from qflsec.lab.results import (
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineUtility,
    RunRow,
    StackInfo,
    StackSummary,
    TrialRow,
)

__all__ = [
    "AttackInfo",
    "Cell",
    "MatrixResult",
    "PipelineUtility",
    "RunRow",
    "StackInfo",
    "StackSummary",
    "TrialRow",
]
