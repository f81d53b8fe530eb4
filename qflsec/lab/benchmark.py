"""A benchmark: the result of a matrix with one row for each trial, made small enough to ship, and platforms beside it.

The document is that of the matrix, so that whatever reads results reads it too (``qflsec matrix diff``). What only a
drill-down needs is left out: raw scores, further metrics, ledgers, ids of runs, and curves but those of honest runs without
a defense.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError, StoreError
from qflsec.lab.grid.results import Result, plain
from qflsec.lab.platforms import PlatformRow
from qflsec.lab.reading import from_json, read_result, to_dict
from qflsec.lab.worlds.federation.results import MatrixResult

__all__ = [
    "SCHEMA",
    "Benchmark",
    "federated",
    "pack",
    "read_benchmark",
    "reference_of",
    "refuse_holes",
    "to_text",
]

SCHEMA = "qflsec-benchmark/1"
_KEY = "benchmark"
_DIGITS = 6
_LINES = ("attacks", "cells", "runs", "summaries")
"""Lists that get a line for each entry, so that versions of a document can be compared."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a benchmark holds.

    Attributes:
        result: The matrix.
        platforms: A row for each platform and seed; empty where none was measured.
    """

    result: MatrixResult
    platforms: tuple[PlatformRow, ...] = ()


def federated(result: Result[Any]) -> MatrixResult:
    """The result, of the kind that benchmarks are made of.

    Raises:
        ConfigError: It is of another kind.
    """
    if not isinstance(result, MatrixResult):
        raise ConfigError(
            "a benchmark is made of a federation matrix", got=f"kind {result.kind!r}", expected="'federation'"
        )
    return result


def refuse_holes(result: MatrixResult) -> None:
    """Refuse a result in which a cell has not been run to its end.

    Raises:
        ConfigError: There is one.
    """
    pending = [f"{cell.attack} x {cell.stack}" for cell in result.cells.values() if cell.state == "pending"]
    if pending:
        raise ConfigError(
            "a benchmark has no holes",
            got=f"{len(pending)} cells that are not done, such as {pending[0]}",
            fix=f"go on with {result.command}",
        )


def pack(found: Benchmark) -> dict[str, Any]:
    """The document of a benchmark, in JSON types.

    Raises:
        ConfigError: A cell has not been run to its end.
    """
    result = found.result
    refuse_holes(result)
    reference = reference_of(result)
    document = to_dict(result)
    document["cells"] = [_cell(cell) for cell in document["cells"]]
    document["runs"] = [
        _run(run, whole=run["stack"] == reference) for run in document["runs"] if not run["attack"]
    ]
    document |= {"ledgers": [], "session": [], "data": {}}
    rows = [asdict(row) for row in found.platforms]
    short: dict[str, Any] = _rounded(plain({**document, _KEY: {"schema": SCHEMA, "platforms": rows}}))
    return short


def to_text(document: Mapping[str, Any]) -> str:
    """The document as JSON, in which the entries of long lists have a line each."""
    parts = []
    for key, value in document.items():
        if key in _LINES:
            lines = ",\n".join(json.dumps(one, allow_nan=False) for one in value)
            parts.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def read_benchmark(path: str | Path) -> Benchmark:
    """The benchmark in a document, or in a store or exported result, which has no platforms.

    Raises:
        StoreError: The file is none of these, or of another version.
        ConfigError: It is no federation matrix.
    """
    place = Path(path)
    if place.suffix != ".json":
        return Benchmark(result=federated(read_result(place)))
    text = place.read_text(encoding="utf-8")
    result = federated(from_json(text))
    extra = json.loads(text).get(_KEY)
    if extra is None:
        return Benchmark(result=result)
    if extra.get("schema") != SCHEMA:
        raise StoreError("not a benchmark of this version", got=extra.get("schema"), expected=SCHEMA)
    return Benchmark(result=result, platforms=tuple(PlatformRow(**row) for row in extra["platforms"]))


def reference_of(result: MatrixResult) -> str:
    """The stack without layers of its own, or the first."""
    return next((stack.name for stack in result.stacks if not stack.layers), result.stacks[0].name)


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    rows = [_told({**row, "metrics": {}, "run_id": ""}) for row in cell["per_seed"]]
    return {**cell, "per_seed": rows}


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """A trial without what is left out, and without what is empty and may be."""
    needed = {"trial_id", "run_id", "seed", "status", "advantage", "metrics", "interval", "aborts"}
    left = {"raw", "baseline_run_id", "predicted", "mixed", "traceback", "seconds"}
    return {name: part for name, part in row.items() if name in needed or (part and name not in left)}


def _run(run: Mapping[str, Any], *, whole: bool) -> dict[str, Any]:
    curves: dict[str, Sequence[float]] = {
        name: run[name] if whole else run[name][-1:] for name in ("accuracy", "train_loss")
    }
    kept = ("run_id", "pipeline", "stack", "seed", "outcome", "aborts")
    costs = {name: cost for name, cost in run["costs"].items() if name != "cpu_seconds"}
    return {**{name: run[name] for name in kept}, **curves, "loss": [], "costs": costs}


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON is heterogeneous
    """The same value with numbers of few digits."""
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    return value
