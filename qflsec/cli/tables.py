"""Results as lines and tables of plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qflsec.lab import CellDifference, MatrixResult
from qflsec.lab.worlds.federation.document import plain
from qflsec.lab.worlds.federation.sentences import figures

__all__ = ["difference_line", "differences_document", "trials_csv"]

_COLUMNS = (
    "matrix",
    "attack",
    "family",
    "stack",
    "pipeline",
    "threat",
    "cell_state",
    "seed",
    "status",
    "advantage",
    "reason",
    "seconds",
    "trial_id",
    "run_id",
    "baseline_run_id",
)


def trials_csv(result: MatrixResult) -> str:
    """One line for each trial; metrics in further columns."""
    metrics = sorted(
        {name for cell in result.cells.values() for row in cell.per_seed for name in row.metrics}
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *metrics])
    for cell in result.cells.values():
        for row in cell.per_seed:
            writer.writerow(
                [
                    result.name,
                    cell.attack,
                    cell.family,
                    cell.stack,
                    cell.pipeline,
                    cell.threat,
                    cell.state,
                    row.seed,
                    row.status,
                    "" if row.advantage is None else repr(row.advantage),
                    row.reason,
                    f"{row.seconds:.6f}",
                    row.trial_id,
                    row.run_id,
                    row.baseline_run_id,
                    *(repr(row.metrics[name].value) if name in row.metrics else "" for name in metrics),
                ]
            )
    return text.getvalue()


def differences_document(differences: Sequence[CellDifference]) -> dict[str, Any]:
    """The differences as a JSON document."""
    document: dict[str, Any] = plain(
        {
            "schema": "qflsec-matrix-diff/1",
            "cells_differing": sum(not part.same for part in differences),
            "cells_total": len(differences),
            "cells": [asdict(part) for part in differences],
        }
    )
    return document


def difference_line(part: CellDifference) -> str:
    """One difference as a sentence."""
    where = f"{part.attack} x {part.stack}"
    if part.before is None or part.after is None:
        return f"{where}: only in the {'second' if part.before is None else 'first'} result."
    words = [] if part.before == part.after else [f"{part.before} became {part.after}"]
    if part.difference is not None:
        words.append(f"advantage changed by {figures(part.difference)}")
    elif part.first is not None or part.second is not None:
        words.append("no seed in common")
    return f"{where}: {'; '.join(words) or 'other seeds'}."
