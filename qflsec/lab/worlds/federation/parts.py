"""What is left to do of a matrix, pipeline by pipeline, with what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.federation.lanes import lanes_per_batch
from qflsec.lab.grid.estimate import Part
from qflsec.lab.worlds.federation.matrix import Matrix
from qflsec.lab.worlds.federation.plan import RunBatch
from qflsec.lab.worlds.federation.size import measured_seconds, size_of

__all__ = ["parts_of"]

_PATIENCE = 60.0
"""Stacks of a pipeline are timed where the model says that the short runs take fewer seconds than this."""


def parts_of(matrix: Matrix, batches: Sequence[RunBatch], *, measure: bool) -> tuple[Part, ...]:
    """The parts, in the order of the pipelines.

    Args:
        matrix: The matrix.
        batches: What is left to do.
        measure: Whether to time a few rounds of each pipeline under each stack.
    """
    found = []
    for name in matrix.pipelines:
        mine = [batch for batch in batches if batch.pipeline == name]
        if mine:
            found.append(_part(matrix, name, mine, measure=measure))
    return tuple(found)


def _part(matrix: Matrix, name: str, batches: Sequence[RunBatch], *, measure: bool) -> Part:
    pipeline = matrix.pipelines[name]
    lanes = min(lanes_per_batch(pipeline.model), max(len(batch.runs) for batch in batches))
    size = size_of(pipeline, lanes=lanes)
    runs = sum(len(batch.runs) for batch in batches)
    stacks = {batch.stack for batch in batches}
    short = len(stacks) * (lanes + 1) * 3 * size.cpu_seconds / pipeline.federation.rounds
    measured = measure and short <= _PATIENCE
    return Part(
        name=f"pipeline {name!r}",
        runs=runs,
        batches=len(batches),
        memory_bytes=size.memory_bytes,
        cpu_seconds=_measured(matrix, name, batches) if measured else runs * size.cpu_seconds,
        source="measured" if measured else "model",
    )


def _measured(matrix: Matrix, name: str, batches: Sequence[RunBatch]) -> float:
    """The time of a few honest rounds under each stack, for as many runs and rounds as are left."""
    pipeline, total = matrix.pipelines[name], 0.0
    for stack in dict.fromkeys(batch.stack for batch in batches):
        sizes = [len(batch.runs) for batch in batches if batch.stack == stack]
        made = matrix.stacks[stack].stack
        assert made is not None
        seconds = measured_seconds(
            pipeline,
            made,
            seed=matrix.spec.seeds[0],
            lanes=min(lanes_per_batch(pipeline.model), max(sizes)),
            secrets=matrix.spec.secrets,
        )
        total += sum(sizes) * seconds
    return total
