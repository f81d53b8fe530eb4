"""Classical layers over leading axes of models and records."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["affine", "affine_layout", "dense", "draw_affine"]

Layout = tuple[tuple[str, tuple[int, ...]], ...]


def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``weight @ x + bias`` with broadcasting leading axes.

    Weights shared by all records (last leading axis of size 1) are folded, so that one product serves the
    records of a model; the path depends on the shape of the weights alone.

    Shapes:
        x: ``(..., in)``.
        weight: ``(..., out, in)``.
        bias: ``(..., out)``.
        returns: ``(..., out)``.
    """
    if weight.dim() == 2 and x.dim() > 1:
        return x @ weight.mT + bias
    if weight.dim() > 2 and weight.shape[-3] == 1 and x.dim() > 1:
        return x @ weight.squeeze(-3).mT + bias
    return (x.unsqueeze(-2) @ weight.mT).squeeze(-2) + bias


def dense(x: Tensor, blocks: dict[str, Tensor], prefix: str, count: int) -> Tensor:
    """``count`` affine layers named ``{prefix}.{i}`` with tanh between them, not after the last."""
    for i in range(count):
        x = torch.tanh(x) if i else x
        x = affine(x, blocks[f"{prefix}.{i}.weight"], blocks[f"{prefix}.{i}.bias"])
    return x


def affine_layout(prefix: str, widths: tuple[int, ...]) -> Layout:
    """The blocks of affine layers between successive widths: weight ``(out, in)``, bias ``(out,)``."""
    layout: list[tuple[str, tuple[int, ...]]] = []
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        layout += [(f"{prefix}.{i}.weight", (n_out, n_in)), (f"{prefix}.{i}.bias", (n_out,))]
    return tuple(layout)


def draw_affine(widths: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Initial values of :func:`affine_layout`, uniform in +-1/sqrt(in) as in ``torch.nn.Linear``.

    Shapes:
        returns: one flat float32 vector.
    """
    draws = []
    for n_in, n_out in pairwise(widths):
        unit = torch.rand((n_in + 1) * n_out, generator=generator)
        draws.append((2 * unit - 1) / math.sqrt(n_in))
    return torch.cat(draws)
