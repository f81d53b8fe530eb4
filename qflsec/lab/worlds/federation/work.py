"""The work of one batch: runs, attacks, scores and ledgers, as rows of the store.

Transcripts stay in the process that makes the runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from qflsec.accounting import RowWriter
from qflsec.accounting.ledger import LedgerRow
from qflsec.accounting.predictions import mixed, predicted
from qflsec.attacks import (
    ActiveInference,
    Blocked,
    ClientMembershipChallenge,
    Inference,
    MembershipChallenge,
)
from qflsec.base import IncompatibleAttack, IncompatibleStack
from qflsec.base.failures import traceback_of
from qflsec.data import load
from qflsec.federation import RunResult, RunSpec
from qflsec.federation.loop import run_batch
from qflsec.federation.shadows import ShadowTrainer
from qflsec.lab.challenges import challenge_for
from qflsec.lab.grid.ids import canonical
from qflsec.lab.grid.units import Row
from qflsec.lab.grid.work import sentence_of
from qflsec.lab.scoring import LOST, TrialScore, mean_ranking, score_claim, score_manipulation
from qflsec.lab.worlds.federation import engines
from qflsec.lab.worlds.federation.clients import client_facts
from qflsec.lab.worlds.federation.datasets import data_facts
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix
from qflsec.lab.worlds.federation.own import own_mixes
from qflsec.lab.worlds.federation.plan import PlannedRun, PlannedTrial, RunBatch
from qflsec.lab.worlds.federation.shadows import SharedTrainer, candidates_of, stored_models
from qflsec.lab.worlds.federation.states import trial_status
from qflsec.threat import ThreatModel, View

__all__ = ["execute"]


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """A run that could not be made."""

    outcome: str
    traceback: str


_Made = RunResult | _Failure


def execute(matrix: Matrix, batch: RunBatch, given: Mapping[str, Row]) -> Iterator[Row]:
    """Make the runs of a batch and score its trials on them.

    A trial that fails is a row with its traceback and takes no other down.

    Args:
        matrix: The matrix.
        batch: What to do.
        given: Rows of shadow models, by id.
    """
    made = _make_runs(matrix, batch)
    seen = _Seen()
    trials: dict[str, list[PlannedTrial]] = {}
    for trial in batch.trials:
        trials.setdefault(trial.run.unit_id, []).append(trial)
    for run in batch.runs:
        # one view is kept: trials on one view follow one another, and the first begins with that of the last ledger
        own = sorted(trials.get(run.unit_id, ()), key=lambda one: _look(run, matrix.entry(one.label).threat))
        first = matrix.entry(own[0].label).threat if own else None
        yield from _run_rows(matrix, run, made[run.unit_id], seen, last=first)
        for trial in own:
            yield _judge(matrix, trial, made, given, seen)


def _look(run: PlannedRun, threat: ThreatModel) -> tuple[str, str]:
    """Which run an observer looks at, and which observer."""
    return run.unit_id, canonical(threat.to_config())


class _Seen:
    """What observers hold of a batch's runs, and what their ledgers say; the last view, models and all ledgers are kept."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, str], View] | None = None
        self._models: tuple[str, Mapping[str, torch.Tensor]] | None = None
        self._ledgers: dict[tuple[str, str], tuple[LedgerRow, ...]] = {}

    def view(self, run: PlannedRun, made: RunResult, threat: ThreatModel) -> View:
        """What an observer holds of a run; not to be changed."""
        key = _look(run, threat)
        if self._last is None or self._last[0] != key:
            self._last = key, made.view(threat.at(run.seed))
        return self._last[1]

    def ledger(self, run: PlannedRun, made: RunResult, threat: ThreatModel) -> tuple[LedgerRow, ...]:
        """What a run's ledger says of an observer."""
        key = _look(run, threat)
        if key not in self._ledgers:
            self._ledgers[key] = made.ledger(threat.at(run.seed), view=self.view(run, made, threat))
        return self._ledgers[key]

    def models(self, row: Row) -> Mapping[str, torch.Tensor]:
        """The shadow models of a row; not to be changed."""
        if self._models is None or self._models[0] != row.unit_id:
            self._models = row.unit_id, stored_models(row)
        return self._models[1]

    def proof(self, run: PlannedRun, made: RunResult, entry: AttackEntry) -> dict[str, Any]:
        """What the ledger of a run against an attack's observer allows the attack, as a trial stores it."""
        if not isinstance(entry.attack, Inference):
            return {}
        rows = self.ledger(run, made, entry.threat)
        proof = predicted(_about(entry.attack, rows), entry.attack.reads)
        found = {"predicted": {} if proof is None else proof.to_dict(), "mixed": mixed(rows)}
        return {name: part for name, part in found.items() if part}


