"""How far corrupted clients may move the model in a round before a record's answer can change: CRFL's certificate.

Take two trainings that differ in what corrupted clients send in r rounds on end, each time moving the mean of the updates by
at most D. From the same model, the next model of both is Gaussian around two points at most D apart: clipping a model to a
norm projects it on a ball, which takes no two points farther apart. So what r rounds tell the two trainings apart is
no more than r Gaussians with a shift of D / sigma each, however the attacker adapts, and that is one Gaussian with a shift of
``mu = sqrt(r) D / sigma``. Whatever is done to the models afterwards adds nothing. A record whose class has at least the share pA of
all trainings, and any other at most pB, keeps its answer in each of three cases:

- ``mu < (Phi^-1(pA) - Phi^-1(pB)) / 2``, by the lemma of Neyman and Pearson;
- ``c**l (2 Phi(mu / 2) - 1) < (pA - pB) / 2``: each of l later rounds starts inside a ball of radius rho, where two Gaussians have
  a total variation of at most ``c = 2 Phi(rho / sigma) - 1``, so it shrinks what there was by c (Dobrushin);
- ``c**l mu**2 / 2 < -ln(1 - (sqrt(pA) - sqrt(pB))**2)``: relative entropy shrinks by c as well, and that is the least entropy at which the
  two classes can change places.

c takes that a later round depends on what came before by the model alone, and on nothing else that an attack reaches. Momentum or
Adam's moments that clients keep over rounds break that: they carry the attacked models past the noise, so that nothing need be
forgotten. Then only l = 0 is proved, where what honest clients keep is part of what is given before each attacked round.

The third is the form of CRFL's theorem, derived here anew; the first is larger wherever c is near 1, as it is unless
the clip norm is within a few standard deviations of the noise. pA is a share of *trainings*: noise, batches and first
models are all drawn afresh. Votes of noisy copies of one trained model say nothing of it.

Source:
    Xie, Chen, Chen, Li: CRFL, ICML 2021, arXiv:2106.08283 (the idea and the algorithm). Dong, Roth, Su: Gaussian
    differential privacy, JRSS B 84, 2022, arXiv:1905.02383, corollary 3.3 (r Gaussians are one).
"""

from __future__ import annotations

import math

import torch
from scipy.special import ndtr, ndtri

from qflsec.base import ConfigError
from qflsec.data import Dataset
from qflsec.defenses.backdoor.votes import decide, votes_of
from qflsec.federation import Pipeline, Stack
from qflsec.federation.shadows import ShadowTrainer
from qflsec.threat import Records

__all__ = ["certified_shift", "certify_training", "contraction", "corrupted_share", "training_votes"]


def contraction(max_norm: float, noise_std: float) -> float:
    """By what factor a round shrinks the total variation between two trainings.

    Args:
        max_norm: rho, the norm that the model is clipped to.
        noise_std: sigma, the noise on each parameter.

    >>> contraction(1.0, 1.0) < 0.7 < contraction(3.0, 1.0)
    True

    Raises:
        ConfigError: A value is out of range.
    """
    if not (0 < max_norm < math.inf and 0 < noise_std < math.inf):
        raise ConfigError(
            "norm and noise must be positive and finite", got=f"max_norm={max_norm}, noise_std={noise_std}"
        )
    return float(2 * ndtr(max_norm / noise_std) - 1)


