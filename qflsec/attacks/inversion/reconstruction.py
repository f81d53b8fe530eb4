"""From a matching problem to records: starts, labels, refinement, and what is plausible beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from qflsec.attacks.inversion.least_squares import Minimum
from qflsec.attacks.inversion.problem import Guesses, Problem
from qflsec.attacks.inversion.solvers import Residuals, Search, refine
from qflsec.threat import Records

__all__ = ["Budget", "Prior", "Reconstruction", "into_range", "label_hypotheses", "reconstruct"]

_EQUAL = 1e-10
"""Objectives below this explain an update as well as single precision lets anything do."""
_LAST = 4
_EXACT = 1e-9
"""Below this variance of the noise no prior can move a reconstruction."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is tried.

    Attributes:
        screened: Random starts whose objectives are compared.
        restarts: The best of them, which are refined.
        search: How they are refined.
    """

    screened: int
    restarts: int
    search: Search = field(default_factory=Search)


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
        plans: Batches under which they would; None where every step takes all records.
        steps: Steps of all refinements.

    Shapes:
        features: ``(B, F)``; labels: ``(B,)``; plans: ``(1, observations, steps, B)``
    """

    features: Tensor
    labels: Tensor
    objective: float
    plans: Tensor | None
    steps: int


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
    problem: Problem,
    hypotheses: Tensor | None,
    *,
    feature_range: Sequence[float],
    generator: torch.Generator,
    budget: Budget,
    prior: Prior | None = None,
    least_noise: float = 0.0,
    plans: Tensor | None = None,
    warm: Tensor | None = None,
) -> Reconstruction:
    """The records of the best of many starts.

    Without a prior this is least squares. With one, the misfit that least squares leaves is taken as noise of
    equal variance on every coordinate, and the most probable records under that noise and the prior are
    sought from the same starts and from the prior's mean: what the update does not determine stays near what
    could be guessed.

    Args:
        problem: The problem.
        hypotheses: Label multisets, over which starts are spread evenly; None to search for labels as well.
        feature_range: Where starts are drawn, uniformly.
        generator: The stream of the starts.
        budget: How much is tried.
        prior: What records look like beforehand.
        least_noise: The share of the observed update's squared norm that is noise at least.
        plans: Ways of putting records into batches, over which starts are spread evenly.
        warm: Guesses that are screened with the random starts, under every hypothesis.

    Shapes:
        hypotheses: ``(H, B)``; plans: ``(J, observations, steps, B)``; warm: ``(W, B, F)``

    Source:
        Balunovic, Dimitrov, Staab, Vechev: Bayesian framework for gradient leakage, ICLR 2022, section 4.
    """
    starts, guesses = _starts(problem, hypotheses, feature_range, generator, budget, plans, warm)
    steps = 0
    if hypotheses is None:
        found = _refined(problem, starts, guesses, budget)
        starts, guesses = _with_labels(problem, found.points, guesses)
        steps += found.iterations
    found = _refined(problem, starts, guesses, budget)
    steps += found.iterations
    unknowns = math.prod(problem.shape)
    variance = float(found.objectives.min()) / max(1, problem.n_observed - unknowns)
    variance = max(variance, least_noise / problem.n_observed)
    if prior is not None and variance > _EXACT:
        points = into_range(found.points, feature_range, angles=problem.angles)
        starts, guesses = _with_guess(problem, points, guesses, hypotheses, prior)
        residuals = _posterior(problem, guesses, prior, variance)
        found = refine(residuals, starts, budget.search, copies=not problem.draws)
        steps += found.iterations
    best = _likeliest(problem, found, prior)[None]
    points, chosen = found.points[best], guesses.at(best)
    if (
        float(problem.objective(points, chosen)) < _EQUAL
    ):  # one of several ends of a search that stopped with the first
        last = refine(
            problem.residuals(chosen),
            points,
            replace(budget.search, tolerance=0.0, iterations=_LAST, solver="least-squares"),
            copies=not problem.draws,
        )
        points = last.points
    points = into_range(points, feature_range, angles=problem.angles)
    return Reconstruction(
        features=problem.features(points)[0],
        labels=problem.labels(points, chosen)[0],
        objective=float(problem.objective(points, chosen)),
        plans=chosen.plans,
        steps=steps,
    )


