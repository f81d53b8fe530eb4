from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.accounting.statistics import (
    Estimate,
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    mean_over_seeds,
    seeds_to_decide,
)
from qflsec.base import DataError


@settings(deadline=None, max_examples=60)
@given(trials=st.integers(1, 400), share=st.floats(0, 1), confidence=st.sampled_from([0.9, 0.95, 0.99]))
def test_clopper_pearson_equals_scipys(trials: int, share: float, confidence: float) -> None:
    successes = round(share * trials)
    estimate = clopper_pearson(successes, trials, confidence=confidence)
    oracle = stats.binomtest(successes, trials).proportion_ci(confidence, method="exact")
    assert estimate.low == pytest.approx(oracle.low, abs=1e-12)
    assert estimate.high == pytest.approx(oracle.high, abs=1e-12)
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.n == trials


@pytest.mark.parametrize("trials", [10, 60])
def test_clopper_pearson_covers_at_least_as_often_as_it_says(trials: int) -> None:
    """Exact, by summing the binomial distribution: no simulation, no false alarm."""
    intervals = [clopper_pearson(k, trials) for k in range(trials + 1)]
    for p in np.linspace(0.01, 0.99, 99):
        pmf = stats.binom.pmf(np.arange(trials + 1), trials, p)
        covered = sum(mass for mass, one in zip(pmf, intervals, strict=True) if one.low <= p <= one.high)
        assert covered >= 0.95


@settings(deadline=None, max_examples=40)
@given(trials=st.integers(1, 200), share=st.floats(0, 1), alpha=st.sampled_from([0.025, 0.05, 0.001]))
def test_one_sided_limits_solve_their_tail_equations(trials: int, share: float, alpha: float) -> None:
    successes = round(share * trials)
    upper = clopper_pearson_upper(successes, trials, alpha=alpha)
    lower = clopper_pearson_lower(successes, trials, alpha=alpha)
    if successes < trials:
        assert stats.binom.cdf(successes, trials, upper) == pytest.approx(alpha, rel=1e-6)
    if successes > 0:
        assert stats.binom.sf(successes - 1, trials, lower) == pytest.approx(alpha, rel=1e-6)


def test_all_and_nothing() -> None:
    """With no success in n trials the upper limit is 1 - alpha^(1/n)."""
    assert clopper_pearson_upper(0, 30, alpha=0.05) == pytest.approx(1 - 0.05 ** (1 / 30))
    assert clopper_pearson(0, 30).low == 0.0
    assert clopper_pearson(30, 30).high == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(DataError, match="impossible counts"):
        clopper_pearson(successes, trials)


def test_mean_over_seeds_equals_scipys() -> None:
    values = [0.61, 0.58, 0.67, 0.70, 0.55]
    oracle = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    estimate = mean_over_seeds(values)
    assert (estimate.low, estimate.high) == pytest.approx((oracle.low, oracle.high))
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate.n == 5


def test_mean_over_seeds_covers() -> None:
    """8000 samples of 4 normal values: coverage 95 % within 1.3 points, five standard errors (1e-6)."""
    generator = np.random.default_rng(5)
    hits = 0
    for sample in generator.normal(2.0, 3.0, size=(8000, 4)):
        estimate = mean_over_seeds(sample)
        hits += estimate.low <= 2.0 <= estimate.high
    assert hits / 8000 == pytest.approx(0.95, abs=0.013)


def test_one_seed_has_no_interval() -> None:
    estimate = mean_over_seeds([0.7])
    assert estimate.value == 0.7
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)


@pytest.mark.parametrize("values", [[], [0.5, math.nan], [0.5, math.inf]])
def test_a_failed_trial_does_not_drop_out_of_a_mean(values: list[float]) -> None:
    with pytest.raises(DataError, match="one finite value for each seed"):
        mean_over_seeds(values)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(DataError, match="confidence level"):
        mean_over_seeds([1.0, 2.0], confidence=confidence)
    with pytest.raises(DataError, match="confidence level"):
        clopper_pearson(1, 2, confidence=confidence)


def test_affine_maps_the_interval() -> None:
    area = Estimate(value=0.8, low=0.7, high=0.85, n=10)
    advantage = area.affine(2, -1)
    assert (advantage.low, advantage.value, advantage.high) == pytest.approx((0.4, 0.6, 0.7))
    loss = area.affine(-1, 1)
    assert (loss.low, loss.value, loss.high) == pytest.approx((0.15, 0.2, 0.3))
    half = area.affine(0.5, 0)
    assert (half.low, half.value, half.high) == pytest.approx((0.35, 0.4, 0.425))


def test_one_seed_has_no_interval_and_keeps_its_confidence() -> None:
    one = mean_over_seeds([0.4], confidence=0.9)
    assert (one.value, one.n, one.confidence) == (0.4, 1, 0.9)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_a_score_promises_95_percent() -> None:
    score = clopper_pearson(9, 10).score(name="success", baseline=0.5, ideal=1.0)
    assert (score.n, score.unit, score.baseline) == (10, "1", 0.5)
    with pytest.raises(AssertionError):
        clopper_pearson(9, 10, confidence=0.9).score(name="success", baseline=0.5, ideal=1.0)


