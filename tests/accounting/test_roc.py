from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from qflsec.accounting.roc import auc, roc, tpr_at_fpr
from qflsec.base import DataError

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)


def _pooled(members: list[float], nonmembers: list[float]) -> tuple[np.ndarray, np.ndarray]:
    labels = np.concatenate([np.ones(len(members)), np.zeros(len(nonmembers))])
    return labels, np.concatenate([members, nonmembers])


@settings(deadline=None, max_examples=80)
@given(members=SCORES, nonmembers=SCORES)
def test_auc_equals_scikit_learns_with_ties(members: list[float], nonmembers: list[float]) -> None:
    estimate = auc(members, nonmembers)
    assert estimate.value == pytest.approx(roc_auc_score(*_pooled(members, nonmembers)))
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0, "an interval is never a point"


@settings(deadline=None, max_examples=40)
@given(members=SCORES, nonmembers=SCORES)
def test_exchanging_the_sides_reflects_the_interval(members: list[float], nonmembers: list[float]) -> None:
    one, other = auc(members, nonmembers), auc(nonmembers, members)
    assert (other.low, other.value, other.high) == pytest.approx((1 - one.high, 1 - one.value, 1 - one.low))


def test_delongs_variance_by_its_definition() -> None:
    """The structural components, by double loops instead of midranks; the interval is on the logit scale."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(0.8, 1, 23).round(1), generator.normal(0, 1.5, 31).round(1)
    kernel = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    area = kernel.mean()
    variance = kernel.mean(axis=1).var(ddof=1) / 23 + kernel.mean(axis=0).var(ddof=1) / 31
    half = 1.959963984540054 * math.sqrt(variance) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    estimate = auc(x, y)
    assert estimate.low == pytest.approx(1 / (1 + math.exp(half - logit)))
    assert estimate.high == pytest.approx(1 / (1 + math.exp(-half - logit)))


@pytest.mark.parametrize("area", [0.5, 0.75, 0.95])
def test_auc_interval_covers(area: float) -> None:
    """Binormal scores, 40 members and 60 non-members, 2000 repetitions.

    DeLong's interval is asymptotic: the coverage may lie between 92.5 and 98 %. A true coverage of 95 %
    falls outside with probability below 1e-6 (its standard error is 0.5 points).
    """
    generator = np.random.default_rng(7)
    shift = math.sqrt(2) * stats.norm.ppf(area)
    hits = 0
    for _ in range(2000):
        estimate = auc(generator.normal(shift, 1, 40), generator.normal(0, 1, 60))
        hits += estimate.low <= area <= estimate.high
    assert 0.925 < hits / 2000 < 0.98


def test_perfect_separation_still_has_an_interval() -> None:
    """Newcombe's interval solves (1 - a)^2 = z^2 var(a); fewer records, wider interval."""
    few, many = auc([2.0] * 5, [1.0] * 5), auc([2.0] * 100, [1.0] * 100)
    assert few.value == many.value == 1.0
    assert few.high == many.high == 1.0
    assert few.low < many.low < 1.0
    a, half = few.low, 4.0
    spread = 1 + half * (1 - a) / (2 - a) + half * a / (1 + a)
    assert (1 - a) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * a * (1 - a) * spread / 25)


def test_a_constant_score_is_not_certain_to_be_chance() -> None:
    estimate = auc([0.0] * 10, [0.0] * 10)
    assert estimate.value == 0.5
    assert estimate.low < 0.4
    assert estimate.high > 0.6


@settings(deadline=None, max_examples=60)
@given(members=SCORES, nonmembers=SCORES)
def test_roc_equals_scikit_learns(members: list[float], nonmembers: list[float]) -> None:
    curve = roc(members, nonmembers)
    fpr, tpr, thresholds = roc_curve(*_pooled(members, nonmembers), drop_intermediate=False)
    points = dict(zip(thresholds.tolist(), zip(fpr.tolist(), tpr.tolist(), strict=True), strict=True))
    for a, b, threshold in zip(curve.fpr, curve.tpr, curve.thresholds, strict=True):
        assert points[threshold] == pytest.approx((a, b))
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auc(members, nonmembers).value)
    np.testing.assert_allclose(np.interp(fpr, curve.fpr, curve.tpr)[-1], 1.0)


def test_roc_keeps_the_corners_only() -> None:
    curve = roc(np.arange(100.0, 200.0), np.arange(0.0, 100.0))
    assert curve.fpr.tolist() == [0, 0, 1]
    assert curve.tpr.tolist() == [0, 1, 1]
    assert curve.thresholds.tolist() == [math.inf, 100.0, 0.0]


