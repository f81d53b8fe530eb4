"""The plan: trials, runs and ledgers of a federation matrix, and the batches that make what is left of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from qflsec.lab.grid.units import TRIAL, Batch, Plan, Unit
from qflsec.lab.worlds.federation.ids import nameless
from qflsec.lab.worlds.federation.matrix import AttackEntry, Matrix
from qflsec.lab.worlds.federation.shadows import PlannedShadows, planned_shadows
from qflsec.threat import ThreatModel

__all__ = [
    "MAX_RUNS",
    "Layout",
    "PlannedRun",
    "PlannedTrial",
    "RunBatch",
    "ShadowBatch",
    "layout_of",
    "make_plan",
]

MAX_RUNS = 16


@dataclass(frozen=True, kw_only=True)
class PlannedRun(Unit):
    """A run to be made.

    Attributes:
        pipeline: The pipeline's name.
        stack: The stack's name.
        label: The label of the manipulation; empty for an honest run.
    """

    stage: str = "run"
    pipeline: str
    stack: str
    label: str = ""

    def ledger(self, observer: ThreatModel) -> Unit:
        """The unit of this run's ledger against an observer; it does not depend on the observer's name."""
        identity = {"run": self.unit_id, "observer": nameless(observer.to_config())}
        return Unit(stage="ledger", seed=self.seed, identity=identity)


@dataclass(frozen=True, kw_only=True)
class PlannedTrial(Unit):
    """A trial to be made.

    Attributes:
        label: The attack's label.
        run: The run that is attacked.
        honest: The honest run of the same pipeline, stack and seed; the attacked run itself for inferences.
        incompatible: Why the attack cannot be made under the stack; empty where it can.
        shadows: The shadow models that the attack uses; None where it uses none.
    """

    stage: str = TRIAL
    label: str
    run: PlannedRun
    honest: PlannedRun
    incompatible: str = ""
    shadows: PlannedShadows | None = None

    @property
    def baseline_run_id(self) -> str:
        """The id of the honest run that a manipulated one is compared with; empty for inferences."""
        return "" if self.run.unit_id == self.honest.unit_id else self.honest.unit_id


@dataclass(frozen=True, kw_only=True)
class RunBatch(Batch):
    """Runs of one pipeline under one stack, with all trials on them.

    Attributes:
        pipeline: The pipeline's name.
        stack: The stack's name.
        runs: The runs, also those that are stored and made again for the sake of a trial.
        trials: The trials.
    """

    pipeline: str
    stack: str
    runs: tuple[PlannedRun, ...]
    trials: tuple[PlannedTrial, ...]


@dataclass(frozen=True, kw_only=True)
class ShadowBatch(Batch):
    """One set of shadow models."""

    shadows: PlannedShadows


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Everything that a matrix consists of, whatever is stored.

    Attributes:
        trials: Every trial by (label, stack, seed).
        honest: Every honest run by (pipeline, stack, seed).
        ledgers: The ledger units of every honest run that its stack can make, by (run id, observer's name).
    """

    trials: Mapping[tuple[str, str, int], PlannedTrial]
    honest: Mapping[tuple[str, str, int], PlannedRun]
    ledgers: Mapping[tuple[str, str], Unit]


def layout_of(matrix: Matrix) -> Layout:
    """Every trial, honest run and ledger of a matrix."""
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
    ledgers = {
        (run.unit_id, threat.name): run.ledger(threat)
        for run in honest.values()
        if not maker.incompatible(run.pipeline, run.stack)
        for threat in matrix.observers
    }
    return Layout(trials=trials, honest=honest, ledgers=ledgers)


