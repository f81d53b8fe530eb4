"""What is left to do of a matrix, pipeline by pipeline, with what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.federation.round.lanes import lanes_per_batch
from qflsec.lab.grid.estimate import Part
from qflsec.lab.worlds.federation.matrix import Matrix
from qflsec.lab.worlds.federation.plan import RunBatch, ShadowBatch
from qflsec.lab.worlds.federation.size import measured_seconds, size_of

__all__ = ["parts_of"]

_PATIENCE = 60.0
"""A pipeline is timed where the model says that its short runs take fewer seconds than this."""

_BASIS = {
    "measured": "processor time of three rounds under each stack, for all runs and rounds that are left",
    "model": "3 ns for each gate, amplitude and record, 2 ms for each step; good to a factor of three, without "
    "what layers do",
}


def parts_of(matrix: Matrix, batches: Sequence[RunBatch | ShadowBatch], *, measure: bool) -> tuple[Part, ...]:
    """The parts, in the order of the pipelines; shadow models stand apart.

    Args:
        matrix: The matrix.
        batches: What is left to do.
        measure: Whether to time a few rounds of each pipeline under each stack.
    """
    found = []
    for name in matrix.pipelines:
        shadows = [b for b in batches if isinstance(b, ShadowBatch) and b.shadows.pipeline == name]
        if shadows:
            runs = [(batch.shadows.stack, batch.shadows.request.count) for batch in shadows]
            found.append(_part(matrix, name, f"shadow models of pipeline {name!r}", runs, measure=measure))
        mine = [(b.stack, len(b.runs)) for b in batches if isinstance(b, RunBatch) and b.pipeline == name]
        if mine:
            found.append(_part(matrix, name, f"pipeline {name!r}", mine, measure=measure))
    return tuple(found)


def _part(
    matrix: Matrix, name: str, title: str, batches: Sequence[tuple[str, int]], *, measure: bool
) -> Part:
    """The cost of batches, each of so many runs under a stack; a stack without a name has no layers."""
    pipeline = matrix.pipelines[name]
    lanes = min(lanes_per_batch(pipeline.model), max(runs for _, runs in batches))
    size = size_of(pipeline, lanes=lanes)
    runs = sum(runs for _, runs in batches)
    stacks = {stack for stack, _ in batches}
    short = len(stacks) * (lanes + 1) * 3 * size.cpu_seconds / pipeline.federation.rounds
    measured = measure and short <= _PATIENCE
    return Part(
        name=title,
        runs=runs,
        batches=len(batches),
        memory_bytes=size.memory_bytes,
        cpu_seconds=_measured(matrix, name, batches, lanes) if measured else runs * size.cpu_seconds,
        source="measured" if measured else "model",
        basis=_BASIS["measured" if measured else "model"],
    )


def _measured(matrix: Matrix, name: str, batches: Sequence[tuple[str, int]], lanes: int) -> float:
    """The time of a few honest rounds under each stack, for as many runs and rounds as are left."""
    total = 0.0
    for stack in dict.fromkeys(stack for stack, _ in batches):
        sizes = [runs for other, runs in batches if other == stack]
        seconds = measured_seconds(
            matrix.pipelines[name],
            matrix.column(name, stack).stack if stack else None,
            seed=matrix.spec.seeds[0],
            lanes=min(lanes, max(sizes)),
            secrets=matrix.spec.secrets,
        )
        total += sum(sizes) * seconds
    return total
