"""Every statistical bound where few or no events are counted, against exact tails.

Normal laws, entropies and inequalities for large numbers go wrong at 0, 1, 2, 5 and 10 counts first.
"""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special, stats

from qflsec.accounting.roc import auc
from qflsec.accounting.skellam import skellam_tail
from qflsec.accounting.statistics import (
    bounded_mean,
    clopper_pearson,
    clopper_pearson_lower,
    clopper_pearson_upper,
    mean_by_chance,
)
from qflsec.base import numpy_stream
from qflsec.lab.scoring import channel
from qflsec.lab.scoring.channel import ChannelRules
from qflsec.lab.worlds.delegation.cells import SessionCell
from qflsec.lab.worlds.delegation.scores import angle_score, by_chance, outcome_score, round_score
from qflsec.lab.worlds.delegation.session import DEVIATIONS
from qflsec.protocols.bb84 import FibreChannel, QuantumConfig, WeakCoherentSource
from qflsec.protocols.bb84.channel import coherent_gain
from qflsec.protocols.bb84.estimation import interval
from qflsec.protocols.bb84.key_length import sampling_deviation
from qflsec.protocols.bb84.optimise import Requirements
from qflsec.protocols.blind import RoundCounts
from qflsec.protocols.blind.soundness import acceptance, accepted_harm
from qflsec.protocols.ghz.resource import untested_failure_bound
from qflsec.protocols.qdp.composition import (
    binomial_delta,
    binomial_epsilon,
    composed_delta,
    composed_epsilon,
    mixed_vertices_delta,
    renyi_epsilon,
    renyi_of_outcome,
)

FEW = [0, 1, 2, 5, 10]


# -- proportions and means ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", FEW)
@pytest.mark.parametrize("n", [10, 60, 10**6])
def test_clopper_pearson_ends_lie_where_the_exact_tails_are_alpha(count: int, n: int) -> None:
    for alpha in (0.025, 1e-9, 1e-20):
        if count < n:
            upper = clopper_pearson_upper(count, n, alpha=alpha)
            assert stats.binom.cdf(count, n, upper) == pytest.approx(alpha, rel=1e-5)
        if count:
            lower = clopper_pearson_lower(count, n, alpha=alpha)
            assert stats.binom.sf(count - 1, n, lower) == pytest.approx(alpha, rel=1e-5)
    seen = interval(count, n)
    assert (seen.low, seen.high) == pytest.approx(
        (clopper_pearson(count, n).low, clopper_pearson(count, n).high)
    )


@pytest.mark.parametrize("n", [1, 2, 5, 10, 40])
def test_an_interval_of_a_bounded_mean_covers_every_proportion(n: int) -> None:
    """The exact coverage over all counts, at 95 %; a mean of equal values keeps a width."""
    ends = [bounded_mean([1.0] * k + [-1.0] * (n - k)) for k in range(n + 1)]
    assert ends[0].high > ends[0].low == -1.0
    for p in (0.001, 0.02, 0.1, 0.3, 0.5, 0.77, 0.95, 0.999):
        weights = stats.binom.pmf(np.arange(n + 1), n, p)
        covers = np.array([end.low <= 2 * p - 1 <= end.high for end in ends])
        assert weights[covers].sum() >= 0.95


@pytest.mark.parametrize("n", [1, 2, 5, 10, 40])
def test_angles_by_chance_are_no_closer_than_said(n: int) -> None:
    """20,000 draws of n angles at random: the share of means above, less 4.4 standard deviations."""
    rng = numpy_stream(1, "angles")
    means = np.cos(2 * rng.uniform(0, np.pi, (20_000, n))).mean(axis=1)
    for level in (0.3, 0.6, 0.9, 1.0):
        score = angle_score([np.zeros(n)], [np.full(n, math.acos(level) / 2)])
        bound = by_chance(score, tests=0)
        assert bound == pytest.approx(math.exp(-n * level**2))
        assert (means >= level).mean() <= bound + 4.4 * math.sqrt(bound / 20_000)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 40])
