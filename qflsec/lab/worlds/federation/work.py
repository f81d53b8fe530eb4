"""The work of one batch: runs, attacks, scores and ledgers, from plain values to plain values.

It happens in a worker process, which makes its own objects from the specification. Transcripts stay in that
process; rows that can be written to the store come back.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from qflsec.attacks import Blocked, Inference
from qflsec.base import IncompatibleAttack, IncompatibleStack, QflsecError
from qflsec.federation import RunResult, RunSpec
from qflsec.federation.loop import run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import LOST, Raw, TrialScore, score_claim, score_manipulation
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix, matrix_from_json, observer_key
from qflsec.lab.worlds.federation.plan import Batch, PlannedRun, PlannedTrial
from qflsec.lab.worlds.federation.states import trial_status
from qflsec.threat import ThreatModel

__all__ = ["Outcome", "execute", "trial_row"]

Row = dict[str, Any]
_WATCH = "qflsec-watch"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The rows of one batch, as :meth:`qflsec.lab.grid.store.Store.append` takes them."""

    runs: tuple[Row, ...]
    trials: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A run that could not be made."""

    outcome: str
    traceback: str


_Made = RunResult | _Failure


def execute(batch: Batch, *, parent: int | None = None) -> Outcome:
    """Make the runs of a batch and score its trials on them.

    A trial that fails is a row with its traceback and takes no other down.

    Args:
        batch: What to do.
        parent: The process that asked; a worker leaves the handling of Ctrl-C to it.
    """
    if parent is not None and parent != os.getpid():
        _follow(parent)
    try:
        with _one_thread():
            return _execute(matrix_from_json(batch.spec, batch.code), batch)
    except Exception as error:  # noqa: BLE001 - whatever it is becomes rows
        reason, trace = f"the batch: {_sentence(error)}", traceback.format_exc()
        return Outcome(
            runs=(),
            trials=tuple(trial_row(trial, "failed", reason=reason, trace=trace) for trial in batch.trials),
        )


def trial_row(
    trial: PlannedTrial,
    status: str,
    *,
    score: TrialScore | None = None,
    reason: str = "",
    trace: str = "",
    seconds: float = 0.0,
) -> Row:
    """The store's row of a trial."""
    return {
        "trial_id": trial.trial_id,
        "run_id": trial.run.run_id,
        "baseline_run_id": trial.baseline_run_id,
        "seed": trial.run.seed,
        "status": status,
        "advantage": None if score is None or score.reason else score.advantage,
        "metrics": {} if score is None else {name: asdict(part) for name, part in score.metrics.items()},
        "raw": {} if score is None else dict(score.raw),
        "reason": reason,
        "traceback": trace,
        "seconds": seconds,
        "identity": dict(trial.identity),
    }


