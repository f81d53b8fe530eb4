"""Scoring questions about clients, and what sums leave of an answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from qflsec.attacks import ClientClaim, MembershipClaim
from qflsec.base import IncompatibleAttack
from qflsec.lab.client_challenges import draw_client_sets
from qflsec.lab.scoring import ClientTruth, score_claim
from qflsec.lab.scoring.records import attainable, record_interval
from qflsec.threat import Records

HOLDS = torch.tensor([True, False, True, False, False])
TRUTH = ClientTruth(holds=HOLDS)


def claim(*scores: float) -> ClientClaim:
    return ClientClaim(scores=torch.tensor(scores, dtype=torch.float64))


def test_a_perfect_an_inverted_and_a_constant_answer() -> None:
    assert score_claim(claim(2, 0, 1, 0.5, 0), TRUTH).advantage == 1
    assert score_claim(claim(-2, 0, -1, -0.5, 0), TRUTH).advantage == -1
    assert score_claim(claim(1, 1, 1, 1, 1), TRUTH).advantage == 0
    rounding = 1 + torch.arange(5, dtype=torch.float64) * 1e-14
    assert score_claim(ClientClaim(scores=rounding), TRUTH).advantage == 0


def test_rates_at_few_false_answers_and_whether_three_others_can_resolve_them() -> None:
    score = score_claim(claim(2, 0, 0.4, 0.5, 0), TRUTH)
    for label in ("1", "10"):
        rate = score.metrics[f"tpr_at_{label}_percent_fpr"]
        assert rate.value == 0.5
        assert rate.low < 0.1
        assert rate.high > 0.9
        assert rate.baseline == 0.25, "of four that are alike one is above the three others"
        assert score.raw[f"resolved_at_{label}_percent"] == 0.0
    assert "tpr_at_0.1_percent_fpr" not in score.metrics


def test_its_interval_is_stored_and_so_is_its_range() -> None:
    score = score_claim(claim(2, 0, 1, 1.5, 0), TRUTH)
    low, high = record_interval(score.advantage, score.metrics, score.raw) or (math.nan, math.nan)
    assert -1 < low < score.advantage < high <= 1
    assert attainable(score.raw) == (-1.0, 1.0)


def test_what_sums_leave_stands_beside_it() -> None:
    truth = replace(
        TRUTH,
        values=torch.tensor([0.9, 0.1, 0.8, 0.2, 0.3]),
        told_by_sums=torch.tensor([0.5, 0.5, 0.8, 0.2, 0.3]),
        anonymity=(2, 2, 1, 1, 0),
    )
    score = score_claim(claim(1, 1, 1, 1, 1), truth)
    # of six pairs one is tied and one wins nothing: 5 + 1/2 of 6
    assert score.metrics["sums_advantage"].value == pytest.approx(2 * 5.5 / 6 - 1)
    assert score.metrics["anonymity_set"].value == pytest.approx(1.5)


def test_one_answer_to_all_questions_has_no_advantage() -> None:
    score = score_claim(claim(1, 2, 3), ClientTruth(holds=torch.tensor([True, True, True])))
    assert math.isnan(score.advantage)
    assert score.reason == "the answer to every question is yes"


def test_another_kind_of_claim_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot be scored"):
        score_claim(MembershipClaim(scores=torch.zeros(5)), TRUTH)


def records(*labels: int, start: float = 0.0) -> Records:
    n = len(labels)
    return Records(features=start + torch.arange(float(n))[:, None], labels=torch.tensor(labels))


def test_sets_of_nobody_look_like_those_of_clients() -> None:
    """As many records, of the same classes where there are any, each used once."""
    held = [records(0, 1, 1), records(0, start=10.0), records(1, 1, start=20.0)]
    others = records(0, 0, 0, 1, 1, 1, 1, 1, start=100.0)
    sets, member = draw_client_sets(held, others, seed=0)
    assert len(sets) == 6
    assert int(member.sum()) == 3
    mine = sorted(sorted(one.labels.tolist()) for one, held_by in zip(sets, member, strict=True) if held_by)
    theirs = sorted(
        sorted(one.labels.tolist()) for one, held_by in zip(sets, member, strict=True) if not held_by
    )
    assert mine == theirs
    drawn = torch.cat([one.features for one, held_by in zip(sets, member, strict=True) if not held_by])
    assert len(drawn.unique()) == 6
    assert bool((drawn >= 100).all())


def test_a_client_for_whom_nothing_is_left_is_no_candidate() -> None:
    sets, member = draw_client_sets([records(0, 1, 1), records(0)], records(1, start=9.0), seed=0)
    assert [len(one.labels) for one in sets] == [1, 1]
    assert int(member.sum()) == 1
    with pytest.raises(IncompatibleAttack, match="no record set of a client's size"):
        draw_client_sets([records(0, 1)], records(0), seed=0)