def test_a_mean_by_chance_is_no_likelier_than_said(n: int) -> None:
    for right in range(n + 1):
        exact = stats.binom.sf(right - 1, n, 0.5)
        assert exact <= mean_by_chance(2 * right / n - 1, n) * (1 + 1e-9)


def test_the_auc_interval_covers_with_few_records() -> None:
    """400 draws each of 10 and 10 normal scores; 93 % less 4.4 standard deviations of the count."""
    rng = numpy_stream(0, "few scores")
    for area in (0.5, 0.9, 0.97):
        shift = math.sqrt(2) * stats.norm.ppf(area)
        found = [auc(rng.normal(shift, 1, 10), rng.normal(0, 1, 10)) for _ in range(400)]
        covered = sum(one.low <= area <= one.high for one in found)
        assert covered >= 400 * 0.93 - 4.4 * math.sqrt(400 * 0.93 * 0.07)


# -- keys -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", FEW)
@pytest.mark.parametrize(("n", "k"), [(200, 60), (60, 200), (2000, 400)])
def test_serflings_bound_of_the_single_photon_length_holds(seen: int, n: int, k: int) -> None:
    """So few test errors though the raw key holds mu more: in whole numbers, at most eps^2."""
    for eps in (0.1, 1e-3, 1e-6):
        unseen = math.ceil((seen / k + sampling_deviation(n, k, eps)) * n - 1e-9)
        total = seen + unseen
        if unseen <= n:
            ways = sum(math.comb(k, j) * math.comb(n, total - j) for j in range(seen + 1))
            assert ways * round(1 / eps) ** 2 <= math.comb(n + k, total)


@pytest.mark.parametrize("total", [1, 2, 5, 10, 40])
@pytest.mark.parametrize("p", [1e-3, 0.1, 0.5, 0.9])
def test_hoeffdings_bound_of_the_decoy_counts_holds(total: int, p: float) -> None:
    """Of ``total`` events each has an intensity with probability p; the deviation sqrt(total / 2 ln(1 / eps))."""
    for eps in (0.1, 1e-3, 1e-9):
        deviation = math.sqrt(total / 2 * math.log(1 / eps))
        assert stats.binom.cdf(math.floor(total * p - deviation), total, p) <= eps
        assert stats.binom.sf(math.ceil(total * p + deviation) - 1, total, p) <= eps


@pytest.mark.parametrize("mean", [1e-3, 0.1, 1.0, 2.0, 5.0, 10.0, 1e4])
def test_an_honest_line_passes_each_check_as_often_as_the_rules_say(mean: float) -> None:
    """At five standard deviations, 2.9e-7 on a side; limits by the normal law miss by a factor of 500 at 0.1."""
    tail = ChannelRules().tail
    assert tail == pytest.approx(2.87e-7, rel=1e-2)
    low, high = stats.poisson.ppf(tail, mean), stats.poisson.isf(tail, mean)
    assert stats.poisson.sf(high, mean) <= tail
    assert stats.poisson.cdf(low - 1, mean) <= tail
    n = 2 * 10**5
    assert stats.binom.sf(stats.binom.isf(tail, n, mean / n), n, mean / n) <= tail
    if mean == 0.1:
        assert stats.poisson.sf(math.floor(mean + 5 * math.sqrt(mean) + 1), mean) > 500 * tail


@pytest.mark.parametrize("n_test", [20, 200, 2000, 10**6])
def test_the_tolerated_error_rate_of_a_lab_run_is_exact(n_test: int) -> None:
    config = QuantumConfig(n_pulses=1000, channel=FibreChannel(misalignment=0.005))
    phase = SimpleNamespace(config=config, counts=SimpleNamespace(n_test=n_test))
    rules = ChannelRules()
    expected = channel._expected_qber(config)
    errors = round(channel._tolerance(phase, rules) * n_test)
    assert (
        stats.binom.sf(errors, n_test, expected) <= rules.tail < stats.binom.sf(errors - 1, n_test, expected)
    )


