"""How the results of session matrices are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from qflsec.lab.grid.results import read_score
from qflsec.lab.worlds.delegation.cells import LEARNED, SessionCell, SessionMatrixResult, SessionRow
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, mean_document
from qflsec.lab.worlds.pairs.reading import PairReading

__all__ = ["DelegationReading"]


class DelegationReading(PairReading[SessionRow, SessionMatrixResult]):
    """Reads them."""

    schema: ClassVar[str] = "qflsec-blind-matrix/2"
    result_type: ClassVar[type[PairResult[Any]]] = SessionMatrixResult
    cell_type: ClassVar[type[PairCell[Any]]] = SessionCell

    @staticmethod
    def content(outcome: SessionRow) -> dict[str, Any]:
        """A row as JSON types."""
        return asdict(outcome)

    @staticmethod
    def outcome(content: Mapping[str, Any]) -> SessionRow:
        """The row that :meth:`content` wrote."""
        scores = {name: read_score(score) for name, score in content["scores"].items()}
        return SessionRow(**{**content, "scores": scores})

    @classmethod
    def summary(cls, cell: SessionCell) -> dict[str, Any]:
        """What a document says of a cell over all seeds."""
        return {
            "sessions": len(cell.outcomes),
            "sessions_aborted": cell.aborted,
            "sessions_wrong_accepted": cell.wrong,
            "leaks": list(cell.leaking),
            **{f"{name}_advantage": mean_document(cell.advantage(name)) for name in LEARNED},
            "test_failure_rate": mean_document(cell.failure_rate),
            "test_failure_rate_theory": cell.detection,
        }
