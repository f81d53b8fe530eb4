"""Votes of noisy copies: how often each class is answered, and what that says of the share of all copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.accounting.statistics import clopper_pearson_lower
from qflsec.base import ConfigError
from qflsec.federation import REFUSED
from qflsec.models import Model

__all__ = ["Decided", "Noised", "check_noise", "decide", "noisy_votes", "votes_of"]

Noised = Literal["features", "parameters"]
_AT_ONCE = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """The class that most copies answer, and how sure that is.

    Attributes:
        classes: The class; :data:`~qflsec.federation.REFUSED` where no class has a proved majority.
        lower: A lower limit on the share of all copies that answer it; 0 where there is none.

    Shapes:
        classes, lower: ``(n,)``
    """

    classes: torch.Tensor
    lower: torch.Tensor


def check_noise(noise_std: float, samples: int) -> None:
    """Refuse noise that is none, and too few copies.

    Raises:
        ConfigError: A value is out of range.
    """
    if not 0 < noise_std < float("inf"):
        raise ConfigError("'noise_std' is out of range", got=noise_std, expected="positive and finite")
    if samples < 1:
        raise ConfigError("too few noisy copies", got=f"samples = {samples}", expected="at least 1")


def votes_of(answers: torch.Tensor, n_classes: int) -> torch.Tensor:
    """How often each class was answered.

    Shapes:
        answers: ``(samples, n)``; returns: ``(n, n_classes)``
    """
    return torch.nn.functional.one_hot(answers, n_classes).sum(dim=0)


def noisy_votes(
    model: Model,
    params: torch.Tensor,
    features: torch.Tensor,
    *,
    noise_std: float,
    samples: int,
    generator: torch.Generator,
    of: Noised = "features",
) -> torch.Tensor:
    """How often the model answers each class when Gaussian noise is added to its features or its parameters.

    Args:
        model: The model.
        params: Its parameters.
        features: The records.
        noise_std: The standard deviation of the noise on each number.
        samples: How many copies vote.
        generator: Where the noise is drawn from.
        of: What the noise is added to. Each record has noise of its own; a copy of the parameters answers all records.

    Shapes:
        params: ``(P,)``; features: ``(n, F)``; returns: ``(n, K)``

    Raises:
        ConfigError: The noise or the number of copies is out of range.
    """
    check_noise(noise_std, samples)
    counts = torch.zeros(len(features), model.n_classes, dtype=torch.long)
    with torch.no_grad():
        for first in range(0, samples, _AT_ONCE):
            size = min(_AT_ONCE, samples - first)
            if of == "features":
                draws = torch.randn((size, *features.shape), generator=generator)
                logits = model(params, features + noise_std * draws)
            else:
                draws = torch.randn((size, 1, len(params)), generator=generator)
                logits = model(params + noise_std * draws, features)
            counts += votes_of(logits.argmax(dim=-1), model.n_classes)
    return counts


def decide(counts: torch.Tensor, *, alpha: float) -> Decided:
    """The class of most votes with a lower limit on its share, where that is above one half.

    The limits of all classes hold together, as each is taken at ``alpha`` over their number; so one set of votes both
    chooses the class and bounds its share.

    Args:
        counts: The votes of independent copies.
        alpha: The probability with which a record's limit may be wrong.

    Shapes:
        counts: ``(n, K)``

    Raises:
        ConfigError: ``alpha`` is no probability.
    """
    if not 0 < alpha < 1:
        raise ConfigError("'alpha' is out of range", got=alpha, expected="between 0 and 1")
    top, classes = counts.max(dim=1)
    totals, level = counts.sum(dim=1).tolist(), alpha / counts.shape[1]
    lower = torch.tensor(
        [
            clopper_pearson_lower(hits, total, alpha=level)
            for hits, total in zip(top.tolist(), totals, strict=True)
        ],
        dtype=torch.float64,
    )
    sure = lower > 0.5
    return Decided(
        classes=torch.where(sure, classes, REFUSED), lower=torch.where(sure, lower, torch.zeros_like(lower))
    )
