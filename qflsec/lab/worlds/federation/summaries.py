"""What a stack leaves of a model's use on each pipeline, from honest runs alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from qflsec.accounting.statistics import clopper_pearson
from qflsec.base import Score
from qflsec.lab.grid.units import Row
from qflsec.lab.worlds.federation.results import PipelineSummary
from qflsec.lab.worlds.federation.samples import Sample
from qflsec.lab.worlds.federation.states import shown

__all__ = ["summarise_pipeline"]


def summarise_pipeline(
    pipeline: str, runs: Mapping[int, Row], reference: Mapping[int, Row] | None, *, n_test: int
) -> PipelineSummary:
    """Accuracy, loss and costs of one stack on one pipeline.

    Args:
        pipeline: The pipeline's name.
        runs: The stack's completed honest runs by seed.
        reference: Those of the stack without layers; empty where the matrix has no such stack, None for that
            stack itself, which is not called useless.
        n_test: The number of test records.
    """
    if not runs:
        return PipelineSummary(pipeline=pipeline)
    sample, accuracy = _accuracy(runs, n_test)
    useless, undecided, needed = False, False, None
    compared = runs if reference is None else reference
    if reference is not None:
        control = _accuracy(reference, n_test) if reference else None
        useless, undecided = _use(accuracy, None if control is None else control[1])
        if undecided and control is not None and shown(control[1]) == "open":
            needed = control[0].seeds_to_decide(control[1])
        elif undecided:
            needed = sample.seeds_to_decide(accuracy, *(() if control is None else (control[1].low,)))
    return PipelineSummary(
        pipeline=pipeline,
        accuracy=accuracy,
        loss=_lost("accuracy", _last(runs), _last(compared)),
        useless=useless,
        undecided=undecided,
        seeds_to_decide=needed,
        costs=_costs(runs),
        own=_own(runs),
        detection=_detection(runs),
        detection_lost=_detection_lost(runs, compared),
    )


def _use(accuracy: Score, control: Score | None) -> tuple[bool, bool]:
    """Whether a stack is useless, and whether nobody can tell: a model that never learned cannot show it."""
    own, learns = shown(accuracy), "better" if control is None else shown(control)
    if own == "better" or learns == "nothing":
        return False, False
    worse = own == "nothing" or (control is not None and accuracy.high < control.low)
    return (True, False) if learns == "better" and worse else (False, True)


def _accuracy(runs: Mapping[int, Row], n_test: int) -> tuple[Sample, Score]:
    values = _last(runs)
    found = [clopper_pearson(round(value * n_test), n_test) for value in values.values()]
    sample = Sample(
        values=tuple(values.values()), within=(0.0, 1.0), records=tuple((one.low, one.high) for one in found)
    )
    chance = max(float(row.content["chance"]) for row in runs.values())
    return sample, sample.score(name="accuracy", baseline=chance, ideal=1.0)


def _lost(name: str, mine: Mapping[int, float], theirs: Mapping[int, float]) -> Score | None:
    """What is missing of a value that lies between 0 and 1, seed by seed; None where no seed has both."""
    pairs = tuple(theirs[seed] - value for seed, value in mine.items() if seed in theirs)
    if not pairs:
        return None
    return Sample(values=pairs, within=(-1.0, 1.0)).score(name=f"{name}_loss", baseline=0.0, ideal=0.0)


def _own(runs: Mapping[int, Row]) -> dict[str, Score]:
    """What the parts that clients keep are worth; nothing where they keep none."""
    rows = [row.content["own"] for row in runs.values() if "own" in row.content]
    return {
        name: Sample(values=tuple(row[name] for row in rows if name in row), within=(0.0, 1.0)).score(
            name=name, baseline=0.0, ideal=1.0
        )
        for name in dict.fromkeys(name for row in rows for name in row)
    }


def _detection(runs: Mapping[int, Row]) -> dict[str, Score]:
    """How the class that a pipeline detects is ranked and found; nothing where it names none."""
    rows = [row.content["detection"] for row in runs.values() if "detection" in row.content]
    if not rows:
        return {}
    guessing = {"auroc": 0.5, "aupr": sum(row["prevalence"] for row in rows) / len(rows)}
    if all("recall" in row for row in rows):  # rows of earlier versions have none
        guessing["recall"] = rows[0]["guessed"]
    return {
        name: Sample(values=tuple(row[name] for row in rows), within=(0.0, 1.0)).score(
            name=name, baseline=baseline, ideal=1.0
        )
        for name, baseline in guessing.items()
    }


def _detection_lost(runs: Mapping[int, Row], reference: Mapping[int, Row]) -> dict[str, Score]:
    """What a stack takes of it, seed by seed; nothing where no class is named, or no run is without layers."""
    mine, theirs = (
        {seed: row.content.get("detection", {}) for seed, row in each.items()} for each in (runs, reference)
    )
    found = {
        name: _lost(
            name,
            {seed: row[name] for seed, row in mine.items() if name in row},
            {seed: row[name] for seed, row in theirs.items() if name in row},
        )
        for name in ("auroc", "aupr", "recall")
    }
    return {name: lost for name, lost in found.items() if lost is not None}


def _last(runs: Mapping[int, Row]) -> dict[int, float]:
    return {seed: float(row.content["accuracy"][-1]) for seed, row in runs.items()}


def _costs(runs: Mapping[int, Row]) -> dict[str, Score]:
    names = dict.fromkeys(name for row in runs.values() for name in row.content["costs"])
    return {
        name: Sample(
            values=tuple(row.content["costs"].get(name, 0.0) for row in runs.values()), within=(0.0, math.inf)
        ).score(name=name, baseline=0.0, ideal=0.0, unit=name.rpartition("_")[2])
        for name in names
    }
