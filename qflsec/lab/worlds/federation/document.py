"""The result of a matrix as a JSON document, and back.

Keys are stable: they are the fields of the dataclasses in :mod:`qflsec.lab.worlds.federation.results`, with
cells, summaries and ledgers as lists; ``session`` is computed from ledgers and runs. Units stand at the end of a
cost's name; a score states its own unit. ``clients`` of a run has the keys that
:func:`qflsec.lab.worlds.federation.clients.client_facts` states; one of an older store may lack ``norms``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qflsec.base import Score
from qflsec.lab.grid.results import plain, read_head, read_score
from qflsec.lab.worlds.federation.results import (
    Abort,
    AttackInfo,
    Cell,
    MatrixResult,
    PipelineSummary,
    RunRow,
    StackInfo,
    StackSummary,
    Strongest,
    TrialRow,
)

__all__ = ["SCHEMA", "from_document", "to_document"]

SCHEMA = "qflsec-matrix-result/5"
_SIMPLE = ("observers", "pipelines", "utility_pipeline", "data")


def to_document(result: MatrixResult) -> dict[str, Any]:
    """The document of a result: JSON types, numbers that are not finite as null."""
    from qflsec.lab.worlds.federation.session import session_accounts

    return {
        **result.document_head(SCHEMA),
        **plain(
            {
                **{name: getattr(result, name) for name in _SIMPLE},
                "attacks": [asdict(attack) for attack in result.attacks],
                "stacks": [asdict(stack) for stack in result.stacks],
                "cells": [
                    {**asdict(cell), "aborts_by_cause": dict(cell.aborts)} for cell in result.cells.values()
                ],
                "summaries": [asdict(summary) for summary in result.summaries.values()],
                "ledgers": [
                    {"stack": stack, "observer": observer, "rows": rows}
                    for (stack, observer), rows in result.ledgers.items()
                ],
                "runs": [asdict(run) for run in result.runs],
                "session": [account.to_dict() for account in session_accounts(result)],
            }
        ),
    }


def from_document(document: Mapping[str, Any]) -> MatrixResult:
    """The result that :func:`to_document` wrote."""
    cells = [_cell(cell) for cell in document["cells"]]
    summaries = [_summary(summary) for summary in document["summaries"]]
    return MatrixResult(
        **read_head(document),
        **{name: document[name] for name in _SIMPLE},
        attacks=tuple(AttackInfo(**attack) for attack in document["attacks"]),
        stacks=tuple(
            StackInfo(**{**stack, "layers": tuple(stack["layers"]), "claims": tuple(stack["claims"])})
            for stack in document["stacks"]
        ),
        cells={(cell.attack, cell.stack): cell for cell in cells},
        summaries={summary.stack: summary for summary in summaries},
        ledgers={(part["stack"], part["observer"]): tuple(part["rows"]) for part in document["ledgers"]},
        runs=tuple(_run(run) for run in document["runs"]),
    )


def _cell(value: Mapping[str, Any]) -> Cell:
    rows = tuple(_trial(row) for row in value["per_seed"])
    parts = {name: part for name, part in value.items() if name != "aborts_by_cause"}
    return Cell(**{**parts, "advantage": _score(value["advantage"]), "per_seed": rows})


def _score(value: Mapping[str, Any] | None) -> Score | None:
    return None if value is None else read_score(value)


def _trial(row: Mapping[str, Any]) -> TrialRow:
    metrics = {name: read_score(score) for name, score in row["metrics"].items()}
    interval = None if row["interval"] is None else _numbers(row["interval"])
    return TrialRow(**{**row, "metrics": metrics, "aborts": _aborts(row), "interval": interval})


def _run(row: Mapping[str, Any]) -> RunRow:
    curves = {name: _numbers(row[name]) for name in ("accuracy", "loss", "train_loss")}
    return RunRow(**{**row, **curves, "aborts": _aborts(row)})


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    """Numbers of a document, in which those that are not finite are null."""
    return tuple(math.nan if value is None else value for value in values)


def _aborts(row: Mapping[str, Any]) -> tuple[Abort, ...]:
    return tuple(Abort(**abort) for abort in row["aborts"])


def _summary(value: Mapping[str, Any]) -> StackSummary:
    by_pipeline = {name: _pipeline(part) for name, part in value["by_pipeline"].items()}
    return StackSummary(**{**value, "by_pipeline": by_pipeline})


def _pipeline(value: Mapping[str, Any]) -> PipelineSummary:
    return PipelineSummary(
        **{
            **value,
            "accuracy": _score(value["accuracy"]),
            "loss": _score(value["loss"]),
            "worst": {
                protects: Strongest(**{**worst, "advantage": read_score(worst["advantage"])})
                for protects, worst in value["worst"].items()
            },
            "costs": {name: read_score(cost) for name, cost in value["costs"].items()},
            "own": {name: read_score(own) for name, own in value.get("own", {}).items()},
            **{
                part: {name: read_score(one) for name, one in value.get(part, {}).items()}
                for part in ("detection", "detection_lost")
            },
        }
    )
