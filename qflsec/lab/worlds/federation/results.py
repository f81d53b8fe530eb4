"""What a matrix found: cells, summaries of stacks and ledgers, as one value.

:mod:`qflsec.lab.worlds.federation.document` writes it as JSON and reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from qflsec.base import Score
from qflsec.lab.grid.results import Result

__all__ = [
    "AttackInfo",
    "Cell",
    "CellState",
    "MatrixResult",
    "PipelineUtility",
    "RunRow",
    "StackInfo",
    "StackSummary",
    "TrialRow",
    "TrialStatus",
]

TrialStatus = Literal["ok", "undefined", "blocked", "incompatible", "failed", "aborted", "lost"]
CellState = Literal[
    "ok", "incompatible", "blocked", "no power", "useless", "failed", "aborted", "lost", "pending"
]


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One attack on one run.

    Attributes:
        trial_id: The trial's id.
        run_id: The run that was attacked.
        baseline_run_id: The honest run of the same pipeline, stack and seed; empty where none is needed.
        seed: The seed.
        status: What became of it; ``"undefined"`` where there was nothing to win, as for poisoning a model that
            is at chance without it.
        advantage: The unclipped advantage, 1 where the run was lost; None unless ``status`` is ``"ok"`` or
            ``"lost"``.
        metrics: Further metrics of this one trial, with their intervals over its records.
        raw: Raw scores and counts for the drill-down, JSON-able.
        reason: Why it is undefined, blocked, incompatible, aborted, lost or failed, as a sentence.
        traceback: The traceback of a bug; empty otherwise.
        seconds: CPU time of the attack and its scoring.
    """

    trial_id: str
    run_id: str
    baseline_run_id: str = ""
    seed: int
    status: TrialStatus
    advantage: float | None = None
    metrics: Mapping[str, Score] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One run.

    Attributes:
        run_id: The run's id.
        pipeline: The pipeline's name.
        stack: The stack's name.
        seed: The seed.
        attack: The label of the manipulation; empty for an honest run.
        outcome: ``"completed"``, ``"aborted: ..."``, ``"lost: ..."``, ``"incompatible: ..."`` or ``"failed: ..."``.
        accuracy: Test accuracy after each round.
        loss: Test loss after each round.
        train_loss: Mean training loss of the honest clients in each round.
        costs: Costs by name, the unit at the end of the name.
        seeded_secrets: Whether its keys were made from the seed and protect nothing.
    """

    run_id: str
    pipeline: str
    stack: str
    seed: int
    attack: str = ""
    outcome: str = "completed"
    accuracy: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    train_loss: tuple[float, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)
    seeded_secrets: bool = False


@dataclass(frozen=True, kw_only=True)
class AttackInfo:
    """A row of the matrix.

    Attributes:
        label: Its name in this matrix.
        name: Its registry name.
        family: Its family, for example ``"membership"``.
        goal: What it breaks.
        idea: One line.
        source: The paper.
        pipeline: The pipeline that it runs on.
        threat: The threat model's name.
        threat_sentence: The threat model as a sentence.
        params: Every parameter.
    """

    label: str
    name: str
    family: str
    goal: str
    idea: str
    source: str
    pipeline: str
    threat: str
    threat_sentence: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StackInfo:
    """A column of the matrix.

    Attributes:
        name: Its name in this matrix.
        layers: The configuration of each layer, defaults written out.
        claims: What each layer claims, from its card.
        incompatible: Why its layers cannot work together; empty where they can.
    """

    name: str
    layers: tuple[Mapping[str, Any], ...] = ()
    claims: tuple[str, ...] = ()
    incompatible: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One attack against one stack, over all seeds.

    Attributes:
        attack: The attack's label.
        family: Its family.
        stack: The stack's name.
        pipeline: The pipeline's name.
        state: ``ok``; ``incompatible`` (the layers or the attack cannot work on the pipeline); ``blocked`` (the view lacks what the
            attack needs); ``no power`` (the interval of the undefended attack touches 0, so that the cell says
            nothing of a defense); ``useless`` (the stack's accuracy is not clear of chance); ``failed`` (a
            trial ended in a bug); ``aborted`` (the protocol stopped); ``lost`` (corrupted parties ended a run,
            which counts as an advantage of 1); ``pending`` (not run yet).
        advantage: Mean over the seeds with a Student t interval; None where no trial was scored.
        per_seed: The trials, in the order of the seeds.
        sentence: What the cell says, as one plain sentence.
        threat: The threat model's name.
    """

    attack: str
    family: str
    stack: str
    pipeline: str
    state: CellState
    advantage: Score | None
    per_seed: tuple[TrialRow, ...]
    sentence: str
    threat: str

    @property
    def column(self) -> str:
        """The stack's name."""
        return self.stack

    @property
    def statuses(self) -> Mapping[int, str]:
        """What became of each stored trial, by seed."""
        return {row.seed: row.status for row in self.per_seed}

    @property
    def measures(self) -> Mapping[str, Mapping[int, float]]:
        """The advantage by seed."""
        return {"advantage": {row.seed: row.advantage for row in self.per_seed if row.advantage is not None}}

    def records(self) -> list[dict[str, Any]]:
        """The stored trials, a flat record each; metrics come last."""
        return [
            {
                "attack": self.attack,
                "family": self.family,
                "stack": self.stack,
                "pipeline": self.pipeline,
                "threat": self.threat,
                "cell_state": self.state,
                "seed": row.seed,
                "status": row.status,
                "advantage": row.advantage,
                "reason": row.reason,
                "seconds": row.seconds,
                "trial_id": row.trial_id,
                "run_id": row.run_id,
                "baseline_run_id": row.baseline_run_id,
                **{name: score.value for name, score in sorted(row.metrics.items())},
            }
            for row in self.per_seed
        ]