def test_log_points_have_no_zero_and_keep_the_rest() -> None:
    generator = np.random.default_rng(2)
    curve = roc(generator.normal(1, 1, 50), generator.normal(0, 1, 80))
    fpr, tpr = curve.log_points()
    assert fpr.min() == 0.5 / 80 == fpr[0]
    assert tpr.min() > 0
    assert (np.diff(fpr) >= 0).all()
    seen = curve.fpr > 0
    np.testing.assert_array_equal(fpr[1:], curve.fpr[seen])
    assert tpr[0] == curve.tpr[curve.fpr == 0].max()
    assert curve.log_points(1e-3)[0][0] == 1e-3


@settings(deadline=None, max_examples=80)
@given(members=SCORES, nonmembers=SCORES, fpr=st.sampled_from([0.0, 0.01, 0.1, 0.29, 0.5, 1.0]))
def test_tpr_at_fpr_is_the_best_threshold(members: list[float], nonmembers: list[float], fpr: float) -> None:
    """Brute force over every threshold that could matter."""
    x, y = np.array(members), np.array(nonmembers)
    candidates = [-math.inf, *sorted({*members, *nonmembers})]
    best = max((x > t).mean() for t in candidates if (y > t).mean() <= fpr + 1e-12)
    result = tpr_at_fpr(members, nonmembers, fpr)
    assert result.tpr.value == pytest.approx(best)
    assert result.achieved_fpr <= fpr + 1e-12
    assert (x > result.threshold).mean() == pytest.approx(best)
    assert result.resolved == (len(nonmembers) * fpr >= 1 - 1e-9)


def test_too_few_non_members_for_the_budget_are_flagged() -> None:
    """A false-positive rate of 0.1 % needs 1000 non-members."""
    generator = np.random.default_rng(1)
    members = generator.normal(1, 1, 200)
    short = tpr_at_fpr(members, generator.normal(0, 1, 999), 0.001)
    enough = tpr_at_fpr(members, generator.normal(0, 1, 1000), 0.001)
    assert not short.resolved
    assert short.achieved_fpr == 0.0
    assert enough.resolved
    assert enough.achieved_fpr == 0.001


def test_a_round_budget_is_not_lost_to_rounding() -> None:
    """0.29 * 100 is 28.999999999999996 in floating point; 29 false positives fit the budget."""
    assert tpr_at_fpr([0.0], np.arange(100.0), 0.29).achieved_fpr == 0.29


def test_the_limit_of_the_thresholds_own_rate_covers() -> None:
    """The true rate of a threshold set on 50 non-members exceeds its limit in at most 2.5 % of 4000 draws.

    For continuous scores it is exactly 2.5 %; 1.2 to 3.9 % are five standard errors (false alarm 1e-6).
    """
    generator = np.random.default_rng(9)
    misses = 0
    for _ in range(4000):
        result = tpr_at_fpr([0.0], generator.normal(size=50), 0.1)
        misses += stats.norm.sf(result.threshold) > result.fpr_upper
    assert 0.012 < misses / 4000 < 0.039


@pytest.mark.parametrize(("n", "budget"), [(100, 0.01), (30, 0.1), (1000, 0.001), (7, 0.001)])
def test_what_chance_reaches_is_above_the_budget(n: int, budget: float) -> None:
    """The mean over 2000 draws of 20 members and n others alike, within five standard errors (false alarm 1e-6)."""
    generator = np.random.default_rng(n)
    found = [tpr_at_fpr(generator.normal(size=20), generator.normal(size=n), budget) for _ in range(2000)]
    rates = np.array([one.tpr.value for one in found])
    chance = found[0].by_chance
    assert abs(rates.mean() - chance) < 5 * rates.std() / math.sqrt(len(rates))
    assert chance > budget
    if n == 100:
        assert chance == 2 / 101


def test_infinite_scores_are_allowed_and_nan_is_not() -> None:
    assert auc([math.inf, 1.0], [-math.inf, 0.0]).value == 1.0
    assert tpr_at_fpr([math.inf], [0.0, math.inf], 0.0).tpr.value == 0.0
    assert roc([math.inf, 1.0], [-math.inf, 0.0]).tpr[-1] == 1.0
    for function in (auc, roc):
        with pytest.raises(DataError, match="scores of nonmembers hold NaN; got 1 of 2"):
            function([1.0], [0.0, math.nan])
    with pytest.raises(DataError, match="no scores of members"):
        auc([], [1.0])
    with pytest.raises(DataError, match="rate lies between"):
        tpr_at_fpr([1.0], [0.0], 1.5)
