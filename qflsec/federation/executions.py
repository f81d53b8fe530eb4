"""Layers on the execution of circuits: a client's shots, noise and gradient rule.

A corrupted client skips them as it skips all that is voluntary. They change how every circuit of a client's local
training is executed, values and gradients alike.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from qflsec.base import IncompatibleStack
from qflsec.federation.layers import ClientLayer
from qflsec.federation.pipeline import Pipeline
from qflsec.models import Execution

__all__ = ["ExecutionLayer", "executed"]


class ExecutionLayer(ClientLayer):
    """Changes how a client executes circuits in its local training.

    Attributes:
        sets: The fields of an :class:`~qflsec.models.Execution` that it sets; layers of a stack set different ones.
    """

    sets: ClassVar[frozenset[str]]

    @abstractmethod
    def execution(self, execution: Execution) -> Execution:
        """How a client executes that would execute like this without the layer.

        Args:
            execution: As the pipeline, or the other layers, have it.
        """

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models whose circuit is not executed as an execution says.

        Raises:
            IncompatibleStack: There is no circuit to execute.
        """
        if getattr(pipeline.model, "circuit", None) is None:
            raise IncompatibleStack(
                f"{self.card.name!r} acts on circuits, but the model {pipeline.model.name!r} has none that can be read",
                fix="use a variational circuit, a hybrid, or a QNode of affine angles",
            )


def executed(pipeline: Pipeline, layers: Sequence[ExecutionLayer]) -> Pipeline:
    """The pipeline as clients execute it that follow the layers.

    Args:
        pipeline: The pipeline.
        layers: The layers, in order.
    """
    if not layers:
        return pipeline

    def through(execution: Execution) -> Execution:
        for layer in layers:
            execution = layer.execution(execution)
        return execution

    clients = {index: through(execution) for index, execution in pipeline.client_executions.items()}
    return replace(pipeline, execution=through(pipeline.execution), client_executions=clients)
