"""What gradient steps on records have in common, in training against them and in attacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Loss", "feature_gradient", "within_budget"]

Loss = Callable[[Tensor], Tensor]
"""Features ``(..., F)`` to what is to be raised, ``(...)``."""


def feature_gradient(loss: Loss, features: Tensor) -> tuple[Tensor, Tensor]:
    """Losses, and their gradients in the features.

    Shapes:
        features: ``(..., F)``; returns: ``(...)`` and ``(..., F)``
    """
    leaf = features.detach().requires_grad_()
    found = loss(leaf)
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), slope


def within_budget(moved: Tensor, original: Tensor, epsilon: float, low: float, high: float) -> Tensor:
    """The nearest records that no feature has left its budget or its range in.

    Records may lie outside the range as they are; they are moved no farther out.

    Shapes:
        moved, original: ``(..., F)``; returns the same
    """
    near = torch.minimum(torch.maximum(moved, original - epsilon), original + epsilon)
    return torch.minimum(torch.maximum(near, original.clamp(max=low)), original.clamp(min=high))
