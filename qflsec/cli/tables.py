"""Results as lines and tables of plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qflsec.lab import CellDifference, Result
from qflsec.lab.grid.results import plain

__all__ = ["differences_document", "trials_csv"]


def trials_csv(result: Result[Any]) -> str:
    """One line for each trial; what only some trials have comes last."""
    records = [
        {"matrix": result.name, **record} for cell in result.cells.values() for record in cell.records()
    ]
    longest = list(dict.fromkeys(name for record in records for name in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, longest, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: repr(value) if isinstance(value, float) else value for name, value in record.items()}
        for record in records
    )
    return text.getvalue()


def differences_document(differences: Sequence[CellDifference]) -> dict[str, Any]:
    """The differences as a JSON document."""
    document: dict[str, Any] = plain(
        {
            "schema": "qflsec-matrix-diff/2",
            "cells_differing": sum(not part.same for part in differences),
            "cells_total": len(differences),
            "cells": [asdict(part) for part in differences],
        }
    )
    return document
