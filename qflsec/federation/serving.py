"""Layers on the answers of the final model: what whoever serves it does with each record."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, final

import torch

from qflsec.data import Dataset
from qflsec.federation.layers import Leaves, ServerLayer
from qflsec.models import Model
from qflsec.threat import Records

__all__ = ["REFUSED", "ServingLayer"]

REFUSED = -1
"""The answer to a record that gets no class; it is never right, and no attack wants it."""


class ServingLayer(ServerLayer):
    """Answers records with the final model in a way of its own; training is not changed.

    It works on any model, however the updates were summed. Accuracy after the last round, the success of triggers and
    evasions, and all predictions of a run are those of the served model; losses and views are the model's own.
    """

    accepts: ClassVar[frozenset[Leaves]] = frozenset({"individual", "sum", "nothing"})
    topologies: ClassVar[frozenset[str] | None] = None
    linear = True

    @property
    def clean_records(self) -> int:
        """How many records of its own, at most, the server needs to make the final model ready; none by default."""
        return 0

    @final
    def ready(self, model: Model, params: torch.Tensor, dataset: Dataset) -> torch.Tensor:
        """The parameters that are served.

        Args:
            model: The pipeline's model.
            params: The final parameters.
            dataset: The run's data, of which the server holds the first auxiliary records.

        Shapes:
            params: ``(P,)``; returns the same
        """
        if not self.clean_records:
            return params
        features, labels = dataset.take(dataset.auxiliary_idx[: self.clean_records])
        return self.readied(model, params, Records(features=features, labels=labels))

    def readied(self, model: Model, params: torch.Tensor, records: Records) -> torch.Tensor:
        """What the server makes of the final parameters with its own records, once; nothing by default.

        Args:
            model: The pipeline's model.
            params: The final parameters.
            records: The server's records.

        Shapes:
            params: ``(P,)``; returns the same
        """
        return params

    @abstractmethod
    def serve(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The class of each record, or :data:`REFUSED`.

        Args:
            model: The model as it is executed.
            params: The parameters that are served.
            features: The records.
            generator: The run's stream for answers; it starts anew for each call.

        Shapes:
            params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)``
        """