def _likeliest(problem: Problem, found: Minimum, prior: Prior | None) -> Tensor:
    """The best point; of several that explain the update equally well, the likeliest beforehand."""
    least = found.objectives.min()
    if prior is None or float(least) > _EQUAL:
        return found.objectives.argmin()
    scaled = (problem.features(found.points) - prior.mean) / prior.scale
    surprise = scaled.square().sum(dim=(1, 2))
    return torch.where(found.objectives <= _EQUAL, surprise, torch.inf).argmin()


def _starts(
    problem: Problem,
    hypotheses: Tensor | None,
    feature_range: Sequence[float],
    generator: torch.Generator,
    budget: Budget,
    plans: Tensor | None,
    warm: Tensor | None,
) -> tuple[Tensor, Guesses]:
    """The best of the random starts."""
    low, high = feature_range
    each = 1 if hypotheses is None else len(hypotheses)
    count = math.ceil(budget.screened / each) * each
    shape = (count, *problem.shape)
    starts = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    if warm is not None:
        starts = torch.cat([warm.double().repeat_interleave(each, dim=0), starts])
    labels = None if hypotheses is None else hypotheses.repeat(len(starts) // each, 1)
    points = starts.flatten(start_dim=1)
    if labels is None:
        size = (len(starts), problem.n_records * problem.n_classes)
        points = torch.cat([points, torch.randn(size, generator=generator, dtype=torch.float64)], dim=1)
    if plans is not None:
        turn = torch.randint(len(plans), (len(starts),), generator=generator)
        plans = plans[turn]
    guesses = Guesses(labels=labels, plans=plans)
    chosen = problem.objective(points, guesses).argsort(stable=True)[: budget.restarts]
    return points[chosen], guesses.at(chosen)


def _with_labels(problem: Problem, points: Tensor, guesses: Guesses) -> tuple[Tensor, Guesses]:
    """Points whose labels are unknowns as starts under their likeliest labels."""
    size = math.prod(problem.shape)
    return points[:, :size], Guesses(labels=problem.labels(points, guesses), plans=guesses.plans)


def _refined(problem: Problem, starts: Tensor, guesses: Guesses, budget: Budget) -> Minimum:
    """Least squares from these starts, an optimiser with signs through softer ones first."""
    steps = 0
    for softening in problem.softenings():
        residuals = problem.softened(softening).residuals(guesses)
        found = refine(residuals, starts, budget.search, copies=not problem.draws)
        starts, steps = found.points, steps + found.iterations
    return replace(found, iterations=steps)


def _with_guess(
    problem: Problem, points: Tensor, guesses: Guesses, hypotheses: Tensor | None, prior: Prior
) -> tuple[Tensor, Guesses]:
    """The points with the prior's mean under every hypothesis; under the best point's labels where there are none."""
    assert guesses.labels is not None  # a search for labels ended in labels
    labels = guesses.labels[:1] if hypotheses is None else hypotheses
    mean = prior.mean.repeat(problem.n_records).expand(len(labels), -1)
    plans = guesses.plans
    if plans is not None:
        plans = torch.cat([plans, plans[:1].expand(len(labels), -1, -1, -1)])
    return torch.cat([points, mean]), Guesses(labels=torch.cat([guesses.labels, labels]), plans=plans)


def _posterior(problem: Problem, guesses: Guesses, prior: Prior, variance: float) -> Residuals:
    """Residuals in units of their standard deviations, the prior's among them."""
    of, spread = problem.residuals(guesses), math.sqrt(variance)
    mean, scale = prior.mean.repeat(problem.n_records), prior.scale.repeat(problem.n_records)

    def residuals(points: Tensor) -> Tensor:
        return torch.cat([of(points) / spread, (points - mean) / scale], dim=-1)

    return residuals