@pytest.mark.parametrize("mean", [0.01, 0.1, 1.0, 400.0])
def test_the_gains_of_a_lab_run_are_judged_by_exact_laws(mean: float) -> None:
    """The largest count that passes is exceeded less often than the rules say; one count less would be too strict."""
    source = WeakCoherentSource(intensities=(0.5,), probabilities=(1.0,))
    config = QuantumConfig(n_pulses=1000, source=source)
    sent = 2 * mean / coherent_gain(source.means[0], config.channel, config.detector)

    def passes(count: int) -> bool:
        counts = SimpleNamespace(key=(count,), test=(0,), sent_key=(sent / 2,), sent_test=(sent / 2,))
        return channel._gains_as_expected(SimpleNamespace(config=config, counts=counts), ChannelRules())

    tail = ChannelRules().tail
    most = max(count for count in range(1200) if passes(count))
    assert stats.poisson.sf(most, mean) <= tail < stats.poisson.sf(most - 1, mean)
    least = min(count for count in range(1200) if passes(count))
    assert stats.poisson.cdf(least - 1, mean) <= tail


# -- tests of blind computation and of GHZ states ---------------------------------------------------------


@pytest.mark.parametrize("failed", FEW)
def test_untested_ghz_copies_are_bounded_exactly(failed: int) -> None:
    copies, tests, epsilon = 300, 100, 1e-6
    bound = untested_failure_bound(copies=copies, tests=tests, allowed=failed, epsilon=epsilon)
    for bad in range(copies + 1):
        passes = [
            stats.hypergeom.pmf(seen, copies, bad, tests)
            for seen in range(failed + 1)
            if (bad - seen) / (copies - tests) > bound + 1e-12
        ]
        assert sum(passes) <= epsilon


@pytest.mark.parametrize("failed", FEW)
@pytest.mark.parametrize("attacked", [0, 1, 2, 5, 10, 40])
def test_acceptance_and_harm_of_corrupted_rounds_against_exact_sums(failed: int, attacked: int) -> None:
    """One row exactly; two rows bounded from above by the exact sum for one of them."""
    for rows in (1, 2):
        counts = RoundCounts(shots=30, tests=40, threshold=failed, colours=3, rows=rows)
        others = rows * 30
        for harmless in (0, 1, 5):
            exact = passes = 0.0
            for hit in range(max(0, attacked - others), min(attacked, 40) + 1):
                weight = stats.hypergeom.pmf(hit, others + 40, 40, attacked)
                weight *= stats.binom.cdf(failed, hit, 1 / 3)
                passes += weight
                exact += weight * stats.hypergeom.sf(harmless, others, attacked - hit, 30)
            assert acceptance(counts, attacked) == pytest.approx(passes, rel=1e-9)
            found = accepted_harm(counts, attacked, harmless)
            if rows == 1:
                assert found == pytest.approx(exact, rel=1e-9, abs=1e-300)
            else:
                assert found >= exact * (1 - 1e-9)


@pytest.mark.parametrize("shots", [10, 100, 4000])
def test_an_honest_estimate_is_seldom_called_off_at_any_mean(shots: int) -> None:
    """The limit is 4.4 standard deviations and 4.4 / shots: at most 2e-5 in all, by the binomial law."""
    for flips in (0.0, 0.05, 0.3, 1.0, 2.0, 5.0, shots / 2):
        p = flips / shots
        limit = DEVIATIONS * (2 * math.sqrt(p * (1 - p) / shots) + 1 / shots)
        counts = np.arange(shots + 1)
        off = np.abs(2 * counts / shots - 2 * p) > limit + 1e-12
        assert stats.binom.pmf(counts, shots, p)[off].sum() <= 2e-5


def test_a_server_that_guesses_few_rounds_right_has_learned_nothing() -> None:
    """Four outcomes of four are a coin's with probability 1/16; 16 of 16 with 1.5e-5, 17 with 7.6e-6."""
    for rounds, told in ((4, False), (16, False), (17, True)):
        bits = np.ones(rounds, dtype=np.uint8)
        score = outcome_score([bits], [bits])
        assert score.low < score.value == 1.0
        assert by_chance(score, tests=0) == pytest.approx(2.0**-rounds)
        assert (by_chance(score, tests=0) <= 1e-5) == told


