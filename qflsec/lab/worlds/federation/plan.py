"""The plan: from cells to trials, runs and batches, less what the store already has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qflsec.lab.grid.ids import digest
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix, observer_key

__all__ = ["MAX_RUNS", "Batch", "Plan", "PlannedRun", "PlannedTrial", "make_plan"]

MAX_RUNS = 16


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A run to be made.

    Attributes:
        run_id: Its id.
        identity: What the id is the digest of.
        pipeline: The pipeline's name.
        stack: The stack's name.
        seed: The seed.
        label: The label of the manipulation; empty for an honest run.
    """

    run_id: str
    identity: Mapping[str, Any]
    pipeline: str
    stack: str
    seed: int
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class PlannedTrial:
    """A trial to be made.

    Attributes:
        trial_id: Its id.
        identity: What the id is the digest of.
        label: The attack's label.
        run: The run that is attacked.
        honest: The honest run of the same pipeline, stack and seed; the attacked run itself for inferences.
        incompatible: Why the attack cannot be made under the stack; empty where it can.
    """

    trial_id: str
    identity: Mapping[str, Any]
    label: str
    run: PlannedRun
    honest: PlannedRun
    incompatible: str = ""

    @property
    def baseline_run_id(self) -> str:
        """The id of the honest run that a manipulated one is compared with; empty for inferences."""
        return "" if self.run.run_id == self.honest.run_id else self.honest.run_id


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The unit of work: runs of one pipeline under one stack, with all trials on them.

    Attributes:
        spec: The specification as JSON, from which a worker makes its own objects.
        code: The digest of all code that does not come with the package.
        pipeline: The pipeline's name.
        stack: The stack's name.
        runs: The runs.
        trials: The trials.
    """

    spec: str
    code: str
    pipeline: str
    stack: str
    runs: tuple[PlannedRun, ...]
    trials: tuple[PlannedTrial, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a matrix needs.

    Attributes:
        trials: Every trial by (label, stack, seed).
        honest: Every honest run by (pipeline, stack, seed).
        settled: The ids of trials that the store already has.
        incompatible: Trials that need no worker, because their stack cannot run, and are not stored yet.
        batches: What is left to do.
    """

    trials: Mapping[tuple[str, str, int], PlannedTrial]
    honest: Mapping[tuple[str, str, int], PlannedRun]
    settled: frozenset[str]
    incompatible: tuple[PlannedTrial, ...]
    batches: tuple[Batch, ...]


def make_plan(
    matrix: Matrix,
    *,
    settled_trials: frozenset[str] = frozenset(),
    settled_runs: Mapping[str, frozenset[str]] | None = None,
) -> Plan:
    """Everything that the matrix needs, and what of it is left to do.

    Args:
        matrix: The matrix.
        settled_trials: The ids of trials that need not be repeated.
        settled_runs: The ids of runs that need not be repeated for their own sake, with the keys of the
            observers whose ledgers they hold.
    """
    maker = _Maker(matrix)
    trials = {
        (entry.label, stack, seed): maker.trial(entry, stack, seed)
        for entry in matrix.attacks
        for stack in matrix.stacks
        for seed in matrix.spec.seeds
    }
    for stack in matrix.stacks:
        for seed in matrix.spec.seeds:
            maker.run(matrix.utility_pipeline, stack, seed, None)
    honest = {(run.pipeline, run.stack, run.seed): run for run in maker.runs.values() if not run.label}
    left = {t.trial_id: t for t in trials.values() if t.trial_id not in settled_trials}
    observers = {observer_key(threat) for threat in matrix.observers}
    stored = settled_runs or {}
    wanted = [
        run
        for run in honest.values()
        if not maker.incompatible(run.pipeline, run.stack) and not observers <= stored.get(run.run_id, set())
    ]
    return Plan(
        trials=trials,
        honest=honest,
        settled=frozenset(t.trial_id for t in trials.values()) & settled_trials,
        incompatible=tuple(trial for trial in left.values() if trial.incompatible),
        batches=tuple(_batches(matrix, [t for t in left.values() if not t.incompatible], wanted)),
    )


