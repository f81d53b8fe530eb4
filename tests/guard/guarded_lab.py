"""The one place where the guard touches the lab: a preset made smaller, run, and its rows with what lies under them.

Whatever moves in the lab or the loop needs one edit, here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

from guarded_numbers import packed, plain

from qflsec.federation import RunResult, run_batch
from qflsec.lab import MatrixSpec, load_spec
from qflsec.lab.grid.units import Row
from qflsec.lab.grid.work import Task, execute
from qflsec.lab.worlds.federation import work
from qflsec.lab.worlds.federation.plan import PlannedRun, RunBatch, ShadowBatch
from qflsec.lab.worlds.federation.world import FederationWorld
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
        "pipelines.few-records.federation.rounds": 4,
        "pipelines.two-records.federation.rounds": 3,
        "pipelines.half-of-ten.federation.rounds": 3,
        "pipelines.hybrid.federation.rounds": 2,
        "pipelines.four-records.federation.rounds": 1,
        "pipelines.four-records.model.layers": 1,
        **{f"attacks.{place}.params.shadows": 4 for place in (1, 2, 3, 4, 16)},
        "attacks.9.params": {"restarts": 6, "screened": 32},
        "attacks.10.params": {"restarts": 2, "screened": 16, "iterations": 10},
        "attacks.12.params": {"restarts": 1, "screened": 8, "iterations": 2, "rounds": 1},
        "attacks.14.params": {
            "search_steps": 5,
            "search_starts": 1,
            "restarts": 2,
            "screened": 16,
            "iterations": 4,
        },
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
    world = FederationWorld.make(spec)
    plan = world.plan(frozenset())
    runs: dict[str, Any] = {}
    trials = {row.unit_id: _trial(row) for row in plan.ready}
    given: dict[str, Row] = {}
    for batch in plan.batches:
        results, rows = _execute(world, batch, given)
        given |= rows
        if not isinstance(batch, RunBatch):  # shadow models: what they are shows in the scores
            continue
        for run, result in zip(batch.runs, results, strict=True):
            key = f"{run.pipeline} | {run.stack} | {run.label or 'honest'} | {run.seed}"
            runs[key] = _run(world, run, rows, result)
        trials |= {trial.unit_id: _trial(rows[trial.unit_id]) for trial in batch.trials}
    names = {
        trial.unit_id: f"{trial.label} | {trial.run.stack} | {trial.seed}"
        for trial in world.layout.trials.values()
    }
    return {"runs": runs, "trials": {names[unit_id]: row for unit_id, row in trials.items()}}


def _execute(
    world: FederationWorld, batch: RunBatch | ShadowBatch, given: Mapping[str, Row]
) -> tuple[list[RunResult], dict[str, Row]]:
    """The lab's own work on a batch, with the runs that it judged; a batch that broke up would show itself."""
    results: list[RunResult] = []

    def kept(*args: Any, **kwargs: Any) -> list[RunResult]:
        found = run_batch(*args, **kwargs)
        results.extend(found)
        return found

    task = Task(
        index=0,
        kind=FederationWorld,
        spec=world.spec.to_json(),
        code=world.code_digest,
        batch=batch,
        given=given,
    )
    with mock.patch.object(work, "run_batch", kept):
        _, rows = execute(task)
    return results, {row.unit_id: row for row in rows}


def _trial(row: Row) -> dict[str, Any]:
    if row.status == "incompatible":
        return {"status": row.status}
    numbers = ("value", "low", "high", "n", "baseline", "ideal")
    metrics = row.content.get("metrics", {})
    return {
        "status": row.status,
        "advantage": row.content.get("advantage"),
        "metrics": {
            name: [plain(score[part]) for part in numbers] for name, score in sorted(metrics.items())
        },
        "raw": plain(row.content.get("raw", {})),
    }


def _run(
    world: FederationWorld, run: PlannedRun, rows: Mapping[str, Row], result: RunResult
) -> dict[str, Any]:
    row, n_clients = rows[run.unit_id], result.pipeline.federation.n_clients
    observers = [threat for threat in world.matrix.observers if max(threat.clients, default=-1) < n_clients]
    ledgers = {threat.name: rows.get(run.ledger(threat).unit_id) for threat in observers}
    parts = ("accuracy", "loss", "train_loss", "chance", "seeded_secrets")
    return {
        "outcome": row.status,
        **{name: plain(row.content[name]) for name in parts},
        "n_test": len(result.records("test").labels),
        "initial": packed(result.initial),
        "params": packed(result.params),
        "epsilon": {
            name: _epsilons(ledger.content["rows"])
            for name, ledger in ledgers.items()
            if ledger is not None and ledger.content.get("rows")
        },
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
