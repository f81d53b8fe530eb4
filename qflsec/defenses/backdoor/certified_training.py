"""A certificate for the training of a pipeline behind CRFL: which answers stand, however many clients send what they like."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import IncompatibleStack
from qflsec.data import Dataset
from qflsec.defenses.backdoor.training_certificate import certify_training, training_votes
from qflsec.defenses.robust import Crfl, Mean, NormBound
from qflsec.federation import Pipeline, Stack

__all__ = ["TrainingCertificate", "certified_training"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingCertificate:
    """What a training answers to test records, and how far each answer stands.

    Attributes:
        classes: The answers; ``REFUSED`` where the votes prove no majority.
        labels: The right ones.
        shifts: How far the mean of the updates may be moved in each attacked round, in L2.
        clip_norm: What every update is clipped to.
        max_norm: rho, what the model is clipped to.
        noise_std: sigma, the noise on each parameter in each round.
        participants: Clients of a round, each with the same weight.
        samples: Trainings that voted.
        alpha: The probability with which a record's certificate may be wrong.
        attacked_rounds: Rounds on end that are attacked.
        later_rounds: Rounds that follow.

    Shapes:
        classes, labels, shifts: ``(n,)``
    """

    classes: torch.Tensor
    labels: torch.Tensor
    shifts: torch.Tensor
    clip_norm: float
    max_norm: float
    noise_std: float
    participants: int
    samples: int
    alpha: float
    attacked_rounds: int
    later_rounds: int

    @property
    def proved(self) -> int:
        """How many records have a proved answer, right or wrong."""
        return int((self.shifts > 0).sum())

    def stand(self, corrupted: int) -> int:
        """How many records keep a right answer, whatever so many clients send in the attacked rounds.

        A clipped update lies at most twice the clip norm from what its client would have sent, and a dropped one leaves a
        mean that is no farther off.

        Args:
            corrupted: Clients of a round that send anything.
        """
        moved = 2.0 * self.clip_norm * corrupted / self.participants
        return int(((self.classes == self.labels) & (self.shifts > moved)).sum())


def certified_training(
    pipeline: Pipeline,
    stack: Stack,
    dataset: Dataset,
    *,
    samples: int = 200,
    seed: int = 0,
    alpha: float = 0.05,
    attacked_rounds: int = 1,
    later_rounds: int = 0,
) -> TrainingCertificate:
    """Certify the answers to the test records of a pipeline whose server clips updates, takes the mean, and runs CRFL.

    Each of ``samples`` honest trainings votes with all members of the data set. A client weighs as much as any other: with
    the layer ``mean`` whatever it states, without it where no client states more records than the others.

    Args:
        pipeline: The pipeline.
        stack: The layers: ``norm-bound`` with ``max_norm``, ``mean`` or no rule, and ``crfl``; any at the clients.
        dataset: The data of a run.
        samples: How many trainings vote.
        seed: Where their seeds come from.
        alpha: The probability with which a record's certificate may be wrong.
        attacked_rounds: How many rounds on end are attacked.
        later_rounds: How many rounds follow.

    Raises:
        IncompatibleStack: The certificate does not cover the server's layers, or who takes part in a round.
        ConfigError: A value is out of range.

    Source:
        See :func:`certify_training`.
    """
    bound, noise = _covered(pipeline, stack)
    assert bound.max_norm is not None  # _covered() said so
    test = dataset.test_idx
    votes = training_votes(pipeline, stack, dataset, dataset.features[test], samples=samples, seed=seed)
    limit = math.pi * math.sqrt(pipeline.model.n_params) if noise.max_norm is None else noise.max_norm
    classes, shifts = certify_training(
        votes,
        alpha=alpha,
        noise_std=noise.noise_std,
        max_norm=limit,
        attacked_rounds=attacked_rounds,
        later_rounds=later_rounds,
    )
    return TrainingCertificate(
        classes=classes,
        labels=dataset.labels[test],
        shifts=shifts,
        clip_norm=bound.max_norm,
        max_norm=limit,
        noise_std=noise.noise_std,
        participants=pipeline.federation.n_participants,
        samples=samples,
        alpha=alpha,
        attacked_rounds=attacked_rounds,
        later_rounds=later_rounds,
    )


def _covered(pipeline: Pipeline, stack: Stack) -> tuple[NormBound, Crfl]:
    """The bound and the noise, where the certificate covers everything that the server does."""
    layers = [layer for layer in stack.server if not isinstance(layer, Mean)]
    bound, noise = layers if len(layers) == 2 else (None, None)
    if (
        not isinstance(bound, NormBound)
        or not isinstance(noise, Crfl)
        or bound.max_norm is None
        or noise.noise_std == 0
        or pipeline.kept
    ):
        raise IncompatibleStack(
            "CRFL's certificate covers a clipped mean with noise on the model, and nothing else at the server",
            got=" + ".join(layer.card.name for layer in stack.server) or "no layer",
            expected="norm-bound with 'max_norm', mean or no rule, and crfl with noise, on a model that all clients share",
        )
    if pipeline.federation.client_sampling == "poisson":
        raise IncompatibleStack(
            "a round of a random number of clients has no share that bounds one of them",
            got="client_sampling = 'poisson'",
            fix="use client_sampling = 'fixed'",
        )
    stack.check(pipeline)
    return bound, noise
