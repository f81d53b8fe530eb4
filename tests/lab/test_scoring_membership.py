"""Scoring membership: perfect, inverted, random and permuted scores."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.attacks import InversionClaim, MembershipClaim
from qflsec.lab.scoring import MembershipTruth, TrialScore, score_claim, score_membership


def truth(member: torch.Tensor, **change: int) -> MembershipTruth:
    values = {"train_correct": 45, "n_train": 50, "test_correct": 30, "n_test": 50, **change}
    return MembershipTruth(member=member, **values)


def score(members: Any, nonmembers: Any) -> TrialScore:
    scores = torch.cat([torch.as_tensor(members), torch.as_tensor(nonmembers)]).double()
    member = torch.arange(len(scores)) < len(members)
    return score_membership(MembershipClaim(scores=scores), truth(member))


def test_a_perfect_attack_has_advantage_one() -> None:
    found = score(torch.arange(20.0) + 100, torch.arange(20.0))
    assert found.advantage == 1
    assert found.metrics["auc"].value == 1
    assert found.metrics["auc"].low < 1  # 40 records do not prove perfection
    assert found.metrics["tpr_at_10_percent_fpr"].value == 1


def test_an_inverted_attack_has_advantage_minus_one_unclipped() -> None:
    assert score(torch.arange(20.0), torch.arange(20.0) + 100).advantage == -1


def test_constant_scores_are_worth_nothing() -> None:
    found = score(torch.zeros(20), torch.zeros(20))
    assert found.advantage == 0
    assert found.metrics["tpr_at_10_percent_fpr"].value == 0


def test_random_scores_have_no_advantage() -> None:
    """300 games of 40 and 40 records: the mean advantage has a standard error of 0.0075.

    False-alarm rate: 6e-5 for the mean (four standard errors); about 1e-4 for the coverage, which is binomial
    (300, 0.95), with a standard deviation of 0.0126.
    """
    generator = torch.Generator().manual_seed(5)
    games = [
        score(torch.randn(40, generator=generator), torch.randn(40, generator=generator)) for _ in range(300)
    ]
    assert abs(np.mean([game.advantage for game in games])) < 4 * 0.0075
    covered = np.mean(
        [game.metrics["advantage"].low <= 0 <= game.metrics["advantage"].high for game in games]
    )
    assert covered > 0.95 - 4 * 0.0126


@given(st.lists(st.integers(-5, 5), min_size=4, max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_candidates_does_not_matter(values: list[int], random: Any) -> None:
    member = torch.arange(len(values)) % 2 == 0
    order = list(range(len(values)))
    random.shuffle(order)
    scores = torch.tensor(values, dtype=torch.float64)
    first = score_membership(MembershipClaim(scores=scores), truth(member))
    second = score_membership(MembershipClaim(scores=scores[order]), truth(member[order]))
    assert first.advantage == pytest.approx(second.advantage, abs=1e-12)
    assert first.metrics["tpr_at_1_percent_fpr"] == second.metrics["tpr_at_1_percent_fpr"]


@given(st.lists(st.integers(-5, 5), min_size=4, max_size=30))
@settings(deadline=None, max_examples=30)
def test_only_the_order_of_the_scores_counts(values: list[int]) -> None:
    member = torch.arange(len(values)) % 2 == 0
    scores = torch.tensor(values, dtype=torch.float64)
    first = score_membership(MembershipClaim(scores=scores), truth(member))
    second = score_membership(MembershipClaim(scores=torch.exp(3 * scores) - 7), truth(member))
    assert first.advantage == second.advantage
    reversed_ = score_membership(MembershipClaim(scores=-scores), truth(member))
    assert reversed_.advantage == pytest.approx(-first.advantage, abs=1e-12)


def test_too_few_nonmembers_are_flagged() -> None:
    found = score(torch.arange(20.0), torch.arange(20.0))
    assert found.raw["resolved_at_1_percent"] == 0
    assert found.raw["resolved_at_10_percent"] == 1


def test_the_generalisation_gap_is_printed() -> None:
    metrics = score(torch.arange(4.0), torch.arange(4.0)).metrics
    assert metrics["generalisation_gap"].value == pytest.approx(0.9 - 0.6)
    assert metrics["train_accuracy"].low < 0.9 < metrics["train_accuracy"].high


def test_raw_scores_are_kept_as_json() -> None:
    found = score([3.0, 1.0], [2.0, 0.0])
    again = json.loads(json.dumps(found.raw))
    assert again["member_scores"] == [3.0, 1.0]
    assert again["nonmember_scores"] == [2.0, 0.0]
    assert again["train_correct"] == 45


def test_a_claim_is_scored_against_its_own_truth_only() -> None:
    with pytest.raises(TypeError, match="InversionClaim"):
        score_claim(InversionClaim(features=torch.zeros(1, 2)), truth(torch.tensor([True, False])))
