"""The lab: matrix specification, runs and trials, runner, store and results."""

from __future__ import annotations

from qflsec.lab.grid.runner import Progress, run_matrix
from qflsec.lab.grid.store import Store
from qflsec.lab.grid.stored import read_result, run
from qflsec.lab.subject import Subject
from qflsec.lab.worlds.federation.assemble import assemble
from qflsec.lab.worlds.federation.compare import CellDifference, compare
from qflsec.lab.worlds.federation.document import from_json, to_json
from qflsec.lab.worlds.federation.matrix import Matrix, build_matrix
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineUtility,
    RunRow,
    StackInfo,
    StackSummary,
    TrialRow,
)
from qflsec.lab.worlds.federation.spec import MatrixSpec, load_spec, parse_spec, presets

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
    "Subject",
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
