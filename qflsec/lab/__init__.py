"""The lab: matrix specification, runs and trials, runner, store and results."""

from __future__ import annotations

from qflsec.lab.assemble import assemble
from qflsec.lab.compare import CellDifference, compare
from qflsec.lab.document import from_json, to_json
from qflsec.lab.matrix import Matrix, build_matrix
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
from qflsec.lab.runner import Progress, run_matrix
from qflsec.lab.spec import MatrixSpec, load_spec, parse_spec, presets
from qflsec.lab.store import Store
from qflsec.lab.stored import read_result, run

__all__ = [
    "AttackInfo",
    "Cell",
    "CellDifference",
    "Matrix",
    "MatrixResult",
    "MatrixSpec",
    "PipelineUtility",
    "Progress",
    "RunRow",
    "StackInfo",
    "StackSummary",
    "Store",
    "TrialRow",
    "assemble",
    "build_matrix",
    "compare",
    "from_json",
    "load_spec",
    "parse_spec",
    "presets",
    "read_result",
    "run",
    "run_matrix",
    "to_json",
]
