"""What a trial is worth, and the truths that claims are scored against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from qflsec.base import Score
from qflsec.threat import Records

__all__ = [
    "LOST",
    "ClientTruth",
    "EvasionTruth",
    "InversionTruth",
    "MembershipTruth",
    "Raw",
    "TrialScore",
    "Truth",
    "point",
    "ratio",
]

Raw = dict[str, float | list[float] | list[list[float]] | list[int] | list[list[int]] | list[str]]


@dataclass(frozen=True, kw_only=True)
class TrialScore:
    """The score of one trial.

    Attributes:
        advantage: The family's advantage, unclipped; NaN where it is not defined for this run.
        metrics: Metrics with intervals over the records of this run.
        raw: Raw scores and counts, JSON-able, from which everything else can be computed again.
        reason: Why the advantage is not defined; empty where it is.
    """

    advantage: float
    metrics: dict[str, Score]
    raw: Raw = field(repr=False)
    reason: str = ""

    def __post_init__(self) -> None:
        """Hold the two together: a number, or a reason."""
        assert math.isnan(self.advantage) == bool(self.reason)


LOST = TrialScore(advantage=1.0, metrics={}, raw={})
"""Availability: whoever can end a run leaves nobody a model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MembershipTruth:
    """Which candidates were trained on.

    Attributes:
        member: True for a member, in the order of the candidates.
        train_correct: How many training records the final model classifies correctly.
        n_train: Training records.
        test_correct: How many test records it classifies correctly.
        n_test: Test records.

    Shapes:
        member: ``(n,)``, boolean
    """

    member: torch.Tensor
    train_correct: int
    n_train: int
    test_correct: int
    n_test: int


@dataclass(frozen=True, kw_only=True, eq=False)
class InversionTruth:
    """What the target's records were, and what could be guessed without looking.

    Attributes:
        records: The target's records.
        angle_features: Whether errors are taken modulo 2 pi.
        feature_range: Where features lie.
        auxiliary: Records of the adversary; None where there are none.
    """

    records: Records
    angle_features: bool
    feature_range: tuple[float, float]
    auxiliary: Records | None


@dataclass(frozen=True, kw_only=True, eq=False)
class EvasionTruth:
    """How the model under attack answers.

    Attributes:
        records: The records as they are.
        predict: The class that it gives to each record.
        noisy: The records, each feature moved to one end of the budget or the other at random.
        certified: The records whose answer provably no move within the budget changes; None where nothing is proved.

    Shapes:
        noisy: ``(n, F)``; certified: ``(n,)``, boolean
    """

    records: Records
    predict: Callable[[torch.Tensor], torch.Tensor]
    noisy: torch.Tensor
    certified: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientTruth:
    """The answers to questions about clients.

    Attributes:
        holds: Whether the answer is yes.
        values: How much of a property each client has, where that is the question; yes is more than the median.
        told_by_sums: What the exact means of the property over the sums of the view, and nothing else, would tell of each
            client: the solution nearest to what is known without looking.
        anonymity: The least anonymity set of anything readable that names the client; 0 where nothing does.

    Shapes:
        holds: ``(n,)``, boolean; values, told_by_sums: ``(n,)``
    """

    holds: torch.Tensor
    values: torch.Tensor | None = None
    told_by_sums: torch.Tensor | None = None
    anonymity: tuple[int, ...] = ()


Truth = MembershipTruth | InversionTruth | EvasionTruth | ClientTruth


def point(
    name: str, value: float, *, n: int, baseline: float = 0.0, ideal: float = 1.0, unit: str = "1"
) -> Score:
    """A score of one run for which there is no interval."""
    return Score(
        name=name, value=value, low=math.nan, high=math.nan, n=n, baseline=baseline, ideal=ideal, unit=unit
    )


def ratio(numerator: float, denominator: float, reason: str) -> tuple[float, str]:
    """An advantage, or NaN with the reason where there was nothing to win, up to rounding."""
    return (numerator / denominator, "") if denominator > 1e-12 else (math.nan, reason)