def test_the_interval_is_cut_to_what_is_possible_and_never_a_point() -> None:
    """Two accuracies of .93 and .72 over 150 records: Student's interval alone runs to 2.16."""
    wild = mean_over_seeds([0.93, 0.72], within=(0.0, 1.0))
    assert (wild.low, wild.high) == (0.0, 1.0)
    assert mean_over_seeds([0.93, 0.72]).high == pytest.approx(2.159, abs=1e-3)
    perfect = clopper_pearson(150, 150)
    agreed = mean_over_seeds([1.0] * 3, within=(0.0, 1.0), records=[(perfect.low, perfect.high)] * 3)
    assert agreed.low == pytest.approx(1 - (1 - perfect.low) / math.sqrt(3))
    assert agreed.high == 1.0


def test_the_hull_is_no_shorter_than_its_parts() -> None:
    values, records = [0.5, 0.6, 0.7], [(0.3, 0.6), (0.5, 0.9), (0.6, 0.8)]
    found, alone = mean_over_seeds(values, records=records), mean_over_seeds(values)
    below = math.sqrt(0.2**2 + 0.1**2 + 0.1**2) / 3
    assert found.low == pytest.approx(min(alone.low, 0.6 - below))
    tight = mean_over_seeds([0.6, 0.6, 0.6], records=records)
    assert tight.low == pytest.approx(0.6 - math.sqrt(0.3**2 + 0.1**2 + 0.0**2) / 3)
    assert tight.high == pytest.approx(0.6 + math.sqrt(0.0**2 + 0.3**2 + 0.2**2) / 3)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("mean", "spread", "least"),
    [
        (0.5, 0.0, 0.95),
        (0.97, 0.0, 0.95),
        (0.005, 0.0, 0.95),
        (0.5, 0.1, 0.94),
        (0.9, 0.05, 0.92),
        (0.97, 0.015, 0.92),
        (0.03, 0.015, 0.92),
    ],
)
def test_accuracies_over_seeds_are_covered(seeds: int, mean: float, spread: float, least: float) -> None:
    """1500 cells of 150 records a seed, seeds from a beta distribution: where they agree, at least 95 %.

    Where they differ by about half of their distance to an end, the distribution is skew and 2 to 3 % are lost. False-alarm
    rate: 3e-7 for each case (five standard errors of a binomial count).
    """
    generator = np.random.default_rng([seeds, round(1000 * mean), round(1000 * spread)])
    size, cells = 150, 1500
    true = np.full((cells, seeds), mean)
    if spread:
        weight = mean * (1 - mean) / spread**2 - 1
        true = generator.beta(mean * weight, (1 - mean) * weight, size=(cells, seeds))
    limits = [clopper_pearson(k, size) for k in range(size + 1)]
    hits = 0
    for counts in generator.binomial(size, true):
        ends = [(limits[k].low, limits[k].high) for k in counts]
        found = mean_over_seeds(counts / size, within=(0.0, 1.0), records=ends)
        assert 0 <= found.low <= found.value <= found.high <= 1
        hits += found.low <= mean <= found.high
    assert hits / cells > least - 5 * math.sqrt(least * (1 - least) / cells)


def test_the_number_of_seeds_that_decides_is_the_first_that_does() -> None:
    """Against Student's interval written down again for more seeds of the same spread."""
    values, gap = [0.1, 0.5, 0.6], 0.2
    deviation = float(np.std(values, ddof=1))
    found = seeds_to_decide(values, gap)
    assert found is not None

    def half(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)

    assert half(found) < gap <= half(found - 1)
    assert seeds_to_decide(values[:1], gap) is None, "one seed shows no spread"
    assert seeds_to_decide(values, 0.0) is None
    assert seeds_to_decide(values, 1e-6) is None, "nobody would run so many"
    by_records = seeds_to_decide([0.5, 0.5], 0.1, records=[(0.2, 0.8)] * 2)
    assert by_records == 10, "0.3 / sqrt(n) is below 0.1 from n = 10 on"


def test_the_table_of_quantiles_is_scipys() -> None:
    from scipy.special import stdtrit

    from qflsec.accounting.statistics import _STUDENT

    # SciPy 1.15 is right to 2e-11 alone; with one degree of freedom the quantile is a tangent
    assert pytest.approx(math.tan(0.475 * math.pi), rel=1e-14) == _STUDENT[0]
    assert pytest.approx(list(_STUDENT), rel=1e-10) == [stdtrit(df, 0.975) for df in range(1, 31)]
    # on either side of the table's end the same law holds: the last tabulated and the first computed one
    half = [mean_over_seeds([0.0, 1.0] * (n // 2)) for n in (30, 32)]
    for estimate in half:
        spread = (estimate.high - estimate.low) / 2
        deviation = (estimate.n / 4 / (estimate.n - 1)) ** 0.5 / estimate.n**0.5
        assert spread == pytest.approx(stdtrit(estimate.n - 1, 0.975) * deviation, rel=1e-12)