def certified_shift(
    lower: float,
    upper: float | None = None,
    *,
    noise_std: float,
    max_norm: float,
    attacked_rounds: int = 1,
    later_rounds: int = 0,
) -> float:
    """How far corrupted clients may move the mean of the updates, in each attacked round, without another answer.

    Args:
        lower: pA, a lower limit on the share of trainings that answer the class.
        upper: pB, an upper limit on that of any other class; 1 - pA by default.
        noise_std: sigma.
        max_norm: rho.
        attacked_rounds: r, how many rounds on end are attacked.
        later_rounds: l, how many rounds follow. Each has to depend on what came before by the model alone: where clients keep
            anything over rounds, such as momentum, only 0 is right, which nothing here can check.

    Returns:
        The largest shift in L2: the answer holds for every smaller one. 0 where there is no majority, infinity where the
        later rounds forget anything.

    Raises:
        ConfigError: A value is out of range.
    """
    upper = 1 - lower if upper is None else upper
    if not (0 <= lower <= 1 and 0 <= upper <= 1) or lower + upper > 1 + 1e-12:
        raise ConfigError(
            "the shares of two classes must be probabilities", got=f"lower={lower}, upper={upper}"
        )
    if attacked_rounds < 1 or later_rounds < 0:
        raise ConfigError(
            "no such rounds",
            got=f"attacked_rounds={attacked_rounds}, later_rounds={later_rounds}",
            expected="at least 1 and 0",
        )
    kept = contraction(max_norm, noise_std) ** later_rounds
    if lower <= upper:
        return 0.0
    if kept == 0:
        return math.inf
    gap = (lower - upper) / (2 * kept)
    by_variation = math.inf if gap >= 1 else 2 * float(ndtri((1 + gap) / 2))
    overlap = 1 - (math.sqrt(lower) - math.sqrt(upper)) ** 2
    by_entropy = math.inf if overlap <= 0 else math.sqrt(-2 * math.log(overlap) / kept)
    by_tests = float(ndtri(lower) - ndtri(upper)) / 2
    return noise_std * max(by_tests, by_variation, by_entropy) / math.sqrt(attacked_rounds)


def corrupted_share(shift: float, *, norm: float) -> float:
    """The share of the weight that may be corrupted so that clipped updates move the mean by less than a shift.

    Whatever they send, the updates of clients with the share s, clipped to ``norm``, lie at most ``2 s norm`` from what they
    would have sent.

    Args:
        shift: A certified shift.
        norm: What a norm bound in front of the mean clips every update to.

    Raises:
        ConfigError: The norm is not positive.
    """
    if not norm > 0:
        raise ConfigError("'norm' is not positive", got=norm)
    return min(1.0, shift / (2 * norm))


def training_votes(
    pipeline: Pipeline, stack: Stack, dataset: Dataset, features: torch.Tensor, *, samples: int, seed: int
) -> torch.Tensor:
    """How often models of independent honest trainings answer each class.

    Every training has a partition, a first model, batches and noise of its own, and all members of the data set.

    Args:
        pipeline: The pipeline.
        stack: The defenses, with noise on the model in every round.
        dataset: The data of a run.
        features: The records to answer.
        samples: How many trainings.
        seed: Where their seeds come from.

    Shapes:
        features: ``(n, F)``; returns: ``(n, K)``

    Raises:
        ConfigError: There are too few trainings.
    """
    if samples < 1:
        raise ConfigError("too few trainings", got=samples, expected="at least 1")
    pool = Records(features=dataset.features[dataset.member_idx], labels=dataset.labels[dataset.member_idx])
    trainer = ShadowTrainer(pipeline=pipeline, like=dataset, seed=seed)
    params = trainer(pool, torch.ones(samples, len(pool.labels), dtype=torch.bool), stack)
    with torch.no_grad():
        answers = pipeline.model(params[:, None, :], features).argmax(dim=-1)
    return votes_of(answers, pipeline.model.n_classes)


def certify_training(
    votes: torch.Tensor,
    *,
    alpha: float = 0.05,
    noise_std: float,
    max_norm: float,
    attacked_rounds: int = 1,
    later_rounds: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers of a training, and the shift of the mean that each stands.

    Args:
        votes: Of independent trainings, as :func:`training_votes` counts them.
        alpha: The probability with which a record's certificate may be wrong.
        noise_std: sigma of the trainings.
        max_norm: rho of the trainings.
        attacked_rounds: How many rounds on end are attacked.
        later_rounds: How many rounds follow; see :func:`certified_shift` for what they must not carry.

    Returns:
        Classes, ``REFUSED`` where the votes prove no majority, and shifts.

    Shapes:
        votes: ``(n, K)``; returns: ``(n,)`` and ``(n,)``
    """
    decided = decide(votes, alpha=alpha)
    shifts = [
        certified_shift(
            share,
            noise_std=noise_std,
            max_norm=max_norm,
            attacked_rounds=attacked_rounds,
            later_rounds=later_rounds,
        )
        if share > 0.5
        else 0.0
        for share in decided.lower.tolist()
    ]
    return decided.classes, torch.tensor(shifts, dtype=torch.float64)
