"""What a matrix found: cells, summaries of stacks and ledgers, as one value.

:mod:`qflsec.lab.worlds.federation.document` writes it as JSON and reads it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from qflsec.base import Score
from qflsec.lab.grid.results import UNKNOWN, Result

__all__ = [
    "Abort",
    "AttackInfo",
    "Cell",
    "CellState",
    "MatrixResult",
    "PipelineSummary",
    "RunRow",
    "StackInfo",
    "StackSummary",
    "Strongest",
    "TrialRow",
    "TrialStatus",
]

TrialStatus = Literal["ok", "undefined", "blocked", "incompatible", "failed", "aborted", "lost"]
CellState = Literal[
    "ok",
    "incompatible",
    "blocked",
    "no power",
    "too few seeds",
    "useless",
    "failed",
    "aborted",
    "lost",
    "pending",
]


@dataclass(frozen=True, kw_only=True)
class Abort:
    """What a protocol stopped, and who caused it, as its parties could prove it.

    Attributes:
        what: ``"run"``, ``"round"``, or ``"lie"`` where one was proved and the round had its result all the same.
        caused_by: The party, or parties, such as ``"client:3"``; None where that cannot be known.
    """

    what: Literal["run", "round", "lie"]
    caused_by: str | None


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
        aborts: What protocols stopped in the run, and who caused it.
        interval: The 95 % interval of the advantage over the run's records (:mod:`qflsec.lab.scoring.records`); None
            where they say nothing of it.
        predicted: What the ledger's strictest proof allows a membership attack of this observer at most, as
            :class:`qflsec.accounting.predictions.Prediction` states it; empty where nothing is proved.
        mixed: The layer that leaves this observer sums alone, and of how many honest clients at least
            (:func:`qflsec.accounting.predictions.mixed`); empty where none does.
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
    aborts: tuple[Abort, ...] = ()
    interval: tuple[float, float] | None = None
    predicted: Mapping[str, Any] = field(default_factory=dict)
    mixed: Mapping[str, Any] = field(default_factory=dict)


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
        aborts: What protocols stopped in it, and who caused it.
        clients: What it says of each client (:mod:`qflsec.lab.worlds.federation.clients`); empty but for completed runs
            of the first seed.
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
    aborts: tuple[Abort, ...] = ()
    clients: Mapping[str, Any] = field(default_factory=dict)


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
        adaptive: Whether it computes against each stack's own layers: its card says so, and the threat model grants them.
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
    adaptive: bool = False


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
            attack needs); ``no power`` (the undefended attack is shown to be no better than guessing, so that the cell
            says nothing of a defense); ``too few seeds`` (the intervals leave open whether the undefended attack is
            better than guessing, or whether this one is, or does less than that);
            ``useless`` (the stack's accuracy is shown not to be clear of chance, or of less use than without it); ``failed`` (a
            trial ended in a bug); ``aborted`` (the protocol stopped); ``lost`` (corrupted parties ended a run,
            which counts as an advantage of 1); ``pending`` (not run yet).
        advantage: Mean over the seeds with its interval; None where no trial was scored.
        seeds_to_decide: About how many seeds would decide, where they are too few; None where that cannot be told.
        per_seed: The trials, in the order of the seeds.
        sentence: What the cell says, as one plain sentence.
        threat: The threat model's name.
        outside: Why the stack's robust layers promise nothing against so many corrupted clients; empty where they do, or
            there are none.
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
    seeds_to_decide: int | None = None
    outside: str = ""

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
        """The advantage by seed, and under a manipulation how well the class that the pipeline detects is ranked."""
        found = {"advantage": {row.seed: row.advantage for row in self.per_seed if row.advantage is not None}}
        for name in ("auroc", "aupr", "recall"):
            values = {row.seed: row.metrics[name].value for row in self.per_seed if name in row.metrics}
            found |= {name: values} if values else {}
        return found

    @property
    def aborts(self) -> Mapping[str, int]:
        """Runs and rounds that a protocol stopped, by cause."""
        return Counter(
            abort.caused_by or UNKNOWN for row in self.per_seed for abort in row.aborts if abort.what != "lie"
        )

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
                "outside_guarantee": self.outside,
                "seed": row.seed,
                "status": row.status,
                "advantage": row.advantage,
                "advantage_allowed": row.predicted.get("advantage"),
                "clients_mixed": row.mixed.get("clients"),
                "reason": row.reason,
                "caused_by": ", ".join(
                    dict.fromkeys(abort.caused_by or UNKNOWN for abort in row.aborts if abort.what != "lie")
                ),
                "seconds": row.seconds,
                "trial_id": row.trial_id,
                "run_id": row.run_id,
                "baseline_run_id": row.baseline_run_id,
                **{name: score.value for name, score in sorted(row.metrics.items())},
                **{name: bool(row.raw[name]) for name in sorted(row.raw) if name.startswith("resolved_at_")},
            }
            for row in self.per_seed
        ]


@dataclass(frozen=True, kw_only=True)
class Strongest:
    """The strongest attack with one goal on one stack and pipeline.

    Attributes:
        attack: Its label.
        advantage: Its advantage.
        unranked: Why the stack must not be ranked by it: ``"useless"``, ``"too few seeds"`` where that is open, or the
            state of a cell that leaves open what another attack can do; empty where all were tested.
    """

    attack: str
    advantage: Score
    unranked: str = ""


@dataclass(frozen=True, kw_only=True)
class PipelineSummary:
    """A stack on one pipeline: honest runs, and the attacks that were made there. No two pipelines are mixed.

    Attributes:
        pipeline: The pipeline's name.
        accuracy: Test accuracy over the seeds; its baseline is chance. None where no honest run completed.
        loss: Accuracy of the stack ``none`` less this one's, paired by seed; None without such a stack.
        useless: Whether the accuracy is shown to be nothing worth the name above chance, or is not clear of it
            and below that of the stack ``none``, which is clear.
        undecided: Whether the seeds are too few to tell.
        seeds_to_decide: About how many would; None where that cannot be told, or where it is decided.
        worst: The strongest attack by what it is on, ``"privacy"`` or ``"robustness"``.
        costs: Mean costs of the honest runs, the unit at the end of the name.
        own: Where clients keep a part of the model, the accuracy on test records weighted by each client's own classes:
            of their models (``personal``), of the same clients each alone (``alone``), and of one model that shares all
            (``shared``); the last two without the stack. Where the pipeline names a class to detect, ``personal_auroc``,
            ``personal_aupr`` and the same of the others come on top.
        detection: Where the pipeline names a class to detect, ``auroc``, ``aupr`` and ``recall`` on the test records, one class
            against the rest; their baselines are those of guessing, 1/2, the share of the class and 1/K.
        detection_lost: By the same names, that of the stack ``none`` less this one's, paired by seed; nothing without
            such a stack.
    """

    pipeline: str
    accuracy: Score | None = None
    loss: Score | None = None
    useless: bool = False
    undecided: bool = False
    seeds_to_decide: int | None = None
    worst: Mapping[str, Strongest] = field(default_factory=dict)
    costs: Mapping[str, Score] = field(default_factory=dict)
    own: Mapping[str, Score] = field(default_factory=dict)
    detection: Mapping[str, Score] = field(default_factory=dict)
    detection_lost: Mapping[str, Score] = field(default_factory=dict)

    @property
    def open_use(self) -> Literal["", "useless", "too few seeds"]:
        """Why the stack is ranked nowhere on the pipeline, whatever the attacks do; empty where it is of use."""
        return "useless" if self.useless else "too few seeds" if self.undecided else ""


@dataclass(frozen=True, kw_only=True)
class StackSummary:
    """A stack on every pipeline.

    Attributes:
        stack: Its name.
        by_pipeline: What it does on each pipeline.
        incompatible: Why the layers cannot work together; empty where they can.
    """

    stack: str
    by_pipeline: Mapping[str, PipelineSummary]
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
        utility_pipeline: The pipeline whose training and costs a report shows.
        data: What there is to say of each pipeline's data, as its first run found them: records of each class by name,
            feature names, training records of each client that the data name, what was fitted on what, and remarks.
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
    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    runs: tuple[RunRow, ...] = ()
