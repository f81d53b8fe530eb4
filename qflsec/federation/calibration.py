"""Layers that set their noise by the run: a target epsilon becomes a noise multiplier before the first round.

How much noise a target needs depends on the planned rounds, on how clients and records are sampled, and for
sampled records on how many of them each client has. A stack is therefore calibrated for each run, and runs
share a batch only where their calibrated stacks are equal.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from qflsec.federation.executions import ExecutionLayer, executed
from qflsec.federation.layers import ClientLayer, Layer, ServerLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.stack import Stack

__all__ = ["CalibratedLayer", "calibrate_stack"]


class CalibratedLayer(ABC):
    """A layer whose noise may follow from a target."""

    @abstractmethod
    def calibrated(self, pipeline: Pipeline, counts: Sequence[int]) -> Layer:
        """The same layer with its noise set for one run; the layer itself where nothing is left to set.

        Args:
            pipeline: The pipeline.
            counts: The number of training records of each client.
        """


def calibrate_stack(stack: Stack, pipeline: Pipeline, counts: Sequence[int]) -> Stack:
    """The stack with every layer's noise set for one run.

    Args:
        stack: The stack.
        pipeline: The pipeline.
        counts: The number of training records of each client.
    """
    layers = [
        layer.calibrated(_seen_by(layer, stack, pipeline), counts)
        if isinstance(layer, CalibratedLayer)
        else layer
        for layer in stack.layers
    ]
    if all(new is old for new, old in zip(layers, stack.layers, strict=True)):
        return stack
    return replace(
        stack,
        client=tuple(layer for layer in layers if isinstance(layer, ClientLayer)),
        server=tuple(layer for layer in layers if isinstance(layer, ServerLayer)),
    )


def _seen_by(layer: Layer, stack: Stack, pipeline: Pipeline) -> Pipeline:
    """The pipeline; with what the other layers make of executions, for a layer that makes something of them too."""
    if not isinstance(layer, ExecutionLayer):
        return pipeline
    return executed(pipeline, [other for other in stack.executions if other is not layer])
