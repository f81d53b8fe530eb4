"""Robust rules: one step from the updates of a round, whoever sent them."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch

from qflsec.base import IncompatibleStack
from qflsec.federation import AggregatorLayer, RoundUpdates, SummedUpdates

__all__ = ["RobustRule"]


class RobustRule(AggregatorLayer):
    """A rule without memory that needs individual updates and counts every client the same."""

    @final
    def start(self, n_params: int) -> object:
        """No state."""
        return None

    @final
    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The rule on the updates of the round.

        Raises:
            IncompatibleStack: The server holds only a sum.
        """
        if isinstance(batch, SummedUpdates):
            raise IncompatibleStack(
                f"{self.card.name!r} needs individual updates, but the server holds only their sum"
            )
        return self.rule(batch.updates, f=batch.f), None

    @abstractmethod
    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The step.

        Args:
            updates: A row for each client.
            f: How many of them the server reckons to be corrupted; those that it dropped are not counted any more.

        Shapes:
            updates: ``(n, P)``; returns: ``(P,)``
        """
