"""Layers on the records that a client trains on, inside local training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from qflsec.federation.layers import ClientLayer
from qflsec.federation.pipeline import Pipeline

__all__ = ["RecordLayer"]


class RecordLayer(ClientLayer):
    """Changes the records of every local step, by the model as the client has it then; voluntary."""

    @abstractmethod
    def records(
        self,
        pipeline: Pipeline,
        params: torch.Tensor,
        features: torch.Tensor,
        labels: torch.Tensor,
        clients: Sequence[int],
    ) -> torch.Tensor:
        """What the clients train on in place of their records.

        Args:
            pipeline: The pipeline.
            params: The clients' models.
            features: The records of the step.
            labels: Their labels.
            clients: The indices of the clients on the second axis.

        Shapes:
            params: ``(lane, client, P)``; features: ``(lane, client, B, F)``; labels: ``(lane, client, B)``;
            returns the shape of ``features``
        """
