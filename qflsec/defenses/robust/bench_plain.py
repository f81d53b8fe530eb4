# ruff: noqa: ARG001 - one signature for all
"""Plain code for the benchmark of robust rules: torch as one writes it from the formulas, as public packages do."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["PLAIN", "STEPS"]

STEPS = 50
"""How many steps the plain geometric median makes."""


def _trimmed_mean(updates: Tensor, f: int) -> Tensor:
    return torch.sort(updates, dim=0).values[f : len(updates) - f].mean(dim=0)


def _median(updates: Tensor, f: int) -> Tensor:
    return torch.quantile(updates, 0.5, dim=0)


def _mean_around_median(updates: Tensor, f: int) -> Tensor:
    apart = (updates - torch.quantile(updates, 0.5, dim=0)).abs()
    nearest = apart.argsort(dim=0)[: len(updates) - f]
    return torch.gather(updates, 0, nearest).mean(dim=0)


def _geometric_median(updates: Tensor, f: int) -> Tensor:
    middle = updates.mean(dim=0)
    for _ in range(STEPS):
        weights = 1.0 / torch.linalg.vector_norm(updates - middle, dim=1).clamp(min=1e-6)
        middle = (weights[:, None] * updates).sum(dim=0) / weights.sum()
    return middle


def _scores(updates: Tensor, f: int) -> Tensor:
    ordered = (torch.cdist(updates, updates) ** 2).sort(dim=1).values
    return ordered[:, 1 : max(2, len(updates) - f - 1)].sum(dim=1)


def _krum(updates: Tensor, f: int) -> Tensor:
    return updates[_scores(updates, f).argmin()]


def _multi_krum(updates: Tensor, f: int) -> Tensor:
    return updates[_scores(updates, f).argsort()[: len(updates) - f]].mean(dim=0)


def _minimum_diameter(updates: Tensor, f: int) -> Tensor:
    distances = torch.cdist(updates, updates)
    sets = itertools.combinations(range(len(updates)), len(updates) - f)
    parts = {kept: distances[list(kept)][:, list(kept)] for kept in sets}
    best = min(parts, key=lambda kept: (float(parts[kept].max()), float(parts[kept].square().sum())))
    return updates[list(best)].mean(dim=0)


def _centred_clipping(updates: Tensor, f: int) -> Tensor:
    centre = torch.zeros_like(updates[0])
    for _ in range(3):
        apart = updates - centre
        lengths = torch.linalg.vector_norm(apart, dim=1)
        centre = centre + (apart * (torch.quantile(lengths, 0.5) / lengths).clamp(max=1.0)[:, None]).mean(
            dim=0
        )
    return centre


def _bulyan(updates: Tensor, f: int) -> Tensor:
    left, chosen = updates, []
    for _ in range(len(updates) - 2 * f):
        best = int(_scores(left, f).argmin()) if len(left) > 1 else 0
        chosen.append(left[best])
        left = torch.cat([left[:best], left[best + 1 :]])
    return _mean_around_median(torch.stack(chosen), 2 * f)


def _dnc(updates: Tensor, f: int) -> Tensor:
    centred = updates - updates.mean(dim=0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    return updates[(centred @ direction).square().argsort()[: len(updates) - f]].mean(dim=0)


def _nnm(updates: Tensor, f: int) -> Tensor:
    nearest = torch.cdist(updates, updates).argsort(dim=1)[:, : len(updates) - f]
    return updates[nearest].mean(dim=1)


def _arc(updates: Tensor, f: int) -> Tensor:
    n = len(updates)
    lengths = torch.stack([torch.linalg.vector_norm(row) for row in updates])
    limit = lengths.sort(descending=True).values[2 * f * (n - f) // n]
    return torch.stack(
        [row * min(1.0, float(limit / length)) for row, length in zip(updates, lengths, strict=True)]
    )


def _weak_dp(updates: Tensor, f: int) -> Tensor:
    return torch.stack([row * min(1.0, 3.0 / float(torch.linalg.vector_norm(row))) for row in updates]).mean(
        dim=0
    )


def _fltrust(updates: Tensor, f: int) -> Tensor:
    trusted = updates[0]
    scores = torch.stack([torch.cosine_similarity(row, trusted, dim=0).clamp(min=0.0) for row in updates])
    scaled = torch.stack(
        [row * (torch.linalg.vector_norm(trusted) / torch.linalg.vector_norm(row)) for row in updates]
    )
    return (scores[:, None] * scaled).sum(dim=0) / scores.sum()


PLAIN: dict[str, Callable[[Tensor, int], Tensor]] = {
    "trimmed-mean": _trimmed_mean,
    "median": _median,
    "mean-around-median": _mean_around_median,
    "geometric-median": _geometric_median,
    "krum": _krum,
    "multi-krum": _multi_krum,
    "minimum-diameter": _minimum_diameter,
    "centred-clipping": _centred_clipping,
    "bulyan": _bulyan,
    "dnc": _dnc,
    "nnm": _nnm,
    "arc": _arc,
    "weak-dp": _weak_dp,
    "fltrust": _fltrust,
}
"""A function of the updates and f for each rule that is measured."""