def _follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, and end with it: a killed parent must not leave workers behind."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() == parent and not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _execute(matrix: Matrix, batch: Batch) -> Outcome:
    made = _make_runs(matrix, batch)
    return Outcome(
        runs=tuple(_run_row(matrix, run, made[run.run_id]) for run in batch.runs),
        trials=tuple(_judge(matrix, trial, made) for trial in batch.trials),
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: batches are the unit of parallel work, and bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_runs(matrix: Matrix, batch: Batch) -> dict[str, _Made]:
    specs = [_spec(matrix, run) for run in batch.runs]
    try:
        made: list[_Made] = [*_run(matrix, batch, specs)]
    except Exception:  # noqa: BLE001 - whatever it is becomes a row
        # A batched run equals a single one bit for bit, so one by one they show which of them fails.
        made = [_run_alone(matrix, batch, spec) for spec in specs]
    return {run.run_id: result for run, result in zip(batch.runs, made, strict=True)}


def _spec(matrix: Matrix, run: PlannedRun) -> RunSpec:
    return matrix.entry(run.label).run_spec(run.seed) if run.label else RunSpec(seed=run.seed)


def _run(matrix: Matrix, batch: Batch, specs: list[RunSpec]) -> list[RunResult]:
    column = matrix.stacks[batch.stack]
    assert column.stack is not None
    return run_batch(
        matrix.pipelines[batch.pipeline],
        column.stack,
        specs,
        secrets=matrix.spec.secrets,
        grant_honest_updates=any("honest-updates" in threat.knows for threat in matrix.observers),
    )


def _run_alone(matrix: Matrix, batch: Batch, spec: RunSpec) -> _Made:
    try:
        return _run(matrix, batch, [spec])[0]
    except (IncompatibleAttack, IncompatibleStack) as error:
        return _Failure(outcome=f"incompatible: {error}", traceback="")
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
        return _Failure(outcome=f"failed: {_sentence(error)}", traceback=traceback.format_exc())


def _run_row(matrix: Matrix, run: PlannedRun, made: _Made) -> Row:
    row: Row = {
        "run_id": run.run_id,
        "seed": run.seed,
        "outcome": made.outcome,
        "traceback": made.traceback,
        "identity": dict(run.identity),
        "accuracy": [],
        "loss": [],
        "train_loss": [],
        "chance": None,
        "costs": {},
        "ledgers": {},
        "seeded_secrets": matrix.spec.secrets == "seeded",
    }
    if isinstance(made, _Failure):
        return row
    for name in ("accuracy", "loss", "train_loss"):
        row[name] = [float(value) for value in getattr(made, name)]
    row["chance"] = _chance(made)
    row["costs"] = {name: float(value) for name, value in made.costs.items()}
    row["seeded_secrets"] = made.seeded_secrets
    if not run.label and made.outcome == "completed":
        row["ledgers"] = {observer_key(threat): _ledger(made, threat) for threat in matrix.observers}
    return row


def _chance(result: RunResult) -> float:
    """The accuracy of always answering the most frequent class of the test records."""
    labels = result.records("test").labels
    return float(torch.bincount(labels).max()) / max(1, len(labels))


def _ledger(result: RunResult, threat: ThreatModel) -> list[dict[str, object]]:
    """The ledger of a run; empty for coalitions of parties that this run's pipeline does not have."""
    if threat.absent(result.pipeline.parties):
        return []
    return [row.to_dict() for row in result.ledger(threat)]


def _judge(matrix: Matrix, trial: PlannedTrial, made: Mapping[str, _Made]) -> Row:
    entry = matrix.entry(trial.label)
    attacked, honest = made[trial.run.run_id], made[trial.honest.run_id]
    # the honest run comes first: what ends it as well is no doing of the attack
    for role, result in (("honest", honest), ("attacked", attacked)):
        status, reason = trial_status(result.outcome, entry.attack.card.goal)
        if status != "completed":
            words = reason if attacked is honest else f"the {role} run: {reason}"
            score = _with_dropped(LOST, result) if status == "lost" else None
            return trial_row(trial, status, score=score, reason=words, trace=result.traceback)
    assert isinstance(attacked, RunResult)
    assert isinstance(honest, RunResult)
    started = time.process_time()
    try:
        found = _score(entry, attacked, honest)
    except IncompatibleAttack as error:  # what only the data of this seed can tell
        return trial_row(trial, "incompatible", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
        return trial_row(trial, "failed", reason=_sentence(error), trace=traceback.format_exc())
    seconds = time.process_time() - started
    if isinstance(found, Blocked):
        return trial_row(trial, "blocked", reason=found.reason, seconds=seconds)
    found = _with_dropped(found, attacked)
    if found.reason:
        return trial_row(trial, "undefined", score=found, reason=found.reason, seconds=seconds)
    return trial_row(trial, "ok", score=found, seconds=seconds)


def _with_dropped(score: TrialScore, attacked: _Made) -> TrialScore:
    """The score with what the run's server did not count: round and client, and why."""
    if isinstance(attacked, _Failure) or not attacked.dropped:
        return score
    dropped: Raw = {
        "dropped": [[drop.round, drop.client] for drop in attacked.dropped],
        "dropped_because": [f"client:{drop.client}: {drop.reason}" for drop in attacked.dropped],
    }
    return replace(score, raw={**score.raw, **dropped})


def _score(entry: AttackEntry, attacked: RunResult, honest: RunResult) -> TrialScore | Blocked:
    attack = entry.attack
    if isinstance(attack, Inference):
        seed = attacked.spec.seed
        trainer = ShadowTrainer(pipeline=attacked.pipeline, like=attacked.dataset, seed=seed)
        challenge, truth = challenge_for(attack, attacked, seed=seed, threat=entry.threat, trainer=trainer)
        claim = attack(attacked.view(entry.threat), challenge)
        return claim if isinstance(claim, Blocked) else score_claim(claim, truth)
    return score_manipulation(attack, attacked, honest)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, QflsecError) else f"{type(error).__name__}: {text}"
