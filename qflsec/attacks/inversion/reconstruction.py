"""From a matching problem to records: starts, labels, refinement, and what is plausible beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from qflsec.attacks.inversion.least_squares import Minimum, minimise
from qflsec.attacks.inversion.matching import Matching
from qflsec.threat import Records

__all__ = ["Budget", "Prior", "Reconstruction", "into_range", "label_hypotheses", "reconstruct"]

_TOLERANCE = 1e-13
"""A squared relative residual that is good enough; updates in single precision allow no less."""

_EXACT = 1e-9
"""Below this variance of the noise no prior can move a reconstruction."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is tried.

    Attributes:
        screened: Random starts whose objectives are compared.
        restarts: The best of them, which are refined.
        iterations: The most steps of a refinement.
    """

    screened: int
    restarts: int
    iterations: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What records look like to the adversary beforehand: a normal distribution of each feature.

    Shapes:
        mean: ``(F,)``; scale: ``(F,)``
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, auxiliary: Records | None, feature_range: Sequence[float], n_features: int) -> Prior:
        """Mean and spread of the auxiliary records; of the uniform distribution where there are none."""
        low, high = feature_range
        if auxiliary is None or len(auxiliary.labels) < 2:
            middle = torch.full((n_features,), (low + high) / 2, dtype=torch.float64)
            return cls(mean=middle, scale=torch.full_like(middle, (high - low) / math.sqrt(12)))
        features = auxiliary.features.double()
        scale = features.std(dim=0).clamp_min(1e-3 * (high - low))
        return cls(mean=features.mean(dim=0), scale=scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """The records of the best start.

    Attributes:
        features: The features.
        labels: The labels.
        objective: How far the update that they would cause is from the observed one.

    Shapes:
        features: ``(B, F)``; labels: ``(B,)``
    """

    features: Tensor
    labels: Tensor
    objective: float


def label_hypotheses(n_records: int, n_classes: int, *, most: int, generator: torch.Generator) -> Tensor:
    """The label multisets of some records: all of them, or a random choice.

    Records come in no order, so only the counts of the classes matter.

    Shapes:
        returns: ``(H, n_records)``, sorted in each row
    """
    if math.comb(n_records + n_classes - 1, n_records) <= most:
        return torch.tensor(list(combinations_with_replacement(range(n_classes), n_records)))
    return torch.randint(n_classes, (most, n_records), generator=generator).sort(dim=1).values


def into_range(features: Tensor, feature_range: Sequence[float], *, angles: bool) -> Tensor:
    """The nearest point of the feature range, for angles after turning them by multiples of 2 pi."""
    low, high = feature_range
    if angles and high - low < 2 * math.pi:
        features = low + torch.remainder(features - low, 2 * math.pi)
        nearer_low = features - high > low + 2 * math.pi - features
        features = torch.where(nearer_low, low, features)
    return features.clamp(low, high)


def reconstruct(
    matching: Matching,
    hypotheses: Tensor,
    *,
    feature_range: Sequence[float],
    generator: torch.Generator,
    budget: Budget,
    prior: Prior | None = None,
    least_noise: float = 0.0,
    warm: Tensor | None = None,
) -> Reconstruction:
    """The records of the best of many starts.

    Without a prior this is least squares. With one, the misfit that least squares leaves is taken as noise of
    equal variance on every coordinate, and the most probable records under that noise and the prior are
    sought from the same starts and from the prior's mean: what the update does not determine stays near what
    could be guessed.

    Args:
        matching: The problem.
        hypotheses: Label multisets; starts are spread evenly over them.
        feature_range: Where starts are drawn, uniformly.
        generator: The stream of the starts.
        budget: How much is tried.
        prior: What records look like beforehand.
        least_noise: The share of the observed update's squared norm that is noise at least.
        warm: Guesses that are screened with the random starts, under every hypothesis.

    Shapes:
        hypotheses: ``(H, B)``; warm: ``(W, B, F)``

    Source:
        Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, ICLR 2022, section 4.
    """
    low, high = feature_range
    angles = matching.model.angle_features
    labels = hypotheses.repeat(math.ceil(budget.screened / len(hypotheses)), 1)
    shape = (*labels.shape, matching.model.n_features)
    starts = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    if warm is not None:
        starts = torch.cat([warm.double().repeat_interleave(len(hypotheses), dim=0), starts])
        labels = torch.cat([hypotheses.repeat(len(warm), 1), labels])
    chosen = matching.objective(starts, labels).argsort(stable=True)[: budget.restarts]
    labels = labels[chosen]
    found = _refine(matching, starts[chosen], labels, budget, prior=None, variance=1.0)
    n_params, unknowns = len(matching.params), shape[1] * shape[2]
    variance = float(found.objectives.min()) / max(1, n_params - unknowns)
    variance = max(variance, least_noise / n_params)
    if prior is not None and variance > _EXACT:
        points = into_range(found.points.view(-1, *shape[1:]), feature_range, angles=angles)
        guess = prior.mean.expand(*hypotheses.shape, -1)
        labels = torch.cat([labels, hypotheses])
        found = _refine(matching, torch.cat([points, guess]), labels, budget, prior=prior, variance=variance)
    best = int(found.objectives.argmin())
    features = into_range(found.points[best].view(shape[1:]), feature_range, angles=angles)
    objective = float(matching.objective(features[None], labels[best][None]))
    return Reconstruction(features=features, labels=labels[best], objective=objective)


def _refine(
    matching: Matching,
    starts: Tensor,
    labels: Tensor,
    budget: Budget,
    *,
    prior: Prior | None,
    variance: float,
) -> Minimum:
    """Least squares from these starts; with a prior, the residuals in units of their standard deviations."""
    n_records = starts.shape[1]
    spread = math.sqrt(variance)

    def linearise(points: Tensor) -> tuple[Tensor, Tensor]:
        residuals, jacobians = matching.linearise(points.view(starts.shape), labels)
        if prior is None:
            return residuals, jacobians
        mean, scale = prior.mean.repeat(n_records), prior.scale.repeat(n_records)
        pull = torch.diag(1 / scale).expand(len(points), -1, -1)
        return (
            torch.cat([residuals / spread, (points - mean) / scale], dim=1),
            torch.cat([jacobians / spread, pull], dim=1),
        )

    return minimise(
        linearise, starts.flatten(start_dim=1), iterations=budget.iterations, tolerance=_TOLERANCE
    )
