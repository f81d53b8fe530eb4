"""Gradient matching: the search that attacks on updates share, whatever they read off a view."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from qflsec.attacks.base import Inference
from qflsec.attacks.challenges import Challenge, InversionChallenge, InversionClaim
from qflsec.attacks.inversion.labels import label_options
from qflsec.attacks.inversion.matching import Match, Matching
from qflsec.attacks.inversion.observation import Observation
from qflsec.attacks.inversion.problem import Problem
from qflsec.attacks.inversion.reconstruction import Budget, Prior, reconstruct
from qflsec.attacks.inversion.solvers import Derivatives, Search, Solver
from qflsec.attacks.inversion.unrolled import LocalRule, draw_plans
from qflsec.base import ConfigError, finite
from qflsec.models import Execution, per_sample_gradients
from qflsec.threat import View

__all__ = ["GradientMatching", "Labels"]

Labels = Literal["auto", "enumerate", "joint"]
_PLANS = 128
_PROBES = 32
_ZERO = 1e-6


@finite
@dataclass(frozen=True, kw_only=True)
class GradientMatching(Inference):
    """Find records whose updates equal the observed ones.

    Many random starts are compared by their objective, and the best are refined. Labels are inferred: the gradient of a
    last bias tells what it can, the starts are spread over the label multisets that are left, and the objective decides;
    where there are too many, labels are unknowns like the features. Batches are guessed in the same way: starts are
    spread over ways of drawing them. An update that no records explain is noisy; then the prior keeps what it does not
    determine near a guess.

    Args:
        solver: ``"least-squares"`` (Levenberg-Marquardt), which for the few unknowns of such records needs some ten steps;
            ``"lbfgs"``, the paper's; ``"signed-adam"``.
        derivatives: ``"autograd"``; or ``"finite-differences"``, for an attacker whose hardware gives gradients and no
            derivatives in the records.
        shots: Of the attacker's own hardware, which takes gradients by the parameter-shift rule then; None for exact
            values.
        restarts: The starts that are refined.
        screened: The random starts that they are chosen from.
        iterations: The most steps of a refinement; 30, 150 and 500 for the three solvers if None.
        match: ``"cosine"`` compares directions, ``"euclidean"`` the updates themselves.
        prior: Whether the spread of the auxiliary records (or of the feature range, where the adversary has
            none) is used on noisy updates.
        labels: ``"enumerate"`` tries label multisets, ``"joint"`` searches for labels by derivatives, ``"auto"`` does the
            first where there are few enough.
        max_hypotheses: The most label multisets; where there are more, a random choice.
        dtype: Of the attacker's simulation.

    Raises:
        ConfigError: A parameter is out of range.
    """

    challenge_type: ClassVar[type[Challenge]] = InversionChallenge
    solver: Solver = "least-squares"
    derivatives: Derivatives = "autograd"
    shots: int | None = None
    restarts: int = 24
    screened: int = 256
    iterations: int | None = None
    match: Match = "cosine"
    prior: bool = True
    labels: Labels = "auto"
    max_hypotheses: int = 16
    dtype: str = "complex128"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        for name in ("restarts", "screened", "iterations", "max_hypotheses", "shots"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name!r} is too small", got=value, expected="at least 1")
        if self.restarts > self.screened:
            raise ConfigError(
                "'restarts' are chosen from 'screened' starts",
                got=f"{self.restarts} of {self.screened}",
                expected="restarts <= screened",
            )
        for name, known in (
            ("match", get_args(Match)),
            ("solver", get_args(Solver)),
            ("derivatives", get_args(Derivatives)),
            ("labels", get_args(Labels)),
        ):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"unknown {name!r}", got=repr(value), expected=" or ".join(map(repr, known))
                )
        if self.shots is not None and self.derivatives != "finite-differences":
            raise ConfigError(
                "measured gradients have no derivatives",
                got=f"shots={self.shots}, derivatives={self.derivatives!r}",
                fix='set derivatives = "finite-differences"',
            )

    @abstractmethod
    def observations(self, view: View, challenge: Any) -> Sequence[Observation]:  # noqa: ANN401 - the subclass names its own kind
        """The updates to explain, of the same records."""

    def warm(self, view: View, challenge: InversionChallenge) -> Tensor | None:
        """Guesses to start from beside the random ones; none by default.

        Shapes:
            returns: ``(W, B, F)``
        """
        return None

    def run(self, view: View, challenge: Any) -> InversionClaim:  # noqa: ANN401 - the subclass names its own kind
        """The records of the best start."""
        seen = self.observations(view, challenge)
        records = [tuple(range(challenge.n_records))]
        # Of k equal and independent shares, one is the target's.
        noise = 1 - 1 / max(one.size for one in seen)
        return self.match_records(
            view, challenge, seen, [records] * len(seen), least_noise=noise, warm=self.warm(view, challenge)
        )

    def match_records(
        self,
        view: View,
        challenge: Any,  # noqa: ANN401 - of one client or of a cohort
        seen: Sequence[Observation],
        clients: Sequence[Sequence[tuple[int, ...]]],
        *,
        least_noise: float,
        warm: Tensor | None = None,
    ) -> InversionClaim:
        """The records behind some updates.

        Args:
            view: The view.
            challenge: What is asked.
            seen: The updates.
            clients: Of each update, the places of each client's records in a guess.
            least_noise: The share of an update's squared norm that is noise at least.
            warm: Guesses to start from.

        Shapes:
            warm: ``(W, B, F)``
        """
        model, training, generator = view.granted.model, challenge.training, challenge.generator()
        pieces = tuple(
            self._matching(model, challenge, one, groups) for one, groups in zip(seen, clients, strict=True)
        )
        problem = Problem(pieces=pieces, n_records=challenge.n_records)
        plans = _plans(training, challenge.n_records, clients, challenge.generator("plans"))
        hypotheses = label_options(
            pieces,
            challenge.n_records,
            how=self.labels,
            most=self.max_hypotheses,
            generator=generator,
        )
        prior = Prior.of(view.granted.auxiliary, challenge.feature_range, challenge.n_features)
        found = reconstruct(
            problem,
            hypotheses,
            feature_range=challenge.feature_range,
            generator=generator,
            budget=Budget(
                screened=self.screened,
                restarts=self.restarts,
                search=Search(
                    solver=self.solver,
                    # a metric has no derivatives in the records
                    derivatives=self.derivatives
                    if challenge.training.preconditioned is None
                    else "finite-differences",
                    iterations=self.iterations,
                ),
            ),
            prior=prior if self.prior else None,
            least_noise=least_noise,
            plans=plans,
            warm=warm,
        )
        tried = plans if plans is None or found.plans is None else torch.cat([plans, found.plans])
        return InversionClaim(
            features=found.features.float(),
            labels=found.labels,
            objective=found.objective,
            steps=found.steps,
            misfit=lambda features, labels: problem.misfit(features, labels, tried),
        )

    def _matching(
        self,
        model: Any,  # noqa: ANN401 - as the view grants it
        challenge: Any,  # noqa: ANN401
        seen: Observation,
        groups: Sequence[tuple[int, ...]],
    ) -> Matching:
        rule = LocalRule.of(challenge.training, seen.round, max(len(group) for group in groups))
        execution = Execution(dtype=self.dtype)
        if self.shots is not None:
            execution = Execution(dtype=self.dtype, shots=self.shots, gradient="parameter-shift")
        params = seen.params.double()
        return Matching(
            model=model,
            params=params,
            observed=-seen.update.double() / rule.learning_rate,
            rule=rule,
            match=self.match,
            execution=execution,
            clients=tuple(groups),
            generator=None if self.shots is None else challenge.generator("shots"),
            live=_live(model, params, challenge) if rule.optimizer == "adam" else None,
        )


def _live(model: Any, params: Tensor, challenge: Any) -> Tensor:  # noqa: ANN401 - as view and challenge name them
    """1 for parameters whose gradient is not zero at every record, by random records.

    Shapes:
        params: ``(P,)``; returns: ``(P,)``
    """
    (low, high), generator = challenge.feature_range, challenge.generator("live")
    shape = (_PROBES, challenge.n_features)
    features = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(model.n_classes, shape[:1], generator=generator)
    gradients = per_sample_gradients(model, params, features, labels, execution=Execution(dtype="complex128"))
    sizes = gradients.abs().amax(dim=0)
    return (sizes > _ZERO * sizes.max()).double()


def _plans(
    training: Any,  # noqa: ANN401 - the pipeline's configuration
    n_records: int,
    clients: Sequence[Sequence[tuple[int, ...]]],
    generator: torch.Generator,
) -> Tensor | None:
    """Ways of drawing the batches of all updates; None where every step takes all records of a client."""
    found = []
    for groups in clients:
        steps = max(training.steps(len(group)) for group in groups)
        plan = torch.zeros(_PLANS, steps, n_records, dtype=torch.float64)
        for group in groups:
            drawn = draw_plans(training, len(group), _PLANS, generator)
            plan[:, : drawn.shape[1], list(group)] = drawn
        found.append(plan)
    if training.batches == "full" or all(bool((plan == plan[:1]).all()) for plan in found):
        return None
    return torch.stack(found, dim=1)
