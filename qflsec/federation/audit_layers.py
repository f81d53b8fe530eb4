"""Layers on models that clients get from each other, before they go on from them."""

from __future__ import annotations

from abc import abstractmethod

import torch

from qflsec.base import IncompatibleStack
from qflsec.federation.layers import ClientLayer
from qflsec.federation.pipeline import Pipeline

__all__ = ["AuditLayer"]


class AuditLayer(ClientLayer):
    """Lets a client refuse models that other clients hand it, by their loss on its own records.

    In a ring a client that refuses goes on from the model that it handed on last; in a gossip network it keeps the weight
    of the refused model. Voluntary: a corrupted client refuses nothing by it.
    """

    topologies = frozenset({"ring", "gossip"})

    @abstractmethod
    def accepts(self, own: torch.Tensor, received: torch.Tensor) -> torch.Tensor:
        """Which of the received models a client takes.

        Args:
            own: The mean loss of its own model on its own records.
            received: The same of each received model.

        Shapes:
            own: ``()``; received: ``(k,)``; returns: ``(k,)``, boolean
        """

    def check(self, pipeline: Pipeline) -> None:
        """Refuse clients that keep parts of the model to themselves.

        Raises:
            IncompatibleStack: They do: what is handed on cannot be evaluated as it is.
        """
        if pipeline.personal:
            raise IncompatibleStack(
                f"{self.card.name!r} evaluates what is handed on, which lacks the parts that clients keep to themselves",
                got=", ".join(pipeline.personal),
            )
