"""Differences of results as a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from qflsec.lab import CellDifference
from qflsec.lab.grid.results import plain

__all__ = ["differences_document"]


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
