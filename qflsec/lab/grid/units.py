"""Units of work and their rows: what a matrix is made of, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from qflsec.lab.grid.ids import digest

__all__ = ["TRIAL", "Batch", "Place", "Plan", "Row", "Unit"]

Place = tuple[str, str]
"""A cell: the attack's label and the column's name."""
TRIAL = "trial"
"""The stage of the units that cells are made of."""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of work whose result is one row of the store.

    Attributes:
        stage: What it is: ``"trial"``, or what trials are made from.
        seed: The seed.
        identity: Everything that the row depends on; the id is its digest.
    """

    stage: str
    seed: int
    identity: Mapping[str, Any]

    @cached_property
    def unit_id(self) -> str:
        """The id: the sha256 of the canonical JSON of the identity."""
        return digest(self.identity)

    def row(
        self,
        status: str,
        content: Mapping[str, Any] | None = None,
        *,
        reason: str = "",
        traceback: str = "",
        seconds: float = 0.0,
    ) -> Row:
        """A row of this unit."""
        return Row(
            unit_id=self.unit_id,
            stage=self.stage,
            seed=self.seed,
            identity=self.identity,
            status=status,
            content=content or {},
            reason=reason,
            traceback=traceback,
            seconds=seconds,
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of a unit.

    Attributes:
        unit_id: The unit's id.
        stage: The unit's stage.
        seed: The unit's seed.
        identity: The unit's identity.
        status: One word; ``"failed"`` for an error of the program, which alone is tried again.
        content: Counts and raw scores rather than rates, JSON-able.
        reason: Why there is no result, as a sentence.
        traceback: The traceback of a bug; empty otherwise.
        seconds: Processor time.
    """

    unit_id: str
    stage: str
    seed: int
    identity: Mapping[str, Any]
    status: str
    content: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether the unit need not be repeated."""
        return self.status != "failed"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Units that are done together by one worker.

    Attributes:
        title: What it is, in words.
        units: The units whose rows it gives, and whose failure it is if it cannot begin.
        needs: Ids of units of earlier stages whose rows it is given.
    """

    title: str
    units: tuple[Unit, ...]
    needs: tuple[str, ...] = ()


B = TypeVar("B", bound=Batch)


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[B]):
    """What is left to do of a matrix.

    Attributes:
        ready: Rows that need no worker, and are not stored yet.
        stages: Batches, stage by stage: a stage begins when all rows of those before it are stored.
    """

    ready: tuple[Row, ...] = ()
    stages: tuple[tuple[B, ...], ...] = ()

    @property
    def batches(self) -> Iterator[B]:
        """The batches of all stages."""
        return (batch for stage in self.stages for batch in stage)
