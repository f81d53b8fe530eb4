"""The frame of a federation matrix: what a result says of it beside the rows, and which rows belong where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from qflsec.lab.grid.results import plain
from qflsec.lab.worlds.federation.results import AttackInfo, StackInfo

__all__ = ["Frame", "FramedAttack", "FramedRun", "FramedTrial"]


@dataclass(frozen=True, kw_only=True)
class FramedAttack:
    """An attack of the matrix.

    Attributes:
        info: What a result says of it.
        metric: Its headline metric.
        baseline: The metric's value for an adversary who learned nothing.
        ideal: The metric's value for a perfect attack.
    """

    info: AttackInfo
    metric: str
    baseline: float
    ideal: float


@dataclass(frozen=True, kw_only=True)
class FramedTrial:
    """A trial of the matrix.

    Attributes:
        label: The attack's label.
        stack: The stack's name.
        seed: The seed.
        unit_id: The trial's id.
        run_id: The run that is attacked.
        baseline_run_id: The honest run that it is compared with; empty where none is needed.
    """

    label: str
    stack: str
    seed: int
    unit_id: str
    run_id: str
    baseline_run_id: str


@dataclass(frozen=True, kw_only=True)
class FramedRun:
    """A run of the matrix.

    Attributes:
        unit_id: The run's id.
        pipeline: The pipeline's name.
        stack: The stack's name.
        seed: The seed.
        label: The label of the manipulation; empty for an honest run.
    """

    unit_id: str
    pipeline: str
    stack: str
    seed: int
    label: str


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A matrix without its objects.

    Attributes:
        head: The head of every result.
        attacks: The rows.
        stacks: The columns.
        observers: Each observer's threat model as a sentence.
        pipelines: Each pipeline's configuration, defaults written out.
        utility_pipeline: The pipeline whose training and costs a report shows.
        reference: The stack that the others are compared with; None where there is none.
        trials: Every trial, attack by attack, stack by stack, in the order of the seeds.
        runs: Every run: the honest ones first, then those that are attacked.
        ledgers: The unit ids of the ledgers: (run id, observer's name, unit id).
        outside: Why a stack's robust layers promise nothing against an attack: (label, stack, sentence).
    """

    head: Mapping[str, Any]
    attacks: tuple[FramedAttack, ...]
    stacks: tuple[StackInfo, ...]
    observers: Mapping[str, str]
    pipelines: Mapping[str, Mapping[str, Any]]
    utility_pipeline: str
    reference: str | None
    trials: tuple[FramedTrial, ...]
    runs: tuple[FramedRun, ...]
    ledgers: tuple[tuple[str, str, str], ...]
    outside: tuple[tuple[str, str, str], ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(self.head["seeds"])

    def to_dict(self) -> dict[str, Any]:
        """The frame in JSON types."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Self:
        """The frame that :meth:`to_dict` wrote."""
        return cls(
            **{
                **found,
                "attacks": tuple(
                    FramedAttack(**{**part, "info": AttackInfo(**part["info"])}) for part in found["attacks"]
                ),
                "stacks": tuple(
                    StackInfo(**{**part, "layers": tuple(part["layers"]), "claims": tuple(part["claims"])})
                    for part in found["stacks"]
                ),
                "trials": tuple(FramedTrial(**part) for part in found["trials"]),
                "runs": tuple(FramedRun(**part) for part in found["runs"]),
                "ledgers": tuple((run, observer, unit) for run, observer, unit in found["ledgers"]),
                "outside": tuple((label, stack, why) for label, stack, why in found.get("outside", ())),
            }
        )