@pytest.mark.parametrize(("tests", "others"), [(1, 3), (5, 5), (3, 9), (8, 6)])
def test_guessing_which_rounds_are_tests_is_no_likelier_than_said(tests: int, others: int) -> None:
    """Over all orders of the rounds, for every number of guesses."""
    n = tests + others
    orders = [np.isin(np.arange(n), chosen) for chosen in itertools.combinations(range(n), tests)]
    for said in range(1, n):
        guess = (np.arange(n) < said).astype(float)
        scores = [round_score(guess, order) for order in orders]
        for score in {round(one.value, 9): one for one in scores}.values():
            as_high = sum(one.value >= score.value - 1e-9 for one in scores) / len(orders)
            assert as_high <= by_chance(score, tests) * (1 + 1e-9)


def test_a_matrix_names_as_learned_only_what_chance_does_not_give() -> None:
    bits = np.ones(6, dtype=np.uint8)
    row = SimpleNamespace(scores={"outcomes": outcome_score([bits], [bits])}, tests=0)
    many = np.ones(40, dtype=np.uint8)
    sure = SimpleNamespace(scores={"outcomes": outcome_score([many], [many])}, tests=0)
    leaking = SessionCell.leaking.fget
    assert leaking is not None
    assert leaking(SimpleNamespace(outcomes=[row])) == ()
    assert leaking(SimpleNamespace(outcomes=[row, sure])) == ("outcomes",)


# -- shots and copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_accounts_of_few_copies_lie_above_the_exact_worst_case(n: int) -> None:
    """One outcome with probabilities from 0.05 to 0.95 that a record changes by up to 0.1."""
    low, change = 0.05, 0.1
    single = math.log((low + change) / low)
    for at in (0.0, 0.3, 1.0, 2.0):
        assert mixed_vertices_delta(n, low, change, at) <= composed_delta(n, single, change, at)
    divergences = renyi_of_outcome(low, 1 - low, change)
    for q, r in ((low + change, low), (low, low + change), (0.5, 0.6)):
        exact = binomial_epsilon(n, q, r, 1e-4)
        assert exact <= composed_epsilon(n, single, change, 1e-4) <= n * single + 1e-8
        assert exact <= renyi_epsilon(n, divergences, 1e-4) + 1e-8  # the exact one is rounded up by as much


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_the_exact_delta_of_few_shots_is_a_sum_over_counts(n: int) -> None:
    for q, r, at in itertools.product((0.0, 0.05, 0.3, 1.0), (0.01, 0.15, 0.3), (0.0, 0.5, 3.0)):
        first, second = (stats.binom.pmf(np.arange(n + 1), n, p) for p in (q, r))
        exact = np.maximum(first - math.exp(at) * second, 0.0).sum()
        assert binomial_delta(n, q, r, at) == pytest.approx(exact, abs=1e-13)


# -- plans ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [*FEW[1:], 40, 400, 10**6])
def test_an_expected_line_seldom_gives_too_few_bits(mean: float) -> None:
    asked = Requirements(abort_probability=1e-2)
    assert stats.poisson.cdf(asked.at_least(mean) - 1, mean) <= asked.tail
    assert stats.binom.sf(asked.at_most_errors(1000, mean / 10**7), 1000, mean / 10**7) <= asked.tail


# -- noise of distributed privacy -------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.01, 1.0, 5.0, 400.0])
@pytest.mark.parametrize("distance", [*FEW, 60])
def test_chernoffs_bound_of_skellam_noise_holds(variance: float, distance: int) -> None:
    """Against the sum of exp(-v) I_k(v) over k from the distance on."""
    exact = float(special.ive(np.arange(distance, distance + 2000), variance).sum())
    assert exact <= skellam_tail(variance, distance) * (1 + 1e-9)
