"""Federated learning as a kind of matrix: attacks against stacks of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

from qflsec.lab.grid.estimate import Part
from qflsec.lab.grid.reading import Reading
from qflsec.lab.grid.spec import GridSpec
from qflsec.lab.grid.units import Place, Plan, Row, Unit
from qflsec.lab.grid.world import World
from qflsec.lab.worlds.federation import engines
from qflsec.lab.worlds.federation.datasets import check_data, data_remarks
from qflsec.lab.worlds.federation.framing import frame_of
from qflsec.lab.worlds.federation.matrix import Matrix, build_matrix
from qflsec.lab.worlds.federation.parts import parts_of
from qflsec.lab.worlds.federation.plan import MAX_RUNS, Layout, RunBatch, ShadowBatch, layout_of, make_plan
from qflsec.lab.worlds.federation.reading import FederationReading
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.shadows import shadow_remarks, train_planned
from qflsec.lab.worlds.federation.spec import MatrixSpec
from qflsec.lab.worlds.federation.work import execute

__all__ = ["FederationWorld"]


class FederationWorld(World[MatrixSpec, RunBatch | ShadowBatch, MatrixResult]):
    """Attacks against stacks: trials share runs, and manipulations are compared with honest runs.

    Args:
        matrix: The specification made into objects.
    """

    kind: ClassVar[str] = "federation"
    spec_type: ClassVar[type[GridSpec]] = MatrixSpec
    reading: ClassVar[type[Reading[Any]]] = FederationReading

    def __init__(self, matrix: Matrix) -> None:
        self.matrix = matrix
        self.spec = matrix.spec
        self.code = matrix.code

    @classmethod
    def make(cls, spec: MatrixSpec) -> Self:
        """The matrix of a specification."""
        return cls(build_matrix(spec))

    @cached_property
    def layout(self) -> Layout:
        """Everything that the matrix consists of."""
        return layout_of(self.matrix)

    @property
    def cells(self) -> Mapping[Place, tuple[Unit, ...]]:
        """The trials of every cell, in the order of the seeds."""
        return {
            (entry.label, stack): tuple(
                self.layout.trials[entry.label, stack, seed] for seed in self.spec.seeds
            )
            for entry in self.matrix.attacks
            for stack in self.matrix.stacks
        }

    def check(self) -> None:
        """Load and partition the data of every pipeline for the first seed."""
        check_data(self.matrix)

    def plan(self, settled: frozenset[str]) -> Plan[RunBatch | ShadowBatch]:
        """What is left to do."""
        return make_plan(self.layout, settled, together=1 if self.alone else MAX_RUNS)

    @property
    def imports(self) -> tuple[str, ...]:
        """What the ledgers of the layers import."""
        stacks = [column.layers for column in self.matrix.stacks.values()]
        layers = [layer for part in (*stacks, *self.matrix.systems.values()) for layer in part]
        return tuple(dict.fromkeys(name for layer in layers for name in layer.imports))

    @property
    def alone(self) -> bool:
        """Runs by Flower's processes follow one another."""
        return self.spec.engine == "flower"

    def close(self) -> None:
        """End Flower's processes."""
        engines.close()

    def remarks(self) -> tuple[str, ...]:
        """What is odd about the data, what layers of stacks that fit say of the runs, and dear shadow models, each once."""
        matrix = self.matrix
        of_data = data_remarks(matrix)  # before the plan: its ids need every file
        places = dict.fromkeys((run.pipeline, run.stack) for run in self.layout.honest.values())
        found = []
        for pipeline, column in places:
            stack = matrix.column(pipeline, column).stack
            if stack is not None and not matrix.incompatible(pipeline, column):
                said = stack.remarks(matrix.pipelines[pipeline])
                found += [f"{pipeline} x {column}: {remark}" for remark in said]
        sets = {
            trial.shadows.unit_id: trial.shadows for trial in self.layout.trials.values() if trial.shadows
        }
        slow = ("the runs go through Flower's processes one after the other; a round takes seconds",)
        return (*of_data, *found, *shadow_remarks(matrix, sets.values()), *(slow if self.alone else ()))

    def parts(self, plan: Plan[RunBatch | ShadowBatch], *, measure: bool = False) -> tuple[Part, ...]:
        """What is left to do, pipeline by pipeline."""
        return parts_of(self.matrix, tuple(plan.batches), measure=measure)

    def execute(self, batch: RunBatch | ShadowBatch, given: Mapping[str, Row]) -> Iterable[Row]:
        """Train shadow models, or make the runs of a batch and score its trials on them."""
        if isinstance(batch, ShadowBatch):
            return [train_planned(self.matrix, batch.shadows)]
        return execute(self.matrix, batch, given)

    @cached_property
    def frame(self) -> Mapping[str, Any]:
        """The rows and columns, and the unit ids of every trial, run and ledger."""
        return frame_of(self.matrix, self.layout, self.head).to_dict()
