"""How the results of matrices are read whose trials stand alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Generic, TypeVar

from qflsec.lab.grid.failures import Failed, told
from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.results import head_now, plain, read_head
from qflsec.lab.grid.units import Place, Row
from qflsec.lab.worlds.pairs.cells import PairCell, PairResult, Trial

__all__ = ["PairReading"]

O = TypeVar("O")  # noqa: E741 - an outcome
R = TypeVar("R", bound=PairResult[Any])


class PairReading(Reading[R], Generic[O, R]):
    """Reads the results of one such kind.

    Attributes:
        result_type: Its results.
        cell_type: Their cells.
    """

    result_type: ClassVar[type[PairResult[Any]]]
    cell_type: ClassVar[type[PairCell[Any]]]

    @staticmethod
    @abstractmethod
    def content(outcome: O) -> dict[str, Any]:
        """An outcome as JSON types."""

    @staticmethod
    @abstractmethod
    def outcome(content: Mapping[str, Any]) -> O:
        """The outcome that :meth:`content` wrote."""

    @classmethod
    @abstractmethod
    def summary(cls, cell: Any) -> dict[str, Any]:  # noqa: ANN401 - the kind's own cells
        """What a document says of a cell over all seeds."""

    @classmethod
    def assemble(cls, frame: Mapping[str, Any], rows: Mapping[str, Row], *, command: str = "") -> R:
        """What a store knows of a matrix."""
        trials = {
            (label, column): [cls._read_row(rows[unit]) for unit in units if unit in rows]
            for label, column, units in frame["cells"]
        }
        failures = told(
            Failed(
                what="trial",
                where=f"{label} x {column}",
                seed=trial.seed,
                reason=trial.reason,
                traceback=trial.traceback,
            )
            for (label, column), found in trials.items()
            for trial in found
            if trial.status == "failed"
        )
        return cls._result(
            **{**head_now(frame["head"], command), "failures": failures},
            rows=tuple(frame["rows"]),
            ideas=frame["ideas"],
            columns=frame["columns"],
            spec=frame["spec"],
            trials=trials,
        )

    @classmethod
    def document(cls, result: R) -> dict[str, Any]:
        """A result as a document of JSON types."""
        return {
            **result.document_head(cls.schema),
            "simulated": True,
            "seeded_secrets": True,
            "attacks": [{"label": row, "idea": result.ideas[row]} for row in result.rows],
            "columns": plain(result.columns),
            "cells": [cls._cell_document(cell) for cell in result.cells.values()],
            "specification": dict(result.spec),
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> R:
        """The result of a document."""
        return cls._result(
            **read_head(document),
            rows=tuple(row["label"] for row in document["attacks"]),
            ideas={row["label"]: row["idea"] for row in document["attacks"]},
            columns=document["columns"],
            spec=document["specification"],
            trials={
                (cell["attack"], cell["column"]): [cls._read_trial(trial) for trial in cell["per_seed"]]
                for cell in document["cells"]
            },
        )

    @classmethod
    def _result(cls, *, trials: Mapping[Place, Sequence[Trial[O]]], **parts: Any) -> R:  # noqa: ANN401
        cells = {
            place: cls.cell_type(
                attack=place[0], column=place[1], n_seeds=len(parts["seeds"]), trials=tuple(found)
            )
            for place, found in trials.items()
        }
        result: R = cls.result_type(**parts, cells=cells)  # type: ignore[assignment]  # the kind's own type
        return result

    @classmethod
    def _cell_document(cls, cell: PairCell[O]) -> dict[str, Any]:
        return {
            "attack": cell.attack,
            "column": cell.column,
            "state": cell.state,
            "trials": cell.n_seeds,
            "aborts_by_cause": dict(cell.aborts),
            **cls.summary(cell),
            "sentence": cell.sentence,
            "per_seed": [
                {
                    **{name: value for name, value in asdict(trial).items() if name != "outcome"},
                    "outcome": None if trial.outcome is None else plain(cls.content(trial.outcome)),
                }
                for trial in cell.trials
            ],
        }

    @classmethod
    def _read_row(cls, row: Row) -> Trial[O]:
        return Trial(
            trial_id=row.unit_id,
            seed=row.seed,
            status=row.status,
            outcome=cls.outcome(row.content) if row.status == "ok" else None,
            reason=row.reason,
            traceback=row.traceback,
            seconds=row.seconds,
        )

    @classmethod
    def _read_trial(cls, trial: Mapping[str, Any]) -> Trial[O]:
        outcome = None if trial["outcome"] is None else cls.outcome(trial["outcome"])
        return Trial(**{**trial, "outcome": outcome})
