"""Sums over groups: what a server holds that sees neither single updates nor only one sum over all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch

from qflsec.federation.parties import Header, PartyState
from qflsec.threat import Payload

__all__ = ["GroupMean", "LeavesGroups"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupMean:
    """The weighted mean of the updates of one group.

    Attributes:
        members: The clients in it.
        mean: The weighted mean.
        weight: The sum of their weights.

    Shapes:
        mean: ``(P,)``
    """

    members: tuple[int, ...]
    mean: torch.Tensor
    weight: float


class LeavesGroups(ABC):
    """What an aggregation adds that leaves the server the sums of groups."""

    @abstractmethod
    def reveal_groups(self, state: PartyState, combined: Payload, header: Header) -> tuple[GroupMean, ...]:
        """The weighted mean of each group, by the server.

        Raises:
            ProtocolAbort: Too few groups are left.
        """
