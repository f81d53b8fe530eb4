"""The engine over a kind of matrix that it has never seen: stages, what batches are given, and failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from qflsec.lab import Progress, Store, run_matrix
from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.results import Result, head_now
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.grid.units import TRIAL, Batch, Place, Plan, Row, Unit
from qflsec.lab.grid.world import World

BROKEN: set[str] = set()
"""What fails in a test: ``"base"``, ``"trial"`` or ``"batch"``."""
DONE: list[str] = []
"""The titles of batches, in the order in which they were done."""


class ToySpec(GridSpec):
    """A matrix of sums."""

    kind: str = "toy"
    columns: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class ToyResult(Result[Any]):
    """The sums."""

    kind: ClassVar[str] = "toy"


class ToyReading(Reading[ToyResult]):
    """Their head alone."""

    schema: ClassVar[str] = "toy/1"

    @classmethod
    def assemble(cls, frame: Mapping[str, Any], rows: Mapping[str, Row], *, command: str = "") -> ToyResult:
        failures = tuple(row.reason for row in rows.values() if not row.settled)
        return ToyResult(**{**head_now(frame["head"], command), "failures": failures}, cells={})

    @classmethod
    def document(cls, result: ToyResult) -> dict[str, Any]:
        return result.document_head(cls.schema)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> ToyResult:
        raise NotImplementedError


class Toy(World[ToySpec, Batch, ToyResult]):
    """For each seed a base, which the trials of all columns share: a stage before them."""

    kind: ClassVar[str] = "toy"
    reading: ClassVar[type[Reading[Any]]] = ToyReading
    spec_type: ClassVar[type[GridSpec]] = ToySpec

    def __init__(self, spec: ToySpec) -> None:
        self.spec = spec
        self.code = {}

    @classmethod
    def make(cls, spec: ToySpec) -> Self:
        return cls(spec)

    def base(self, seed: int) -> Unit:
        return Unit(stage="base", seed=seed, identity={"toy": "base", "seed": seed})

    @property
    def cells(self) -> Mapping[Place, tuple[Unit, ...]]:
        return {
            ("sum", name): tuple(
                Unit(stage=TRIAL, seed=seed, identity={"toy": name, "seed": seed}) for seed in self.spec.seeds
            )
            for name in self.spec.columns
        }

    def plan(self, settled: frozenset[str]) -> Plan[Batch]:
        left = [
            (name, unit)
            for (_, name), units in self.cells.items()
            for unit in units
            if unit.unit_id not in settled
        ]
        bases = {unit.seed: self.base(unit.seed) for _, unit in left}
        return Plan(
            stages=(
                tuple(
                    Batch(title=f"base {seed}", units=(base,))
                    for seed, base in bases.items()
                    if base.unit_id not in settled
                ),
                tuple(
                    Batch(title=f"{name} {unit.seed}", units=(unit,), needs=(bases[unit.seed].unit_id,))
                    for name, unit in left
                ),
            )
        )

    def execute(self, batch: Batch, given: Mapping[str, Row]) -> Iterable[Row]:
        DONE.append(batch.title)
        if "batch" in BROKEN:
            raise ZeroDivisionError("the batch cannot begin")
        (unit,) = batch.units
        if unit.stage in BROKEN:
            return [unit.row("failed", reason="a bug")]
        if unit.stage == "base":
            return [unit.row("ok", {"value": 10 * unit.seed})]
        (base,) = given.values()
        if not base.settled:
            return [unit.row("failed", reason=f"its base: {base.reason}")]
        return [unit.row("ok", {"sum": base.content["value"] + len(batch.title)})]

    @property
    def frame(self) -> Mapping[str, Any]:
        return {"head": self.head}


@pytest.fixture(autouse=True)
def clean() -> None:
    BROKEN.clear()
    DONE.clear()


def work(path: Path, seeds: tuple[int, ...] = (1, 2), **fields: Any) -> tuple[list[Progress], dict[str, Row]]:
    world = Toy.make(ToySpec(name="toy", seeds=seeds, **fields))
    steps = list(run_matrix(world, path, jobs=1))
    with Store(path) as store:
        return steps, store.rows()


def test_a_stage_is_done_before_the_next_and_its_rows_are_given(tmp_path: Path) -> None:
    steps, rows = work(tmp_path / "s.sqlite")
    assert DONE == ["base 1", "base 2", "a 1", "a 2", "b 1", "b 2"]
    sums = [row.content["sum"] for row in rows.values() if row.stage == TRIAL]
    assert sums == [13, 23, 13, 23]
    assert [step.done for step in steps] == [0, 0, 0, 1, 2, 3, 4], "bases are no trials"
    assert (steps[-1].total, steps[-1].batches_total, steps[-1].eta_seconds) == (4, 6, 0.0)
    assert "base 1: 1 base" in steps[1].message
    assert "a 1: 1 ok" in steps[3].message


def test_what_is_stored_of_a_stage_is_shared_and_not_repeated(tmp_path: Path) -> None:
    work(tmp_path / "s.sqlite")
    DONE.clear()
    work(tmp_path / "s.sqlite", columns=("a", "b", "c"))
    assert DONE == ["c 1", "c 2"], "another column takes the bases from the store"
    DONE.clear()
    work(tmp_path / "s.sqlite", seeds=(2, 3))
    assert DONE == ["base 3", "a 3", "b 3"]


def test_a_failed_stage_fails_what_needs_it_and_is_repeated_with_it(tmp_path: Path) -> None:
    BROKEN.add("base")
    _, rows = work(tmp_path / "s.sqlite", seeds=(1,))
    assert {row.reason for row in rows.values() if row.stage == TRIAL} == {"its base: a bug"}
    BROKEN.clear()
    DONE.clear()
    _, rows = work(tmp_path / "s.sqlite", seeds=(1,))
    assert DONE == ["base 1", "a 1", "b 1"]
    assert {row.status for row in rows.values()} == {"ok"}


def test_a_batch_that_cannot_begin_is_a_failure_of_its_units_alone(tmp_path: Path) -> None:
    BROKEN.add("batch")
    steps, rows = work(tmp_path / "s.sqlite", seeds=(1,))
    assert {row.status for row in rows.values()} == {"failed"}
    assert all(row.reason == "the batch: ZeroDivisionError: the batch cannot begin" for row in rows.values())
    assert all("Traceback" in row.traceback for row in rows.values())
    assert steps[-1].statuses == {"failed": 2}


def test_a_stop_between_stages_keeps_the_first(tmp_path: Path) -> None:
    world = Toy.make(ToySpec(name="toy", seeds=(1, 2)))
    steps = run_matrix(world, tmp_path / "s.sqlite", jobs=1)
    for step in steps:
        if step.batches_done == 2:
            break
    steps.close()
    assert DONE == ["base 1", "base 2"]
    work(tmp_path / "s.sqlite")
    assert DONE == ["base 1", "base 2", "a 1", "a 2", "b 1", "b 2"]
