"""The result of a matrix as a JSON document, and back.

Keys are stable: they are the fields of the dataclasses in :mod:`qflsec.lab.worlds.federation.results`, with cells, summaries and
ledgers as lists. Units stand at the end of a cost's name; a score states its own unit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qflsec.base import Score, StoreError
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    CodeInfo,
    MatrixResult,
    PipelineUtility,
    RunRow,
    StackInfo,
    StackSummary,
    TrialRow,
)

__all__ = ["SCHEMA", "from_json", "plain", "to_dict", "to_json"]

SCHEMA = "qflsec-matrix-result/2"
_SIMPLE = (
    "name",
    "description",
    "command",
    "versions",
    "created",
    "observers",
    "pipelines",
    "utility_pipeline",
)


def to_json(result: MatrixResult, *, indent: int | None = 2) -> str:
    """The document of a result, as text."""
    return json.dumps(to_dict(result), indent=indent, allow_nan=False)


def to_dict(result: MatrixResult) -> dict[str, Any]:
    """The document of a result: JSON types, numbers that are not finite as null."""
    document: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            **{name: getattr(result, name) for name in _SIMPLE},
            "seeds": result.seeds,
            "attacks": [asdict(attack) for attack in result.attacks],
            "stacks": [asdict(stack) for stack in result.stacks],
            "cells": [asdict(cell) for cell in result.cells.values()],
            "summaries": [asdict(summary) for summary in result.summaries.values()],
            "ledgers": [
                {"stack": stack, "observer": observer, "rows": rows}
                for (stack, observer), rows in result.ledgers.items()
            ],
            "runs": [asdict(run) for run in result.runs],
            "failures": result.failures,
            "code": [asdict(part) for part in result.code],
        }
    )
    return document


def from_json(text: str) -> MatrixResult:
    """The result that :func:`to_json` wrote.

    Raises:
        StoreError: The text is not such a document.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise StoreError("not a JSON document", got=str(error)) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        got = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise StoreError("not a matrix result of this version", got=got, expected=SCHEMA)
    try:
        return _read(document)
    except (KeyError, TypeError) as error:
        raise StoreError("a matrix result lacks a field", got=repr(error)) from None


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON is heterogeneous
    """The same value in JSON types: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def _read(document: Mapping[str, Any]) -> MatrixResult:
    cells = [_cell(cell) for cell in document["cells"]]
    summaries = [_summary(summary) for summary in document["summaries"]]
    return MatrixResult(
        **{name: document[name] for name in _SIMPLE},
        seeds=tuple(document["seeds"]),
        failures=tuple(document["failures"]),
        code=tuple(_code(part) for part in document["code"]),
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
    return Cell(**{**value, "advantage": _score(value["advantage"]), "per_seed": rows})


def _code(value: Mapping[str, Any]) -> CodeInfo:
    lists = {name: tuple(value[name]) for name in ("files", "installed", "not_covered")}
    return CodeInfo(part=value["part"], **lists)


def _score(value: Mapping[str, Any] | None) -> Score | None:
    return None if value is None else _sure_score(value)


def _sure_score(value: Mapping[str, Any]) -> Score:
    numbers = ("value", "low", "high", "baseline", "ideal")
    return Score(**{**value, **{name: math.nan if value[name] is None else value[name] for name in numbers}})


def _trial(row: Mapping[str, Any]) -> TrialRow:
    metrics = {name: _sure_score(score) for name, score in row["metrics"].items()}
    return TrialRow(**{**row, "metrics": metrics})


def _run(row: Mapping[str, Any]) -> RunRow:
    curves = {
        name: tuple(math.nan if part is None else part for part in row[name])
        for name in ("accuracy", "loss", "train_loss")
    }
    return RunRow(**{**row, **curves})


def _summary(value: Mapping[str, Any]) -> StackSummary:
    worst = value["worst"]
    return StackSummary(
        stack=value["stack"],
        worst=None if worst is None else (worst[0], _sure_score(worst[1])),
        utility=_score(value["utility"]),
        utility_loss=_score(value["utility_loss"]),
        useless=value["useless"],
        by_pipeline={
            name: PipelineUtility(
                pipeline=part["pipeline"],
                accuracy=_sure_score(part["accuracy"]),
                loss=_score(part["loss"]),
                useless=part["useless"],
            )
            for name, part in value["by_pipeline"].items()
        },
        costs={name: _sure_score(cost) for name, cost in value["costs"].items()},
        incompatible=value["incompatible"],
    )
