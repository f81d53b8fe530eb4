"""Several observed updates of the same records as one problem, and what its unknowns are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from qflsec.attacks.inversion.matching import Matching
from qflsec.attacks.inversion.solvers import Residuals

__all__ = ["Guesses", "Problem"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Guesses:
    """What is not searched by derivatives: the labels, and how records were put into batches.

    Attributes:
        labels: Labels of each guess; None where they are unknowns too.
        plans: The records' weights in each step of each observation; None where every step takes all records.

    Shapes:
        labels: ``(R, B)``; plans: ``(R, observations, steps, B)``
    """

    labels: Tensor | None
    plans: Tensor | None = None

    def at(self, rows: Tensor) -> Guesses:
        """Some of them."""
        return Guesses(
            labels=None if self.labels is None else self.labels[rows],
            plans=None if self.plans is None else self.plans[rows],
        )

    def repeated(self, points: Tensor) -> Guesses:
        """Those of points, which are copies of the guesses, one after the other."""
        known = self.plans if self.labels is None else self.labels
        if known is None or len(points) == len(known):
            return self
        return self.at(torch.arange(len(known)).repeat(len(points) // len(known)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Which records would have caused these updates?

    A point holds the features of all records, and where labels are unknown the logits of a distribution over the classes
    for each, as in the paper of deep leakage; a loss is linear in such a distribution.

    Attributes:
        pieces: One matching problem for each observed update.
        n_records: How many records a guess has.

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, algorithm 1 (labels as unknowns).
    """

    pieces: tuple[Matching, ...]
    n_records: int

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Records and features of a guess."""
        return self.n_records, self.pieces[0].model.n_features

    @property
    def n_classes(self) -> int:
        """Classes."""
        return self.pieces[0].model.n_classes

    @property
    def n_observed(self) -> int:
        """Numbers that were observed."""
        return sum(len(piece.observed) for piece in self.pieces)

    @property
    def angles(self) -> bool:
        """Whether features are angles."""
        return self.pieces[0].model.angle_features

    @property
    def draws(self) -> bool:
        """Whether any update is simulated with shots."""
        return any(piece.draws for piece in self.pieces)

    def softened(self, softening: float) -> Problem:
        """The same problem with larger denominators in Adam."""
        return replace(self, pieces=tuple(replace(piece, softening=softening) for piece in self.pieces))

    def softenings(self) -> tuple[float, ...]:
        """The softenings that a search goes through, one after the other."""
        adam = any(piece.rule.optimizer == "adam" for piece in self.pieces)
        return (0.3, 0.03, 0.0) if adam else (0.0,)

    def features(self, points: Tensor) -> Tensor:
        """The features of points.

        Shapes:
            points: ``(R, D)``; returns: ``(R, B, F)``
        """
        return points[:, : math.prod(self.shape)].reshape(-1, *self.shape)

    def labels(self, points: Tensor, guesses: Guesses) -> Tensor:
        """The labels of points, the likeliest ones where they are unknowns.

        Shapes:
            points: ``(R, D)``; returns: ``(R, B)``
        """
        return self._weights(points).argmax(dim=-1) if guesses.labels is None else guesses.labels

    def residuals(self, guesses: Guesses) -> Residuals:
        """The residuals as a function of points, so scaled that the objective is the mean over the observations."""
        scale = 1 / math.sqrt(len(self.pieces))

        def of(points: Tensor) -> Tensor:
            features, each = self.features(points), guesses.repeated(points)
            labels = self._weights(points) if each.labels is None else each.labels
            parts = []
            for place, piece in enumerate(self.pieces):
                plan = None if each.plans is None else each.plans[:, place]
                parts.append(piece.residuals(features, labels, plan, create_graph=points.requires_grad))
            return scale * (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1))

        return of

    def objective(self, points: Tensor, guesses: Guesses) -> Tensor:
        """The mean squared residual of points.

        Shapes:
            points: ``(R, D)``; returns: ``(R,)``
        """
        return self.residuals(guesses)(points.detach()).square().sum(dim=-1)

    def misfit(self, features: Tensor, labels: Tensor, plans: Tensor | None) -> float:
        """How badly these records explain the updates, under the plan that suits them best.

        Shapes:
            features: ``(B, F)``; labels: ``(B,)``; plans: ``(R, observations, steps, B)``
        """
        count = 1 if plans is None else len(plans)
        points = features.double().reshape(1, -1).expand(count, -1)
        guesses = Guesses(labels=labels.expand(count, -1), plans=plans)
        return float(self.objective(points, guesses).min())

    def _weights(self, points: Tensor) -> Tensor:
        logits = points[:, math.prod(self.shape) :].reshape(-1, self.n_records, self.n_classes)
        return torch.softmax(logits, dim=-1)
