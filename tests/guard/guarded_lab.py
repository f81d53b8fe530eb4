"""The one place where the guard touches the lab: a preset made smaller, run, and its rows with what lies under them.

Whatever moves in the lab or the loop needs one edit, here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from guarded_numbers import packed, plain

from qflsec.federation import RunResult, run_batch
from qflsec.lab import Matrix, MatrixSpec, build_matrix, load_spec
from qflsec.lab.worlds.federation import work
from qflsec.lab.worlds.federation.matrix import observer_key
from qflsec.lab.worlds.federation.plan import Batch, PlannedTrial, make_plan
from qflsec.threat import ThreatModel

Edits = Mapping[str, object]

PRESETS = ("quickstart", "secagg", "privacy", "blind")

REDUCED: dict[str, Edits] = {
    "quickstart": {
        "pipelines.training.federation.rounds": 6,
        "pipelines.few-records.federation.rounds": 10,
        "pipelines.two-records.federation.rounds": 3,
    },
    "secagg": {
        "pipelines.training.federation.rounds": 2,
        "pipelines.changing-clients.federation.rounds": 12,
        "pipelines.few-records.federation.rounds": 3,
        "attacks.8.params": {"search_steps": 60, "search_starts": 1},
    },
    "privacy": {
        "pipelines.training.federation.rounds": 4,
        "pipelines.few-records.federation.rounds": 8,
        "pipelines.two-records.federation.rounds": 3,
    },
    "blind": {
        "pipelines.training.federation.rounds": 2,
        "pipelines.training.federation.learning_rate": 1.5,
        "pipelines.training.data.members": 9,
        "stacks.delegated.0.shots": 20,
        "stacks.blind.0.shots": 20,
        "stacks.blind, tests.0.shots": 12,
        "stacks.blind, tests.0.tests": 40,
        "stacks.brickwork, tests.0.shots": 8,
        "stacks.brickwork, tests.0.tests": 30,
    },
}
"""What makes each preset small: every pipeline, stack and attack stays, with fewer rounds, shots and steps."""


def specification(preset: str) -> MatrixSpec:
    """A preset with seeded secrets, one seed and the edits of ``REDUCED``."""
    document = load_spec(preset).with_seeds(seeds=(0,)).model_dump(mode="json", exclude_none=True)
    document["secrets"] = "seeded"
    for path, value in REDUCED[preset].items():
        _edit(document, path, value)
    return MatrixSpec.model_validate(document)


def made(spec: MatrixSpec) -> dict[str, dict[str, Any]]:
    """Runs and trials of a matrix by readable keys: numbers, and no id, time, byte count or sentence."""
    matrix = build_matrix(spec)
    plan = make_plan(matrix)
    runs: dict[str, Any] = {}
    trials: dict[str, Any] = {_trial_key(trial): {"status": "incompatible"} for trial in plan.incompatible}
    for batch in plan.batches:
        results, outcome = _execute(batch)
        for run, row, result in zip(batch.runs, outcome.runs, results, strict=True):
            key = f"{run.pipeline} | {run.stack} | {run.label or 'honest'} | {run.seed}"
            runs[key] = _run(matrix, row, result)
        for trial, row in zip(batch.trials, outcome.trials, strict=True):
            trials[_trial_key(trial)] = _trial(row)
    return {"runs": runs, "trials": trials}


def _execute(batch: Batch) -> tuple[list[RunResult], work.Outcome]:
    """The lab's own work on a batch, with the runs that it judged; a batch that broke up would show itself."""
    results: list[RunResult] = []

    def kept(*args: Any, **kwargs: Any) -> list[RunResult]:
        found = run_batch(*args, **kwargs)
        results.extend(found)
        return found

    with mock.patch.object(work, "run_batch", kept):
        outcome = work.execute(batch)
    return results, outcome


def _trial_key(trial: PlannedTrial) -> str:
    return f"{trial.label} | {trial.run.stack} | {trial.run.seed}"


def _trial(row: Mapping[str, Any]) -> dict[str, Any]:
    numbers = ("value", "low", "high", "n", "baseline", "ideal")
    return {
        "status": row["status"],
        "advantage": row["advantage"],
        "metrics": {
            name: [plain(score[part]) for part in numbers] for name, score in sorted(row["metrics"].items())
        },
        "raw": plain(row["raw"]),
    }


def _run(matrix: Matrix, row: Mapping[str, Any], result: RunResult) -> dict[str, Any]:
    names = {observer_key(threat): threat.name for threat in matrix.observers}
    n_clients = result.pipeline.federation.n_clients
    observers = [threat for threat in matrix.observers if max(threat.clients, default=-1) < n_clients]
    return {
        "outcome": row["outcome"].partition(":")[0],
        **{name: plain(row[name]) for name in ("accuracy", "loss", "train_loss", "chance", "seeded_secrets")},
        "n_test": len(result.records("test").labels),
        "initial": packed(result.initial),
        "params": packed(result.params),
        "epsilon": {names[key]: _epsilons(rows) for key, rows in row["ledgers"].items() if rows},
        "k": {threat.name: _smallest_k(result, threat) for threat in observers},
    }


def _epsilons(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """What the ledger says in numbers, in no order: differential privacy by layer, unit and kind of bound."""
    parts = ("layer", "unit", "bound", "epsilon", "delta", "epsilon_unsampled", "steps")
    return sorted(
        ([plain(row[part]) for part in parts] for row in rows if row["epsilon"] is not None), key=str
    )


def _smallest_k(result: RunResult, threat: ThreatModel) -> int:
    """The smallest anonymity set in an observer's view; 0 where it reads nobody's contribution."""
    return min((item.k for item in result.view(threat).readable() if item.k > 0), default=0)


def _edit(document: dict[str, Any], path: str, value: object) -> None:
    *way, last = path.split(".")
    here: Any = document
    for step in way:
        here = here[int(step)] if isinstance(here, list) else here[step]
    here[last] = value
