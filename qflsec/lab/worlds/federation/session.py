"""The session account of federation matrices: what all their runs over one data set come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from qflsec.accounting.session import SessionAccount, composed
from qflsec.data.spec import PUBLIC
from qflsec.lab.worlds.federation.results import MatrixResult, RunRow

__all__ = ["data_sets", "runs_over", "session_accounts"]


def data_sets(result: MatrixResult) -> dict[str, bool]:
    """The data sets of a matrix, and whether each is the user's own; pipelines of one source share its name."""
    tables = [pipeline["data"] for pipeline in result.pipelines.values()]
    return {_source(table): table["name"] not in PUBLIC for table in tables}


def runs_over(result: MatrixResult, data: str) -> tuple[RunRow, ...]:
    """The runs that trained on a data set: of every pipeline, stack, attack and seed, each once."""
    over = {name for name, pipeline in result.pipelines.items() if _source(pipeline["data"]) == data}
    found = {run.run_id: run for run in result.runs if run.pipeline in over}
    return tuple(run for run in found.values() if not run.outcome.startswith("incompatible"))


def session_accounts(*results: MatrixResult) -> tuple[SessionAccount, ...]:
    """An account for each data set, observer, unit and adjacency that some ledger states an epsilon for.

    No ledger is kept of attacked runs, so they count as runs without a bound: what a layer proves may rest on parties
    that an attack corrupts.

    Args:
        results: Matrices over the same data; a run that several of them share counts once.
    """
    places: dict[tuple[str, str, str, str], None] = {}
    for result in results:
        for (_, observer), rows in result.ledgers.items():
            for row in filter(_bounds, rows):
                data = _source(result.pipelines[row["pipeline"]]["data"])
                places[data, observer, row["unit"], row["adjacency"]] = None
    return tuple(_account(results, *place) for place in places)


def _account(
    results: Sequence[MatrixResult], data: str, observer: str, unit: str, adjacency: str
) -> SessionAccount:
    known: dict[str, tuple[str, tuple[float, float] | None]] = {}
    for result in results:
        epsilons = _epsilons(result, observer, unit, adjacency)
        for run in runs_over(result, data):
            what = f"{run.stack} under attack" if run.attack else run.stack
            known[run.run_id] = (
                what,
                None if run.attack else epsilons.get((run.pipeline, run.stack, run.seed)),
            )
    found = [guarantee for _, guarantee in known.values() if guarantee is not None]
    return SessionAccount(
        data=data,
        observer=observer,
        unit=unit,
        adjacency=adjacency,
        runs=len(known),
        bounded=len(found),
        together=composed(found),
        unbounded=tuple(dict.fromkeys(what for what, guarantee in known.values() if guarantee is None)),
    )


def _epsilons(
    result: MatrixResult, observer: str, unit: str, adjacency: str
) -> dict[tuple[str, str, int], tuple[float, float]]:
    """The least epsilon of each honest run, by pipeline, stack and seed."""
    least: dict[tuple[str, str, int], tuple[float, float]] = {}
    for (stack, who), rows in result.ledgers.items():
        for row in rows if who == observer else ():
            if not _bounds(row) or (row["unit"], row["adjacency"]) != (unit, adjacency):
                continue
            for seed in row.get("seeds", ()):
                place = row["pipeline"], stack, seed
                found = float(row["epsilon"]), float(row["delta"] or 0.0)
                least[place] = min(least.get(place, (math.inf, 0.0)), found)
    return least


def _bounds(row: Mapping[str, Any]) -> bool:
    """Whether a row states a finite epsilon."""
    return row["guarantee"] == "differential privacy" and row["epsilon"] not in (None, "infinity")


def _source(table: Mapping[str, Any]) -> str:
    """What the records come from, in words."""
    return str(table.get("path") or table["name"])
