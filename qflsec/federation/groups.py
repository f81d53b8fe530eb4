"""Sums over groups: what a server holds that sees neither single updates nor only one sum over all."""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["GroupMean"]


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
