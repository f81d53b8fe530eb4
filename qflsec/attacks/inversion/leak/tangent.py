"""The gradient as a function of the records, near random ones: what one round determines, and how noise grows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from qflsec.attacks.inversion.least_squares import row_jacobians
from qflsec.base import stream
from qflsec.models import Execution, Model, per_sample_gradients

__all__ = ["Tangent", "tangent_of"]

_DRAWS = 12
_RANK = 1e-7
_MAX_ROUNDS = 8
_DOUBLE = Execution(dtype="complex128")


@dataclass(frozen=True, kw_only=True)
class Tangent:
    """The derivative of the gradient in the records, at random models and records.

    Attributes:
        unknowns: Features of all records of a gradient.
        rank: The rank of one round, the median over draws.
        rounds: Rounds at independent models after which no direction is left open; None if some always is.
        condition: The median condition number of one round, over what it determines.
        error: The root mean squared error of a feature, in its own unit, that noise of one percent of the gradient's norm
            leaves in one round, to first order, the median over draws; infinite where directions are left open.
    """

    unknowns: int
    rank: int
    rounds: int | None
    condition: float
    error: float

    def sentences(self, records: int) -> Iterator[str]:
        """What follows."""
        what = "one record" if records == 1 else f"{records} records"
        if self.rank == self.unknowns:
            yield (
                f"one gradient determines {what} near the true one{'s' * (records > 1)} (rank {self.rank} of "
                f"{self.unknowns}): only an attacker's search and noise stand in between"
            )
        elif self.rounds is not None:
            yield (
                f"one gradient leaves {self.unknowns - self.rank} of {self.unknowns} directions open; {self.rounds} rounds "
                "at different models leave none"
            )
        else:
            yield (
                f"gradients leave {self.unknowns - self.rank} of {self.unknowns} directions open in any number of rounds: "
                "an attacker can still guess these, and learns the others"
            )


def tangent_of(
    model: Model, *, records: int, seed: int = 0, feature_range: tuple[float, float] = (0.0, math.pi)
) -> Tangent:
    """The gradient map of a model near random records.

    Args:
        model: The model.
        records: Records in one gradient.
        seed: Of models and records.
        feature_range: Where features lie.
    """
    generator, (low, high) = stream(seed, "leak", "tangent"), feature_range
    shape = (_DRAWS, records, model.n_features)
    features = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(model.n_classes, shape[:2], generator=generator)
    unknowns = records * model.n_features
    stacked = torch.zeros(_DRAWS, 0, unknowns, dtype=torch.float64)
    rounds: int | None = None
    for place in range(_MAX_ROUNDS):
        gradients, jacobians = _linearised(model, features, labels, generator)
        if place == 0:
            sizes, first = gradients.norm(dim=1), torch.linalg.svdvals(jacobians)
        stacked = torch.cat([stacked, jacobians], dim=1)
        if int(_ranks(torch.linalg.svdvals(stacked)).median()) == unknowns:
            rounds = place + 1
            break
    ranks = _ranks(first)
    seen = first[torch.arange(_DRAWS), ranks.clamp_min(1) - 1]
    condition = float((first[:, 0] / seen).median())
    error = math.inf
    if int(ranks.median()) == unknowns:
        # noise of variance s^2 in each of P coordinates: the inverse map gives s^2 sum of 1 / sigma^2
        spread = 0.01 * sizes / math.sqrt(model.n_params)
        inverse = first.clamp_min(1e-300).reciprocal().square().sum(dim=1)
        error = float((spread * (inverse / unknowns).sqrt()).median())
    return Tangent(
        unknowns=unknowns, rank=int(ranks.median()), rounds=rounds, condition=condition, error=error
    )


def _linearised(
    model: Model, features: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of the mean loss at new random models, and their derivatives in the records."""
    params = torch.stack([model.initial(generator) for _ in range(len(features))]).double()
    points = features.clone().requires_grad_()
    each = per_sample_gradients(model, params[:, None], points, labels, execution=_DOUBLE, create_graph=True)
    gradients = each.mean(dim=1)
    return gradients.detach(), row_jacobians(gradients, points)


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return (values > _RANK * values[:, :1].clamp_min(1e-300)).sum(dim=1)