def _about(attack: Inference, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """The rows that bound an attack's answers; none do where members and others were not drawn by chance from their like."""
    if issubclass(attack.challenge_type, MembershipChallenge):
        return list(rows)
    if issubclass(attack.challenge_type, ClientMembershipChallenge):
        return [row for row in rows if row.sealed or row.unit == "client"]
    return []


def _make_runs(matrix: Matrix, batch: RunBatch) -> dict[str, _Made]:
    specs = [_spec(matrix, run) for run in batch.runs]
    if matrix.spec.engine != "loop":
        return {
            run.unit_id: _alone(partial(_by_flower, matrix, run, spec))
            for run, spec in zip(batch.runs, specs, strict=True)
        }
    try:
        made: list[_Made] = [*_run(matrix, batch, specs)]
    except Exception:  # noqa: BLE001 - whatever it is becomes a row
        # A batched run equals a single one bit for bit, so one by one they show which of them fails.
        made = [_alone(partial(_by_loop, matrix, batch, spec)) for spec in specs]
    return {run.unit_id: result for run, result in zip(batch.runs, made, strict=True)}


def _spec(matrix: Matrix, run: PlannedRun) -> RunSpec:
    if not run.label:
        return RunSpec(seed=run.seed)
    entry = matrix.entry(run.label)
    spec = entry.run_spec(run.seed)
    if (
        not isinstance(entry.attack, ActiveInference)
        or entry.attack.challenge_type is not MembershipChallenge
    ):
        return spec
    pipeline = matrix.pipelines[run.pipeline]
    dataset = load(pipeline.data, run.seed)
    return replace(
        spec, asked=candidates_of(pipeline, dataset, run.seed, corrupted=entry.threat.at(run.seed).clients)
    )


def _run(matrix: Matrix, batch: RunBatch, specs: list[RunSpec]) -> list[RunResult]:
    column = matrix.column(batch.pipeline, batch.stack)
    assert column.stack is not None
    return run_batch(
        matrix.pipelines[batch.pipeline],
        column.stack,
        specs,
        secrets=matrix.spec.secrets,
        grant_honest_updates=_honest_granted(matrix),
    )


def _by_loop(matrix: Matrix, batch: RunBatch, spec: RunSpec) -> RunResult:
    return _run(matrix, batch, [spec])[0]


def _by_flower(matrix: Matrix, run: PlannedRun, spec: RunSpec) -> RunResult:
    column = matrix.column(run.pipeline, run.stack)
    assert column.stack is not None
    job = engines.Job(
        spec=matrix.spec.to_json(),
        code=matrix.code_digest,
        pipeline=run.pipeline,
        stack=run.stack,
        seed=run.seed,
        label=run.label,
    )
    return engines.made_by_flower(
        matrix.spec.engine,
        matrix.pipelines[run.pipeline],
        column.stack,
        spec,
        job,
        secrets=matrix.spec.secrets,
        grant_honest_updates=_honest_granted(matrix),
    )


def _honest_granted(matrix: Matrix) -> bool:
    """Whether some threat model of the matrix grants honest updates."""
    return any("honest-updates" in threat.knows for threat in matrix.observers)


def _alone(make: Callable[[], RunResult]) -> _Made:
    """One run, or what it failed of."""
    try:
        return make()
    except (IncompatibleAttack, IncompatibleStack) as error:
        return _Failure(outcome=f"incompatible: {error}", traceback="")
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
        return _Failure(outcome=f"failed: {sentence_of(error)}", traceback=traceback_of(error))


def _run_rows(
    matrix: Matrix, run: PlannedRun, made: _Made, seen: _Seen, *, last: ThreatModel | None
) -> Iterator[Row]:
    """The row of a run and, for an honest one, those of its ledgers, that of one observer last."""
    status, _, reason = made.outcome.partition(": ")
    content: dict[str, Any] = {"seeded_secrets": matrix.spec.secrets == "seeded"}
    if isinstance(made, RunResult):
        content = {
            **{
                name: [float(value) for value in getattr(made, name)]
                for name in ("accuracy", "loss", "train_loss")
            },
            "chance": _chance(made),
            "costs": {name: float(value) for name, value in made.costs.items()},
            "seeded_secrets": made.seeded_secrets,
            **_aborts(made),
            **({} if run.label else {"data": data_facts(made)}),
            **({"detection": found} if (found := mean_ranking(made)) else {}),
            **({"own": own} if (own := {} if run.label else own_mixes(made)) else {}),
        }
        if made.outcome == "completed" and run.seed == matrix.spec.seeds[0]:
            content["clients"] = client_facts(made)
    row = run.row(status, content, reason=reason, traceback=made.traceback)
    yield row
    if run.label or not row.settled:
        return
    stack = matrix.column(run.pipeline, run.stack).stack
    for threat in sorted(matrix.observers, key=lambda one: one == last):
        unknown = "" if stack is None else engines.observer_fits(matrix.spec.engine, stack, threat)
        if unknown and made.outcome == "completed":
            said = RowWriter(observer=threat.name, layer="engine").not_covered(unknown)
            yield run.ledger(threat).row("completed", {"rows": [said.to_dict()]})
        else:
            yield _ledger_row(run, made, threat, seen)


def _chance(result: RunResult) -> float:
    """The accuracy of always answering the most frequent class of the test records."""
    labels = result.records("test").labels
    return float(torch.bincount(labels).max()) / max(1, len(labels))


def _ledger_row(run: PlannedRun, made: _Made, threat: ThreatModel, seen: _Seen) -> Row:
    """A run's ledger; empty where it did not complete, and for parties that its pipeline does not have."""
    unit = run.ledger(threat)
    status = made.outcome.partition(": ")[0]
    if not isinstance(made, RunResult) or status != "completed":
        return unit.row(status)
    if threat.absent(made.pipeline.parties):
        return unit.row(status, {"rows": []})
    try:
        rows = [row.to_dict() for row in seen.ledger(run, made, threat)]
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
        return unit.row("failed", reason=sentence_of(error), traceback=traceback_of(error))
    return unit.row(status, {"rows": rows})


def _judge(
    matrix: Matrix, trial: PlannedTrial, made: Mapping[str, _Made], given: Mapping[str, Row], seen: _Seen
) -> Row:
    entry = matrix.entry(trial.label)
    attacked, honest = made[trial.run.unit_id], made[trial.honest.unit_id]
    # the honest run comes first: what ends it as well is no doing of the attack
    for role, result in (("honest", honest), ("attacked", attacked)):
        status, reason = trial_status(result.outcome, entry.attack.card.goal)
        if status != "completed":
            words = reason if attacked is honest else f"the {role} run: {reason}"
            content = _content(_with_dropped(LOST, result)) if status == "lost" else {}
            return trial.row(status, {**content, **_aborts(result)}, reason=words, traceback=result.traceback)
    assert isinstance(attacked, RunResult)
    assert isinstance(honest, RunResult)
    started = time.process_time()
    foretold: dict[str, Any] = {}
    try:
        foretold = seen.proof(trial.run, attacked, entry)  # before anything is scored
        if isinstance(entry.attack, Inference):
            view = seen.view(trial.run, attacked, entry.threat).copied()  # it may do with it as it likes
            stored = {} if trial.shadows is None else seen.models(given[trial.shadows.unit_id])
            found = _answered(entry, attacked, view, stored)
        else:
            found = score_manipulation(entry.attack, attacked, honest)
    except IncompatibleAttack as error:  # what only the data of this seed can tell
        return trial.row("incompatible", reason=str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is becomes a row
        return trial.row("failed", reason=sentence_of(error), traceback=traceback_of(error))
    seconds = time.process_time() - started
    if isinstance(found, Blocked):
        content = {**foretold, **_aborts(attacked)}
        return trial.row("blocked", content, reason=found.reason, seconds=seconds)
    found = _with_dropped(found, attacked)
    status = "undefined" if found.reason else "ok"
    content = {**_content(found), **foretold, **_aborts(attacked)}
    return trial.row(status, content, reason=found.reason, seconds=seconds)


def _content(score: TrialScore) -> dict[str, Any]:
    return {
        "advantage": None if score.reason else score.advantage,
        "metrics": {name: asdict(part) for name, part in score.metrics.items()},
        "raw": dict(score.raw),
    }


def _aborts(result: _Made) -> dict[str, Any]:
    """What protocols stopped in a run, and who caused it; nothing where they stopped nothing."""
    if isinstance(result, _Failure):
        return {}
    found = [
        {"what": "round" if fault.lost else "lie", "caused_by": fault.caused_by} for fault in result.faults
    ]
    last = result.faults[-1] if result.faults else None
    by_round = last is not None and last.lost and last.reason in result.outcome  # no round had a result
    if result.outcome.partition(": ")[0] in {"aborted", "lost"} and not by_round:
        found.append({"what": "run", "caused_by": result.caused_by})
    return {"aborts": found} if found else {}


def _with_dropped(score: TrialScore, attacked: _Made) -> TrialScore:
    """The score with what the run's server did not count: round and client, and why; and the rounds that were lost."""
    if isinstance(attacked, _Failure):
        return score
    raw: dict[str, list[list[int]] | list[int] | list[str]] = {}
    if attacked.dropped:
        raw["dropped"] = [[drop.round, drop.client] for drop in attacked.dropped]
        raw["dropped_because"] = [f"client:{drop.client}: {drop.reason}" for drop in attacked.dropped]
    if attacked.faults:
        raw["faults"] = [fault.told for fault in attacked.faults]
        raw["lost_rounds"] = [fault.round for fault in attacked.faults if fault.lost]
    return replace(score, raw={**score.raw, **raw})


def _answered(
    entry: AttackEntry, attacked: RunResult, view: View, stored: Mapping[str, torch.Tensor]
) -> TrialScore | Blocked:
    """What an attack that asks makes of a view and of stored shadow models, scored."""
    attack, seed = entry.attack, attacked.spec.seed
    assert isinstance(attack, Inference)  # _judge() saw to it
    trainer = SharedTrainer(
        trainer=ShadowTrainer(pipeline=attacked.pipeline, like=attacked.dataset, seed=seed), stored=stored
    )
    challenge, truth = challenge_for(
        attack, attacked, seed=seed, threat=entry.threat.at(seed), trainer=trainer
    )
    claim = attack(view, challenge)
    return claim if isinstance(claim, Blocked) else score_claim(claim, truth)
