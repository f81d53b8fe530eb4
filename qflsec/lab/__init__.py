"""The lab: specifications, the matrix engine, its kinds of matrix, store and results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.lab.grid.compare import CellDifference, compare
    from qflsec.lab.grid.results import Result
    from qflsec.lab.grid.runner import Progress, run_matrix
    from qflsec.lab.grid.spec import presets
    from qflsec.lab.grid.store import Store
    from qflsec.lab.matrices import assemble, build, run
    from qflsec.lab.reading import from_json, read_result, to_dict, to_json
    from qflsec.lab.specs import load_spec, parse_spec
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

__getattr__, __dir__ = lazily(__name__)
