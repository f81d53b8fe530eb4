"""Layers on the answers of the final model: what whoever serves it does with each record."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch

from qflsec.federation.layers import Leaves, ServerLayer
from qflsec.models import Model

__all__ = ["REFUSED", "ServingLayer"]

REFUSED = -1
"""The answer to a record that gets no class; it is never right, and no attack wants it."""


class ServingLayer(ServerLayer):
    """Answers records with the final model in a way of its own; training is not changed.

    It works on any model, however the updates were summed. Accuracy after the last round, the success of triggers and
    evasions, and all predictions of a run are those of the served model; losses and views are the model's own.
    """

    accepts: ClassVar[frozenset[Leaves]] = frozenset({"individual", "sum", "nothing"})
    topologies = None
    linear = True

    @abstractmethod
    def serve(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The class of each record, or :data:`REFUSED`.

        Args:
            model: The model as it is executed.
            params: The final parameters.
            features: The records.
            generator: The run's stream for answers; it starts anew for each call.

        Shapes:
            params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``
        """
