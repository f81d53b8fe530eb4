"""Gradient matching as a least-squares problem: which records would have caused this update?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qflsec.attacks.inversion.least_squares import linearised
from qflsec.attacks.inversion.unrolled import LocalRule, unroll
from qflsec.models import Execution, Model

__all__ = ["Match", "Matching"]

Match = Literal["euclidean", "cosine"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matching:
    """The difference between an observed update and the update that guessed records would cause.

    Clients are modelled as their public pipeline says (:mod:`qflsec.attacks.inversion.unrolled`), and it is
    differentiated through all local steps. Of a weighted mean over several clients, every client trains on its own part of the
    guess.

    Attributes:
        model: The model.
        params: Where the update starts, in double precision.
        observed: The observed update over minus the learning rate, in double precision.
        rule: The clients' optimiser.
        match: ``"euclidean"`` compares the vectors, relative to the observed norm. ``"cosine"`` leaves the
            scale of the simulated update free, so that a client that scales its update (clipping) changes
            nothing: the squared residual is then the squared sine of the angle between the two, or 1 where
            the angle is obtuse.
        execution: How the attacker simulates the model.
        clients: The places of each client's records in a guess; None for one client that holds all.
        generator: Of the attacker's shots, if any.
        softening: See :func:`~qflsec.attacks.inversion.unrolled.unroll`.
        live: 1 for parameters that are compared, 0 for others. Adam turns the rounding of a gradient that is zero
            into a step as large as any.

    Shapes:
        params: ``(P,)``; observed: ``(P,)``; live: ``(P,)``

    Source:
        Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, equation 1 (``euclidean``). Geiping et al.:
        Inverting gradients, NeurIPS 2020, equation 4 (``cosine``; the sine has the same minimum, and is what
        remains of a linear factor in least squares) and section 5 (several local steps).
    """

    model: Model
    params: Tensor
    observed: Tensor
    rule: LocalRule
    match: Match
    execution: Execution
    clients: tuple[tuple[int, ...], ...] | None = None
    generator: torch.Generator | None = None
    softening: float = 0.0
    live: Tensor | None = None

    @property
    def draws(self) -> bool:
        """Whether the attacker simulates shots: copies of a guess would draw outcomes of their own."""
        return self.execution.shots is not None

    def objective(self, features: Tensor, labels: Tensor, plan: Tensor | None = None) -> Tensor:
        """The squared norm of the residual of each guess.

        Shapes:
            features: ``(R, B, F)``; labels: ``(R, B)`` or ``(R, B, K)``; plan: ``(R, steps, B)``; returns: ``(R,)``
        """
        return self.residuals(features, labels, plan).square().sum(dim=-1)

    def residuals(
        self, features: Tensor, labels: Tensor, plan: Tensor | None = None, *, create_graph: bool = False
    ) -> Tensor:
        """The residual of each guess, differentiable in features and labels where the graph is kept.

        Shapes:
            features: ``(R, B, F)``; labels: ``(R, B)`` or ``(R, B, K)``; plan: ``(R, steps, B)``; returns: ``(R, P)``
        """
        simulated = self._simulate(features, labels, plan, create_graph=create_graph)
        observed = self.observed
        if self.live is not None:
            simulated, observed = simulated * self.live, observed * self.live
        target, size = _unit(observed)
        if self.match == "euclidean":
            return simulated / size - target
        direction, _ = _unit(simulated)
        # a client does not turn its update round
        return (direction @ target)[..., None].clamp_min(0) * direction - target

    def linearise(
        self, features: Tensor, labels: Tensor, plan: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The residual of each guess and its derivative in the guess's features.

        Shapes:
            features: ``(R, B, F)``; labels: ``(R, B)`` or ``(R, B, K)``; plan: ``(R, steps, B)``; returns: ``(R, P)``
            and ``(R, P, B * F)``
        """

        def residuals(guesses: Tensor) -> Tensor:
            copies = len(guesses) // len(features)
            repeated = None if plan is None or len(plan) == 1 else plan.repeat(copies, 1, 1)
            each = labels.repeat(copies, *[1] * (labels.ndim - 1))
            return self.residuals(guesses, each, plan if repeated is None else repeated, create_graph=True)

        return linearised(residuals, features, copies=not self.draws)

    def _simulate(
        self, features: Tensor, labels: Tensor, plan: Tensor | None, *, create_graph: bool
    ) -> Tensor:
        n_records = features.shape[1]
        groups = (tuple(range(n_records)),) if self.clients is None else self.clients
        if plan is None:
            plan = torch.zeros(1, self.rule.steps, n_records, dtype=features.dtype)
            for group in groups:
                plan[..., list(group)] = 1 / len(group)
        plan = plan.expand(len(features), -1, -1)
        held = sum(len(group) for group in groups)
        if self.rule.linear and len(groups) > 1:  # the mean of gradients is one gradient
            shares = plan.clone()
            for group in groups:
                shares[..., list(group)] *= len(group) / held
            groups, plan = (tuple(place for group in groups for place in group),), shares
        total: Tensor | None = None
        for group in groups:
            chosen = list(group)
            share = unroll(
                self.model,
                self.params,
                features[:, chosen],
                labels[:, chosen],
                plan[..., chosen],
                rule=self.rule,
                execution=self.execution,
                generator=self.generator,
                softening=self.softening,
                create_graph=create_graph,
            ) * (len(group) / held)
            total = share if total is None else total + share
        assert total is not None
        return total


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors and the norms; a zero vector stays zero."""
    size = vectors.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return vectors / size, size