@dataclass(frozen=True, kw_only=True)
class PipelineUtility:
    """What a stack leaves of the model's use on one pipeline, from honest runs.

    Attributes:
        pipeline: The pipeline's name.
        accuracy: Test accuracy over the seeds; its baseline is chance.
        loss: Accuracy of the stack ``none`` less this one's, paired by seed; None without such a stack.
        useless: Whether the accuracy is not clear of chance while that of the stack ``none`` is.
    """

    pipeline: str
    accuracy: Score
    loss: Score | None
    useless: bool


@dataclass(frozen=True, kw_only=True)
class StackSummary:
    """A stack in one line.

    Attributes:
        stack: Its name.
        worst: The label and advantage of the strongest attack that was scored; None where none was. Attacks
            without power on the undefended stack are left out.
        utility: Accuracy on the matrix's utility pipeline; None where no honest run completed.
        utility_loss: Its loss against the stack ``none``.
        useless: Whether the stack is useless on the utility pipeline.
        by_pipeline: The same for every pipeline.
        costs: Mean costs of its honest runs on the utility pipeline, the unit at the end of the name.
        incompatible: Why the layers cannot work together; empty where they can.
    """

    stack: str
    worst: tuple[str, Score] | None
    utility: Score | None
    utility_loss: Score | None
    useless: bool
    by_pipeline: Mapping[str, PipelineUtility]
    costs: Mapping[str, Score]
    incompatible: str = ""


@dataclass(frozen=True, kw_only=True)
class MatrixResult(Result[Cell]):
    """Everything that a report shows.

    Attributes:
        attacks: The rows.
        stacks: The columns.
        summaries: By stack name.
        ledgers: By (stack name, observer): ledger rows as :meth:`qflsec.accounting.LedgerRow.to_dict` gives
            them, with the keys ``pipeline`` and ``seeds`` added.
        observers: Each observer's threat model as a sentence.
        pipelines: Each pipeline's configuration, defaults written out.
        utility_pipeline: The pipeline that summaries take utility and costs from.
        runs: All runs.
    """

    kind: ClassVar[str] = "federation"
    attacks: tuple[AttackInfo, ...]
    stacks: tuple[StackInfo, ...]
    summaries: Mapping[str, StackSummary]
    ledgers: Mapping[tuple[str, str], tuple[Mapping[str, Any], ...]]
    observers: Mapping[str, str]
    pipelines: Mapping[str, Mapping[str, Any]]
    utility_pipeline: str
    runs: tuple[RunRow, ...] = ()
