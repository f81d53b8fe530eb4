"""Numbers that apps report: their means over clients, weighted by numbers of examples."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

__all__ = ["mean_metrics"]

_COUNTS = ("num-examples", "num_examples")


def mean_metrics(bodies: Sequence[bytes | None]) -> dict[str, float]:
    """The mean of each number that all clients report, and the sum of their numbers of examples.

    What is no finite number is left out: a client may report anything.

    Args:
        bodies: What each client reports, in JSON; None where it reports nothing.
    """
    reports = [report for body in bodies if body is not None and (report := _read(body))]
    counts = [next((report[name] for name in _COUNTS if name in report), 0.0) for report in reports]
    total = sum(counts)
    if not reports or not total > 0:
        return {}
    shared = set.intersection(*(set(report) for report in reports)) - set(_COUNTS)
    means = {
        name: sum(c * report[name] for c, report in zip(counts, reports, strict=True)) / total
        for name in sorted(shared)
    }
    return {**means, _COUNTS[0]: total}


def _read(body: bytes) -> dict[str, float]:
    try:
        held = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(held, dict):
        return {}
    return {
        str(name): float(value)
        for name, value in held.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
