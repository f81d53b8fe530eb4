"""What a stored trial says of its advantage over its records."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.attacks import MembershipClaim
from qflsec.lab.scoring import score_membership
from qflsec.lab.scoring.records import attainable, record_interval
from qflsec.lab.scoring.trial import MembershipTruth


def poisoning(honest: int, attacked: int, majority: int, n: int) -> tuple[float, dict[str, float]]:
    raw = {
        "honest_correct": float(honest),
        "correct": float(attacked),
        "majority": float(majority),
        "n_test": float(n),
    }
    return (honest - attacked) / (honest - majority), raw


def test_a_manipulation_that_changed_nothing_is_not_known_exactly() -> None:
    """Newcombe's limits of a difference of proportions, from exact limits, in units of what was to win."""
    advantage, raw = poisoning(180, 180, 120, 200)
    low, high = record_interval(advantage, {}, raw) or (math.nan, math.nan)
    limits = stats.binomtest(180, 200).proportion_ci(0.95, method="exact")
    half = math.hypot(0.9 - limits.low, limits.high - 0.9) * 200 / 60
    assert advantage == 0.0
    assert (low, high) == pytest.approx((-half, half))


@pytest.mark.parametrize(("before", "after"), [(0.9, 0.9), (0.9, 0.3), (0.97, 0.5)])
def test_the_interval_of_a_poisoning_covers(before: float, after: float) -> None:
    """2000 test sets on which the models are right independently, held to 95 %; false-alarm rate 3e-7 each."""
    generator = np.random.default_rng([round(100 * before), round(100 * after)])
    n, hits = 200, 0
    for honest, attacked in zip(
        generator.binomial(n, before, 2000), generator.binomial(n, after, 2000), strict=True
    ):
        advantage, raw = poisoning(int(honest), int(attacked), 100, n)
        low, high = record_interval(advantage, {}, raw) or (math.nan, math.nan)
        true = (before - after) * n / (honest - 100)  # what there was to win is held fixed
        hits += low <= true <= high
    assert hits / 2000 > 0.95 - 5 * math.sqrt(0.95 * 0.05 / 2000)


def test_each_family_has_its_range_and_membership_its_interval() -> None:
    truth = MembershipTruth(
        member=torch.tensor([True, True, False, False]), train_correct=1, n_train=2, test_correct=1, n_test=2
    )
    claim = MembershipClaim(scores=torch.tensor([3.0, 1.0, 2.0, 0.0]))
    scored = score_membership(claim, truth)
    found = record_interval(scored.advantage, scored.metrics, scored.raw)
    assert found == (scored.metrics["advantage"].low, scored.metrics["advantage"].high)
    assert attainable(scored.raw) == (-1.0, 1.0)
    assert attainable({"originals": [[0.0]]}) == (-math.inf, 1.0)
    assert record_interval(0.5, {}, {"originals": [[0.0]]}) is None, (
        "one reconstruction is no sample of records"
    )
    backdoor = {"successes": 50.0, "successes_without_attack": 10.0, "n_triggered": 50.0}
    low, high = record_interval(1.0, {}, backdoor) or (math.nan, math.nan)
    assert attainable(backdoor) == (-math.inf, 1.0)
    assert 0.5 < low < 1.0 < high
    assert attainable({"majority": 1.0}) == (-math.inf, math.inf)