def make_plan(
    layout: Layout, settled: frozenset[str] = frozenset(), *, together: int = MAX_RUNS
) -> Plan[RunBatch | ShadowBatch]:
    """What is left to do of a matrix.

    Args:
        layout: Everything that it consists of.
        settled: The ids of trials, runs and ledgers that need not be repeated.
        together: How many runs of several seeds may share a batch: a batch is stored as a whole.
    """
    left = {trial.unit_id: trial for trial in layout.trials.values() if trial.unit_id not in settled}
    lacking = {
        run_id for (run_id, _), ledger in layout.ledgers.items() if not {run_id, ledger.unit_id} <= settled
    }
    wanted = [run for run in layout.honest.values() if run.unit_id in lacking]
    possible = [trial for trial in left.values() if not trial.incompatible]
    return Plan(
        ready=tuple(
            trial.row("incompatible", reason=trial.incompatible)
            for trial in left.values()
            if trial.incompatible
        ),
        stages=(tuple(_shadow_batches(possible, settled)), tuple(_batches(possible, wanted, together))),
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
            self.runs[key] = PlannedRun(
                identity=self._matrix.run_identity(pipeline, stack, seed, entry),
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
        return PlannedTrial(
            seed=seed,
            identity=self._matrix.trial_identity(run.unit_id, entry),
            label=entry.label,
            run=run,
            honest=honest,
            incompatible=self._impossible(entry, stack),
            shadows=planned_shadows(self._matrix, entry, stack, seed),
        )


def _shadow_batches(trials: Iterable[PlannedTrial], settled: frozenset[str]) -> Iterator[ShadowBatch]:
    """Each set of shadow models once, whichever trials use it."""
    sets = {trial.shadows.unit_id: trial.shadows for trial in trials if trial.shadows is not None}
    for unit_id, shadows in sets.items():
        if unit_id not in settled:
            under = shadows.stack or "no known defense"
            yield ShadowBatch(
                title=f"{shadows.pipeline} x {under}: {shadows.request.count} shadow models",
                units=(shadows,),
                shadows=shadows,
            )


def _batches(trials: list[PlannedTrial], wanted: list[PlannedRun], together: int) -> Iterator[RunBatch]:
    """Batches of one pipeline and stack; what belongs to one honest run stays together where it fits."""
    places = dict.fromkeys([(run.pipeline, run.stack) for run in (*wanted, *(t.run for t in trials))])
    asked = {run.unit_id for run in wanted}
    for pipeline, stack in places:
        pending: tuple[list[PlannedRun], list[PlannedTrial]] = ([], [])
        for runs, part in _groups(trials, wanted, pipeline, stack):
            if pending[0] and len(pending[0]) + len(runs) > together:
                yield _batch(*pending, asked)
                pending = ([], [])
            pending = (pending[0] + runs, pending[1] + part)
        yield _batch(*pending, asked)


def _groups(
    trials: Iterable[PlannedTrial], wanted: Iterable[PlannedRun], pipeline: str, stack: str
) -> Iterator[tuple[list[PlannedRun], list[PlannedTrial]]]:
    """For each seed its honest run with the trials on it, cut so that no group exceeds a batch."""
    here = [trial for trial in trials if (trial.run.pipeline, trial.run.stack) == (pipeline, stack)]
    honest = {run.unit_id: run for run in wanted if (run.pipeline, run.stack) == (pipeline, stack)}
    honest |= {trial.honest.unit_id: trial.honest for trial in here}
    for base in honest.values():
        mine = [trial for trial in here if trial.honest.unit_id == base.unit_id]
        inferences = [trial for trial in mine if not trial.baseline_run_id]
        manipulations = [trial for trial in mine if trial.baseline_run_id]
        first = True
        while first or manipulations:
            cut, manipulations = manipulations[: MAX_RUNS - 1], manipulations[MAX_RUNS - 1 :]
            yield [base, *(trial.run for trial in cut)], [*(inferences if first else []), *cut]
            first = False


def _batch(runs: list[PlannedRun], trials: list[PlannedTrial], asked: set[str]) -> RunBatch:
    pipeline, stack = runs[0].pipeline, runs[0].stack
    return RunBatch(
        title=f"{pipeline} x {stack}",
        pipeline=pipeline,
        stack=stack,
        runs=tuple(runs),
        trials=tuple(trials),
        units=(*(run for run in runs if run.unit_id in asked), *trials),
        needs=tuple(dict.fromkeys(trial.shadows.unit_id for trial in trials if trial.shadows is not None)),
    )
