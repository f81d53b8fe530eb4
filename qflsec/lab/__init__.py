"""The lab: specifications, the matrix engine, its kinds of matrix, store and results."""

from __future__ import annotations

from qflsec.lab.grid.compare import CellDifference, compare
from qflsec.lab.grid.results import Result
from qflsec.lab.grid.runner import Progress, run_matrix
from qflsec.lab.grid.store import Store
from qflsec.lab.matrices import (
    assemble,
    build,
    from_json,
    load_spec,
    parse_spec,
    presets,
    read_result,
    run,
    to_dict,
    to_json,
)
from qflsec.lab.subject import Subject
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.spec import MatrixSpec

__all__ = [
    "CellDifference",
    "MatrixResult",
    "MatrixSpec",
    "Progress",
    "Result",
    "Store",
    "Subject",
    "assemble",
    "build",
    "compare",
    "from_json",
    "load_spec",
    "parse_spec",
    "presets",
    "read_result",
    "run",
    "run_matrix",
    "to_dict",
    "to_json",
]