class _Maker:
    """Makes runs and trials, each once."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self.runs: dict[tuple[str, str, int, str], PlannedRun] = {}
        self._reasons: dict[tuple[str, str], str] = {}
        self._impossibles: dict[tuple[str, str], str] = {}

    def incompatible(self, pipeline: str, stack: str) -> str:
        """Why the stack cannot run on the pipeline; empty where it can."""
        if (pipeline, stack) not in self._reasons:
            self._reasons[pipeline, stack] = self._matrix.incompatible(pipeline, stack)
        return self._reasons[pipeline, stack]

    def _impossible(self, entry: AttackEntry, stack: str) -> str:
        """Why the attack cannot be made under the stack; empty where it can."""
        if (entry.label, stack) not in self._impossibles:
            self._impossibles[entry.label, stack] = self._matrix.impossible(entry, stack)
        return self._impossibles[entry.label, stack]

    def run(self, pipeline: str, stack: str, seed: int, entry: AttackEntry | None) -> PlannedRun:
        """The run of a manipulation, or the honest run."""
        label = entry.label if entry is not None else ""
        key = (pipeline, stack, seed, label)
        if key not in self.runs:
            identity = self._matrix.run_identity(pipeline, stack, seed, entry)
            self.runs[key] = PlannedRun(
                run_id=digest(identity),
                identity=identity,
                pipeline=pipeline,
                stack=stack,
                seed=seed,
                label=label,
            )
        return self.runs[key]

    def trial(self, entry: AttackEntry, stack: str, seed: int) -> PlannedTrial:
        """The trial of an attack on a stack for one seed."""
        honest = self.run(entry.pipeline, stack, seed, None)
        run = self.run(entry.pipeline, stack, seed, entry) if entry.manipulates else honest
        identity = self._matrix.trial_identity(run.run_id, entry)
        return PlannedTrial(
            trial_id=digest(identity),
            identity=identity,
            label=entry.label,
            run=run,
            honest=honest,
            incompatible=self._impossible(entry, stack),
        )


def _batches(matrix: Matrix, trials: list[PlannedTrial], wanted: list[PlannedRun]) -> Iterator[Batch]:
    """Batches of one pipeline and stack; what belongs to one honest run stays together where it fits."""
    origin = (matrix.spec.model_dump_json(), matrix.code_digest)
    places = dict.fromkeys([(run.pipeline, run.stack) for run in (*wanted, *(t.run for t in trials))])
    for pipeline, stack in places:
        pending: tuple[list[PlannedRun], list[PlannedTrial]] = ([], [])
        for runs, part in _groups(trials, wanted, pipeline, stack):
            if pending[0] and len(pending[0]) + len(runs) > MAX_RUNS:
                yield _batch(origin, *pending)
                pending = ([], [])
            pending = (pending[0] + runs, pending[1] + part)
        yield _batch(origin, *pending)


def _groups(
    trials: Iterable[PlannedTrial], wanted: Iterable[PlannedRun], pipeline: str, stack: str
) -> Iterator[tuple[list[PlannedRun], list[PlannedTrial]]]:
    """For each seed its honest run with the trials on it, cut so that no group exceeds a batch."""
    here = [trial for trial in trials if (trial.run.pipeline, trial.run.stack) == (pipeline, stack)]
    honest = {run.run_id: run for run in wanted if (run.pipeline, run.stack) == (pipeline, stack)}
    honest |= {trial.honest.run_id: trial.honest for trial in here}
    for base in honest.values():
        mine = [trial for trial in here if trial.honest.run_id == base.run_id]
        inferences = [trial for trial in mine if not trial.baseline_run_id]
        manipulations = [trial for trial in mine if trial.baseline_run_id]
        first = True
        while first or manipulations:
            cut, manipulations = manipulations[: MAX_RUNS - 1], manipulations[MAX_RUNS - 1 :]
            yield [base, *(trial.run for trial in cut)], [*(inferences if first else []), *cut]
            first = False


def _batch(origin: tuple[str, str], runs: list[PlannedRun], trials: list[PlannedTrial]) -> Batch:
    spec, code = origin
    return Batch(
        spec=spec,
        code=code,
        pipeline=runs[0].pipeline,
        stack=runs[0].stack,
        runs=tuple(runs),
        trials=tuple(trials),
    )
