"""Clipping: scale vectors down to a norm, never up."""

from __future__ import annotations

import torch

__all__ = ["clip_to_norm"]

# Products are rounded to the nearest number, so the target lies a little inside the bound.
_INSIDE = 1.0 - 2.0**-22


def clip_to_norm(vectors: torch.Tensor, bound: float | torch.Tensor) -> torch.Tensor:
    """Scale each vector down to L2 norm ``bound``; shorter ones stay as they are, bit for bit.

    The norm of a clipped vector, taken in double precision, never exceeds the bound: the sensitivity of a
    sum of clipped vectors is exactly the bound, not the bound and a rounding error.

    Args:
        vectors: Vectors along the last axis.
        bound: The largest norm; one number, or one for each vector.

    Shapes:
        vectors: ``(..., P)``; bound: scalar or ``(...)``; returns: ``(..., P)``
    """
    norms = torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64)
    limit = torch.as_tensor(bound, dtype=torch.float64, device=vectors.device)
    scale = torch.where(norms > limit, limit / norms * _INSIDE, torch.ones_like(norms))
    return vectors * scale.to(vectors.dtype)[..., None]
