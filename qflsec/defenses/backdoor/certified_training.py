"""A certificate for the training of a pipeline behind CRFL: which answers stand, however many clients send what they like.

The proof (:mod:`qflsec.defenses.backdoor.training_certificate`) has premises, and a pipeline that breaks one is refused:

- k of n corrupted clients move the mean of updates clipped to C by at most ``2 C k / n``. So the server has to see single
  updates, n of them in every round, and weigh them alike: what a client states of itself must count for nothing.
- A round is one step of Gaussian noise around what the server makes of clipped updates, and of nothing else.
- A later round depends on what came before by the model alone. What clients keep over rounds, such as momentum, reaches it
  past the server's noise. Without later rounds clients may keep what they like: given all that happened before a round, the two
  models after it are Gaussian around points that are near, and answers are made of nothing but the last model.
- Votes are of trainings as the pipeline has them, its partition among it.

A run that ends early has no model whose answers could stand: nothing is said of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import Dataset
from qflsec.defenses.backdoor.training_certificate import certify_training, training_votes
from qflsec.defenses.robust import Crfl, Mean, NormBound
from qflsec.federation import FedAvg, Pipeline, Stack, executed

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
    def weight(self) -> float:
        """What a client of a round weighs in the mean, whatever it states."""
        return 1.0 / self.participants

    @property
    def proved(self) -> int:
        """How many records have a proved answer, right or wrong."""
        return int((self.shifts > 0).sum())

    def stand(self, corrupted: int) -> int:
        """How many records keep a right answer, whatever so many clients send in the attacked rounds.

        A clipped update lies at most twice the clip norm from what its client would have sent, and a dropped one leaves a
        mean that is no farther off. In rounds before and after everybody follows the protocol.

        Args:
            corrupted: Clients of a round that send anything.
        """
        moved = 2.0 * self.clip_norm * corrupted * self.weight
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

    Each of ``samples`` honest trainings votes with all members of the data set.

    Args:
        pipeline: The pipeline.
        stack: The layers: ``norm-bound`` with ``max_norm``, ``mean``, and ``crfl``; at the clients any that leave the server
            single updates.
        dataset: The data of a run.
        samples: How many trainings vote.
        seed: Where their seeds come from.
        alpha: The probability with which a record's certificate may be wrong.
        attacked_rounds: How many rounds on end are attacked.
        later_rounds: How many rounds follow, in which everybody follows the protocol; the attacked ones are the last by
            default.

    Raises:
        IncompatibleStack: The certificate does not cover the server's layers, who takes part in a round, what clients keep over
            rounds, or how records are spread.
        ConfigError: A value is out of range, or a training has not so many rounds.

    Source:
        See :func:`certify_training`.
    """
    bound, noise = _covered(pipeline, stack)
    _check_rows(pipeline, stack)
    _check_rounds(pipeline, attacked_rounds, later_rounds)
    _check_votes(pipeline, dataset)
    stack.check(pipeline)
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
    layers = [layer for layer in stack.server if not isinstance(layer, Mean | FedAvg)]
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
            expected="norm-bound with 'max_norm', mean, and crfl with noise, on a model that all clients share",
        )
    return bound, noise


def _check_rows(pipeline: Pipeline, stack: Stack) -> None:
    """Refuse servers in whose mean a client of a round may weigh more than any other."""
    if not isinstance(stack.rule, Mean):
        raise IncompatibleStack(
            "clients weigh by the numbers of records that they state, so that one of them may weigh as much as it likes",
            got=f"the rule {stack.rule.card.name!r}",
            expected="the rule 'mean', behind which clients weigh the same",
            fix="put { name = \"mean\" } between 'norm-bound' and 'crfl'",
        )
    if stack.leaves != "individual":
        hider = next(layer.card.name for layer in stack.client if layer.leaves != "individual")
        raise IncompatibleStack(
            "the server clips and weighs the means of groups, each of which one client spoils",
            got=repr(hider),
            expected="single updates",
            fix=f"leave out {hider!r}",
        )
    if pipeline.federation.client_sampling == "poisson":
        raise IncompatibleStack(
            "a round of a random number of clients has no share that bounds one of them",
            got="client_sampling = 'poisson'",
            fix="use client_sampling = 'fixed'",
        )
    if pipeline.partition.min_records < 1:
        raise IncompatibleStack(
            "a client without records sits out, and each of the others then weighs more",
            got=f"min_records = {pipeline.partition.min_records}",
            expected="at least 1",
            fix="set 'min_records' of the partition to 1",
        )
    if idle := executed(pipeline, stack.executions).idle:
        raise IncompatibleStack(
            "a client whose device is too noisy for a step sits out, and each of the others then weighs more",
            got=f"clients {list(idle)}",
            fix="leave out 'threshold' of 'sporadic'",
        )


def _check_rounds(pipeline: Pipeline, attacked_rounds: int, later_rounds: int) -> None:
    """Refuse more rounds than there are, and later ones that an attack reaches past the server's noise."""
    rounds = pipeline.federation.rounds
    if attacked_rounds + later_rounds > rounds:
        raise ConfigError(
            "a training has not so many rounds",
            got=f"{attacked_rounds} attacked and {later_rounds} later ones",
            expected=f"at most {rounds} together",
        )
    if later_rounds > 0 and pipeline.federation.keeps_state:
        raise IncompatibleStack(
            "later rounds forget only what an attack did to the model, and clients carry what their optimisers keep past "
            "the server's noise",
            got=f"optimizer_state = {pipeline.federation.optimizer_state!r} and {later_rounds} later rounds",
            expected="optimizer_state = 'round', or no later rounds",
            fix="leave out 'optimizer_state', or count the later rounds among the attacked ones",
        )


def _check_votes(pipeline: Pipeline, dataset: Dataset) -> None:
    """Refuse pipelines whose records are spread otherwise than those of the trainings that vote."""
    if pipeline.partition.kind == "files" or dataset.holdings is not None:
        raise IncompatibleStack(
            "votes are of trainings whose records are spread anew, and clients of this pipeline hold what the data say",
            got="partition 'files'" if pipeline.partition.kind == "files" else "held_blocks",
            expected="a partition that every training draws",
            fix="use another 'kind' of partition, such as 'iid', and leave out 'held_blocks'",
        )
