"""Lower bounds on epsilon: published forms, mechanisms of known epsilon, and ways to get it wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, stats

from qflsec.accounting.audit_ceilings import audit_ceiling
from qflsec.accounting.audited import (
    GAUSSIAN_ONLY,
    Choice,
    Explicit,
    Grid,
    Ranks,
    RateLimits,
    Split,
    audit_scores,
    rate_limits,
)
from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.accounting.statistics import clopper_pearson_lower, clopper_pearson_upper
from qflsec.base import ConfigError, DataError

TRIALS = 400
TOO_MANY = 36
"""Of 400 trials at 5 %: so many or more come about with probability below a thousandth."""
Scores = NDArray[np.float64]
Sampler = Callable[[np.random.Generator], tuple[Scores, Scores]]
LAPLACE = 3.0


def test_the_number_of_trials_that_is_too_many() -> None:
    assert stats.binom.sf(TOO_MANY - 1, TRIALS, 0.05) < 1e-3


def responses(n: int) -> Sampler:
    """Randomised response with epsilon 1: the bit is told as it is with probability e / (1 + e)."""
    truth = math.e / (1 + math.e)
    return lambda rng: ((rng.random(n) < truth) * 1.0, (rng.random(n) < 1 - truth) * 1.0)


def laplace(n: int) -> Sampler:
    """Laplace noise: any threshold beyond both means attains epsilon."""
    return lambda rng: (rng.laplace(1, 1 / LAPLACE, n), rng.laplace(0, 1 / LAPLACE, n))


def gaussian(n: int, mu: float = 1.0) -> Sampler:
    return lambda rng: (rng.normal(mu, 1, n), rng.normal(0, 1, n))


def subsampled(n: int) -> Sampler:
    """One step of noise 1/2, in which the record takes part with probability 1/4."""
    return lambda rng: (rng.normal(rng.random(n) < 0.25, 0.5), rng.normal(0, 0.5, n))


def subsampled_epsilon(delta: float) -> tuple[float, float]:
    """The exact epsilon of the pair, and the threshold that attains it."""
    q, s = 0.25, 0.5

    def mixture(x: float) -> float:
        return float((1 - q) * stats.norm.sf(x, 0, s) + q * stats.norm.sf(x, 1, s))

    def edge(ratio: float) -> float:
        return s * s * math.log((ratio - 1 + q) / q) + 0.5

    def forward(eps: float) -> float:
        x = edge(math.exp(eps))
        return mixture(x) - math.exp(eps) * float(stats.norm.sf(x, 0, s)) - delta

    def backward(eps: float) -> float:
        if math.exp(-eps) <= 1 - q:
            return -delta
        x = edge(math.exp(-eps))
        return float(stats.norm.cdf(x, 0, s)) - math.exp(eps) * (1 - mixture(x)) - delta

    eps = float(optimize.brentq(forward, 0, 20))
    assert backward(eps) < 0
    return eps, edge(math.exp(eps))


SUBSAMPLED, SUBSAMPLED_EDGE = subsampled_epsilon(0.05)
GAUSSIAN = epsilon_of_mu(1.0, 0.1)


def bounds(
    sampler: Sampler,
    choice: Choice,
    delta: float,
    method: Literal["clopper-pearson", "gaussian"] = "clopper-pearson",
) -> NDArray[np.float64]:
    """The bounds of all trials, whose seeds are 0 to 399."""
    found = []
    for seed in range(TRIALS):
        scores_in, scores_out = sampler(np.random.default_rng(seed))
        own = Split(seed=seed) if isinstance(choice, Split) else choice
        found.append(audit_scores(scores_in, scores_out, delta=delta, choice=own, method=method).lower)
    return np.array(found)


@pytest.mark.parametrize(
    ("sampler", "choice", "delta", "truth"),
    [
        (responses(500), Explicit(threshold=0.5), 0.0, 1.0),
        (responses(500), Grid(thresholds=(-0.5, 0.5, 1.5)), 0.0, 1.0),
        (responses(500), Ranks(), 0.0, 1.0),
        (responses(500), Split(), 0.0, 1.0),
        (laplace(4000), Explicit(threshold=1.0), 0.0, LAPLACE),
        (laplace(4000), Ranks(), 0.0, LAPLACE),
        (laplace(4000), Split(), 0.0, LAPLACE),
        (gaussian(300), Explicit(threshold=GAUSSIAN + 0.5), 0.1, GAUSSIAN),
        (gaussian(300), Ranks(), 0.1, GAUSSIAN),
        (subsampled(3000), Explicit(threshold=SUBSAMPLED_EDGE), 0.05, SUBSAMPLED),
        (subsampled(3000), Ranks(), 0.05, SUBSAMPLED),
        (subsampled(3000), Split(), 0.05, SUBSAMPLED),
    ],
)  # fmt: skip
def test_the_truth_is_rarely_below_the_bound(
    sampler: Sampler, choice: Choice, delta: float, truth: float
) -> None:
    found = bounds(sampler, choice, delta)
    assert (found > truth).sum() < TOO_MANY
    assert np.quantile(found, 0.9) > 0.3 * truth, "a bound that says nothing is never wrong"


@pytest.mark.parametrize("choice", [Explicit(threshold=0.5), Ranks(), Split()])
def test_the_gaussian_form_holds_for_gaussian_noise(choice: Choice) -> None:
    truth = epsilon_of_mu(1.0, 1e-5)
    found = bounds(gaussian(300), choice, 1e-5, "gaussian")
    assert (found > truth).sum() < TOO_MANY
    assert np.median(found) > 0.45 * truth


def test_the_gaussian_form_is_wrong_for_other_noise() -> None:
    """It says of itself on what it depends: for randomised response it is beyond the truth nearly always."""
    found = bounds(responses(500), Explicit(threshold=0.5), 1e-5, "gaussian")
    assert (found > 1.0).mean() > 0.95


def test_a_threshold_that_the_same_scores_chose_fails() -> None:
    """The negative control: the best of all thresholds without a correction is above the truth too often."""
    n = 4000
    low = np.array([clopper_pearson_lower(k, n, alpha=0.025) for k in range(n + 1)])
    high = np.array([clopper_pearson_upper(k, n, alpha=0.025) for k in range(n + 1)])
    sampler, naive = laplace(n), 0
    for seed in range(TRIALS):
        scores_in, scores_out = (np.sort(side) for side in sampler(np.random.default_rng(seed)))
        hits = n - np.searchsorted(scores_in, scores_out, side="right")
        tpr, fpr = low[hits], high[np.arange(n - 1, -1, -1)]
        naive += bool(max((tpr / fpr).max(), ((1 - fpr) / (1 - tpr)).max()) > math.exp(LAPLACE))
    assert naive >= TOO_MANY
    assert naive / TRIALS > 0.1


def test_randomised_response_is_found_to_four_fifths() -> None:
    rng = np.random.default_rng(0)
    told = responses(10_000)(rng)
    for choice in (Explicit(threshold=0.5), Split(), Grid(thresholds=(0.0, 0.5))):
        found = audit_scores(*told, delta=1e-5, choice=choice)
        assert found.lower >= 0.8
        assert found.refutes(0.8)
        assert not found.refutes(found.ceiling)


@pytest.mark.parametrize(
    ("n", "ceiling"), [(10, 0.807), (50, 2.570), (100, 3.281), (200, 3.984), (500, 4.906), (1000, 5.601)]
)
def test_ceilings_of_a_perfect_attack(n: int, ceiling: float) -> None:
    assert audit_ceiling("clopper-pearson", n, delta=1e-5) == pytest.approx(ceiling, abs=5e-4)
    found = audit_scores(np.ones(n), np.zeros(n), delta=1e-5, choice=Explicit(threshold=0.5))
    assert found.lower == found.ceiling == audit_ceiling("clopper-pearson", n, delta=1e-5)


@pytest.mark.parametrize(("n", "mu", "epsilon"), [(100, 3.593, 21.12), (1000, 5.360, 36.49)])
def test_ceilings_of_the_gaussian_form(n: int, mu: float, epsilon: float) -> None:
    found = audit_scores(
        np.ones(n), np.zeros(n), delta=1e-5, choice=Explicit(threshold=0.5), method="gaussian"
    )
    assert found.mu == pytest.approx(mu, abs=5e-4)
    assert found.lower == pytest.approx(epsilon, abs=5e-3)
    assert found.ceiling == found.lower == audit_ceiling("gaussian", n, delta=1e-5)
    assert found.conditional == GAUSSIAN_ONLY


def test_noise_of_half_the_size_is_seen_by_the_conditional_bound_alone() -> None:
    """1,600 runs of a mechanism with mu 1.89 under a claim of mu 1, epsilon 4.3772."""
    claim = epsilon_of_mu(1.0, 1e-5)
    scores = gaussian(800, 1.89)(np.random.default_rng(0))
    proved = audit_scores(*scores, delta=1e-5, choice=Ranks())
    conditional = audit_scores(*scores, delta=1e-5, choice=Ranks(), method="gaussian")
    assert not proved.refutes(claim)
    assert claim < proved.ceiling, "the number of runs would allow it"
    assert conditional.refutes(claim)


def test_the_complement_finds_what_a_high_threshold_cannot() -> None:
    """A member never scores low, and of the others one in five does."""
    scores_in, scores_out = np.ones(500), np.repeat([0.0, 1.0], [100, 400])
    found = audit_scores(scores_in, scores_out, delta=0.0, choice=Explicit(threshold=0.5))
    limits = rate_limits(500, 500, 400, 500, alpha=0.05)
    assert found.lower == pytest.approx(math.log((1 - limits.fpr_high) / (1 - limits.tpr_low)))
    assert found.lower > 2 > math.log(1 / limits.fpr_high)


@settings(deadline=None, max_examples=50)
@given(tpr=st.floats(0.001, 0.999), fpr=st.floats(0.001, 0.999), delta=st.floats(0, 0.5), eps=st.floats(0, 8))
def test_rates_within_a_guarantee_never_refute_it(tpr: float, fpr: float, delta: float, eps: float) -> None:
    """Against the definition itself: four inequalities, of an event and of its complement in both orders."""
    found = RateLimits(tpr, fpr).epsilon(delta)
    growth = math.exp(eps)
    allowed = tpr <= growth * fpr + delta and 1 - fpr <= growth * (1 - tpr) + delta
    assert (found <= eps + 1e-12) if allowed else (found > eps - 1e-12)


@settings(deadline=None, max_examples=40)
@given(mu=st.floats(0.05, 30), log_delta=st.floats(-60, -1))
def test_epsilon_of_mu_solves_its_equation(mu: float, log_delta: float) -> None:
    delta = math.exp(log_delta)
    epsilon = epsilon_of_mu(mu, delta)
    spent = stats.norm.cdf(mu / 2 - epsilon / mu) - np.exp(
        epsilon + stats.norm.logcdf(-mu / 2 - epsilon / mu)
    )
    if epsilon == 0:
        assert spent <= delta
    else:
        assert spent == pytest.approx(delta, rel=1e-5)


@pytest.mark.parametrize(("mu", "epsilon"), [(0.5, 1.9931), (1, 4.3772), (2, 9.9973), (2.5, 13.2067)])
def test_epsilon_of_mu_at_the_usual_delta(mu: float, epsilon: float) -> None:
    assert round(epsilon_of_mu(mu, 1e-5), 4) == epsilon


@pytest.mark.parametrize("choice", [Grid(thresholds=(0.2, 0.5, 0.8, 0.5)), Ranks(counts=(5, 40, 5, 200))])
def test_several_tests_share_the_allowed_failures(choice: Grid | Ranks) -> None:
    scores = gaussian(300, 2.0)(np.random.default_rng(3))
    found = audit_scores(*scores, delta=1e-3, choice=choice)
    assert found.tests == 3
    single = [replace(choice, **{name: (one,)}) for name, values in vars(choice).items() for one in values]
    alone = [audit_scores(*scores, delta=1e-3, choice=one, confidence=1 - 0.05 / 3) for one in single]
    best = max(alone, key=lambda one: one.lower)
    assert found.lower == pytest.approx(best.lower)
    assert found.ceiling == pytest.approx(max(one.ceiling for one in alone))
    assert (found.threshold, found.confidence) == (best.threshold, 0.95)


def test_ranks_do_not_count_what_ties_hide() -> None:
    """All others score 0: every rank is a threshold of 0, above which nobody lies, and k are counted all the same."""
    found = audit_scores(np.ones(50), np.zeros(50), delta=0.0, choice=Ranks(counts=(5,)))
    assert found.lower == pytest.approx(rate_limits(50, 50, 5, 50, alpha=0.05).epsilon(0.0))
    assert found.evidence == "50 of 50 in and at most 5 of 50 out lie above"


def test_a_split_does_not_go_by_the_order_of_the_file() -> None:
    scores = np.sort(np.random.default_rng(1).normal(size=200))
    found = audit_scores(scores + 3, scores, delta=0.0)
    assert found.n == 200
    assert found.choice == "a threshold that a random half chose, seed 0"
    assert found.lower > 1
    assert found != audit_scores(scores + 3, scores, delta=0.0, choice=Split(seed=1))


def test_infinite_scores_are_scores() -> None:
    scores = np.array([math.inf] * 20 + [-math.inf])
    for choice in (Explicit(threshold=0.0), Ranks(), Split()):
        assert math.isfinite(audit_scores(scores, -scores, delta=0.0, choice=choice).lower)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"delta": 1.0}, ConfigError, "delta is out of range"),
        ({"delta": math.nan}, ConfigError, "delta is out of range"),
        ({"delta": 0.0, "method": "gaussian"}, ConfigError, "no finite epsilon at delta 0"),
        ({"confidence": 1.0}, DataError, "confidence level"),
        ({"scores_in": []}, DataError, "no scores of canaries in"),
        ({"scores_out": [0.0, math.nan]}, DataError, "canaries out hold NaN"),
        ({"scores_in": [1.0]}, DataError, "cannot be split"),
        ({"choice": Grid(thresholds=())}, ConfigError, "grid is empty"),
        ({"choice": Explicit(threshold=math.nan)}, ConfigError, "threshold is no number"),
        ({"choice": Ranks(counts=(3,))}, ConfigError, "rank is out of range"),
    ],
)
def test_bad_input(change: dict[str, object], error: type[Exception], words: str) -> None:
    given: dict[str, object] = {
        "scores_in": [1.0, 2.0],
        "scores_out": [0.0, 1.0, 2.0],
        "delta": 1e-5,
        **change,
    }
    with pytest.raises(error, match=words):
        audit_scores(**given)  # type: ignore[arg-type]
