"""Randomised smoothing: answers by the votes of noisy copies, with a radius in which they cannot change."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.special import ndtri

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.backdoor.votes import Decided, check_noise, decide, noisy_votes
from qflsec.federation import ServingLayer
from qflsec.models import Model

__all__ = ["ModelSmoothing", "RandomisedSmoothing", "smoothing_radius"]

_COHEN = "Cohen, Rosenfeld, Kolter: Certified adversarial robustness via randomized smoothing, ICML 2019, arXiv:1902.02918"


def smoothing_radius(decided: Decided, *, noise_std: float) -> torch.Tensor:
    """How far, in L2, a record (or the parameters) may be moved without another answer of all noisy copies together.

    The radius is ``noise_std * Phi^-1(p)`` for a lower limit p on the share of the answered class, the others counted
    as one: of all sets of the same Gaussian weight, a half space loses most under a shift, and it falls to one half at
    exactly that distance.

    Args:
        decided: The answers and lower limits, from votes under this noise.
        noise_std: The standard deviation of the noise.

    Returns:
        The radius; 0 where there is no answer.

    Shapes:
        returns: ``(n,)``

    Source:
        Cohen, Rosenfeld, Kolter, ICML 2019, arXiv:1902.02918, theorem 1 with p_B = 1 - p_A.
    """
    radius = torch.zeros_like(decided.lower)
    sure = decided.lower > 0.5
    radius[sure] = noise_std * torch.from_numpy(ndtri(decided.lower[sure].numpy()))
    return radius


@dataclass(frozen=True, kw_only=True)
class _Voting(ServingLayer):
    noise_std: float = 0.5
    samples: int = 100

    def __post_init__(self) -> None:
        """Refuse noise that is none, and too few copies."""
        check_noise(self.noise_std, self.samples)


@register("layer", "randomised-smoothing")
@dataclass(frozen=True, kw_only=True)
class RandomisedSmoothing(_Voting):
    """Each record is answered by the vote of copies of it with Gaussian noise on every feature.

    Attributes:
        noise_std: The standard deviation of the noise on each feature.
        samples: How many copies vote.

    Units:
        noise_std: that of the features, radians for angles

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="randomised-smoothing",
        idea="Each record is answered by the vote of copies of it with Gaussian noise on every feature.",
        source=Source(paper=_COHEN, year=2019, where="theorem 1 and algorithm PREDICT, without abstaining"),
        claim="Nobody who moves a record by less than its radius changes the answer of all noisy copies together.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not see a trigger that moves a record farther than the radius.",
            "It does not make a poisoned model right: the vote is on what the model answers.",
            "It does not bind whoever executes the circuit.",
            "The vote of finitely many copies may differ from that of all; 'certify_records' bounds by how much.",
        ),
        cost="so many evaluations for each record, and accuracy near the boundary",
    )

    def serve(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The class of most votes."""
        return self.votes(model, params, features, generator).argmax(dim=-1)

    def votes(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """How often each class is answered.

        Shapes:
            params: ``(P,)``; features: ``(n, F)``; returns: ``(n, K)``
        """
        return noisy_votes(
            model, params, features, noise_std=self.noise_std, samples=self.samples, generator=generator
        )

    def certify_records(
        self,
        model: Model,
        params: torch.Tensor,
        features: torch.Tensor,
        generator: torch.Generator,
        *,
        alpha: float = 0.001,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The answers with their radii.

        Args:
            model: The model.
            params: Its parameters.
            features: The records.
            generator: Where the noise is drawn from.
            alpha: The probability with which the radius of a record may be wrong.

        Returns:
            Classes, ``REFUSED`` where the votes prove no majority, and radii in L2.

        Shapes:
            params: ``(P,)``; features: ``(n, F)``; returns: ``(n,)`` and ``(n,)``
        """
        decided = decide(self.votes(model, params, features, generator), alpha=alpha)
        return decided.classes, smoothing_radius(decided, noise_std=self.noise_std)


@register("layer", "model-smoothing")
@dataclass(frozen=True, kw_only=True)
class ModelSmoothing(_Voting):
    """Each record is answered by the vote of copies of the model with Gaussian noise on every parameter.

    Attributes:
        noise_std: The standard deviation of the noise on each parameter.
        samples: How many copies vote.

    Units:
        noise_std: that of the parameters, radians for angles

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="model-smoothing",
        idea="Each record is answered by the vote of copies of the final model with noise on every parameter.",
        source=Source(
            paper="Xie, Chen, Chen, Li: CRFL: certifiably robust federated learning against backdoor attacks, ICML 2021, "
            "arXiv:2106.08283",
            year=2021,
            where="algorithm 2, parameter smoothing at the test",
        ),
        claim="Nobody who moves the final parameters by less than the radius changes the answer of all noisy copies.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not bound how far a corrupted client moves the parameters: a norm bound and 'crfl' do.",
            "It does not certify a training: that takes votes of many trainings, see 'training_votes'.",
            "It does not bind whoever executes the circuit.",
        ),
        cost="so many evaluations for each record, and accuracy",
    )
    noise_std: float = 0.1

    def serve(
        self, model: Model, params: torch.Tensor, features: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """The class of most votes."""
        return noisy_votes(
            model,
            params,
            features,
            noise_std=self.noise_std,
            samples=self.samples,
            generator=generator,
            of="parameters",
        ).argmax(dim=-1)
