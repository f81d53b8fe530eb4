"""One run with many canaries: published values, exact tails, a linear program, and mechanisms of known epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import optimize, stats

from qflsec.accounting.audit_ceilings import audit_ceiling
from qflsec.accounting.audited import GAUSSIAN_ONLY
from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.accounting.one_run import (
    OneRunMethod,
    audit_one_run,
    one_run_bound,
    one_run_p_value,
    refuted_by_guesses,
)
from qflsec.base import ConfigError, DataError

TRIALS, TOO_MANY = 400, 36
METHODS: tuple[OneRunMethod, ...] = ("one-run", "one-run-f-dp", "one-run-gaussian")
Level = Callable[[float], float]

cached_bound = cache(one_run_bound)


@pytest.mark.parametrize(
    ("counts", "delta", "published", "by_curve"),
    [
        ((1000, 200, 150), 1e-5, 0.8200, 1.2969),
        ((100, 20, 20), 1e-3, 1.4763, 2.2751),
        ((1000, 1000, 900), 1e-5, 2.0206, 3.7793),
        ((500, 500, 300), 1e-5, 0.2515, 0.5200),
        ((1000, 200, 200), 1e-3, 1.7305, 5.3853),
    ],
)
def test_values_of_another_implementation(
    counts: tuple[int, int, int], delta: float, published: float, by_curve: float
) -> None:
    """The same as ``_epsilon_one_run`` and ``_epsilon_one_run_fdp`` (whose curve is a Gaussian's) of jax-privacy 2.0.0."""
    m, r, v = counts
    found = one_run_bound("one-run", canaries=m, guesses=r, correct=v, delta=delta)[0]
    assert round(found, 4) == pytest.approx(published, abs=1.01e-4)
    curve, mu = one_run_bound("one-run-gaussian", canaries=m, guesses=r, correct=v, delta=delta)
    assert curve == pytest.approx(by_curve, abs=1e-4)
    assert mu is not None
    assert epsilon_of_mu(mu, delta) == curve


@pytest.mark.parametrize(
    ("r", "ceiling"), [(10, 1.052), (50, 2.785), (100, 3.493), (200, 4.194), (500, 5.114), (1000, 5.809)]
)
def test_ceilings(r: int, ceiling: float) -> None:
    """Without delta, all guesses right have probability q^r: the bound is the log odds of 0.05^(1 / r)."""
    found = audit_ceiling("one-run", r, delta=0.0)
    assert found == pytest.approx(ceiling, abs=5e-4)
    q = 0.05 ** (1 / r)
    assert found == pytest.approx(math.log(q / (1 - q)), abs=2e-7)


def tails(m: int, eps: float, delta: float) -> dict[str, np.ndarray]:
    """Exact tails P[at least c right of m guesses], c = 0 to m, of mechanisms with (eps, delta)."""
    q, at_least = 1 / (1 + math.exp(-eps)), np.arange(m + 1)
    told = stats.binom.sf(at_least - 1, m, q)
    return {
        "each bit is told as it is with probability delta": stats.binom.sf(
            at_least - 1, m, delta + (1 - delta) * q
        ),
        "all bits are told as they are with probability delta": delta + (1 - delta) * told,
    }


@pytest.mark.parametrize("m", [1, 6, 40])
@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.01), (0.5, 0.0), (1.0, 0.001), (2.0, 0.02)])
def test_no_tail_of_a_private_mechanism_exceeds_its_p_value(m: int, eps: float, delta: float) -> None:
    for name, exact in tails(m, eps, delta).items():
        for c in range(m + 1):
            bound = one_run_p_value(eps, delta, canaries=m, guesses=m, correct=c)
            assert exact[c] <= bound + 1e-12, (name, c)
            level = level_of(eps, delta)
            # a level just below the tail that really occurs must not be refuted
            assert not refuted_by_guesses(
                level, canaries=m, guesses=m, correct=c, alpha=float(exact[c]) * (1 - 1e-9)
            ), (name, c)


@pytest.mark.parametrize("method", ["one-run", "one-run-f-dp"])
@pytest.mark.parametrize(("eps", "delta"), [(0.5, 0.0), (1.0, 0.001), (2.0, 0.02)])
def test_no_bound_exceeds_the_truth_at_the_tail_that_occurs(
    method: OneRunMethod, eps: float, delta: float
) -> None:
    """With the exact tail as the level, the bound may reach epsilon, and no more."""
    for exact in tails(20, eps, delta).values():
        for c in range(12, 21):
            found = one_run_bound(
                method,
                canaries=20,
                guesses=20,
                correct=c,
                delta=delta,
                confidence=1 - float(exact[c]) * (1 - 1e-6),
            )[0]
            assert found <= eps + 1e-5


def level_of(eps: float, delta: float) -> Level:
    """The least level at a power, from the definition: power <= e^eps level + delta, and the same of the complement."""
    return lambda power: max(0.0, (power - delta) / math.exp(eps), 1 - delta - math.exp(eps) * (1 - power))


def largest_tail(cuts: list[tuple[float, float]], m: int, r: int, v: int) -> float:
    """The linear program: the largest tail over all distributions of the number of right guesses.

    Args:
        cuts: Pairs (slope, offset): no power exceeds slope times level + offset.
        m: Canaries.
        r: Guesses.
        v: Where the tail begins.
    """
    j = np.arange(r + 1)
    rows, limits = [], []
    for c in range(1, r + 1):
        right, wrong = (j >= c) * j / m, (j >= c - 1) * (r - j) / m
        for slope, offset in cuts:
            rows.append(right - slope * wrong)
            limits.append(offset)
    found = optimize.linprog(
        -1.0 * (j >= v), A_ub=np.array(rows), b_ub=limits, A_eq=np.ones((1, r + 1)), b_eq=[1.0], bounds=(0, 1)
    )
    assert found.status == 0
    return float(-found.fun)


@pytest.mark.parametrize(("m", "r", "v"), [(1, 1, 1), (5, 5, 4), (9, 6, 6), (12, 8, 5)])
@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.05), (0.7, 0.0), (1.5, 0.1)])
def test_the_recursion_is_the_linear_program(m: int, r: int, v: int, eps: float, delta: float) -> None:
    growth = math.exp(eps)
    cuts = [(growth, delta), (1 / growth, 1 - (1 - delta) / growth), (0.0, 1.0)]
    most = largest_tail(cuts, m, r, v)
    for alpha, refuted in ((most * 1.001 + 1e-9, True), (most * 0.999 - 1e-9, False)):
        if 0 < alpha < 1:
            found = refuted_by_guesses(level_of(eps, delta), canaries=m, guesses=r, correct=v, alpha=alpha)
            assert found is refuted


@pytest.mark.parametrize(("m", "r", "v"), [(5, 5, 4), (12, 8, 6)])
def test_the_recursion_is_the_linear_program_for_a_gaussian_curve(m: int, r: int, v: int) -> None:
    mu, at = 0.8, np.linspace(-5, 4, 250)
    slopes = np.exp(stats.norm.logpdf(at + mu) - stats.norm.logpdf(at))
    offsets = stats.norm.cdf(at + mu) - slopes * stats.norm.cdf(at)
    most = largest_tail(list(zip(slopes, offsets, strict=True)), m, r, v)

    def level(power: float) -> float:
        return float(stats.norm.cdf(stats.norm.ppf(power) - mu))

    for alpha, refuted in ((most * 1.002, True), (most * 0.99, False)):
        assert refuted_by_guesses(level, canaries=m, guesses=r, correct=v, alpha=alpha) is refuted


def one_run(m: int, noise: str) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    """One output: each coin with noise of its own; a mechanism with epsilon 1, or a Gaussian one with mu 1."""

    def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        coins = rng.random(m) < 0.5
        if noise == "response":
            scores = 1.0 * (coins ^ (rng.random(m) < 1 / (1 + math.e)))
        else:
            scores = coins + rng.normal(size=m)
        return scores[coins], scores[~coins]

    return sample


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("noise", "delta", "truth"), [("response", 0.0, 1.0), ("gaussian", 1e-3, epsilon_of_mu(1.0, 1e-3))]
)
def test_the_truth_is_rarely_below_the_bound(
    monkeypatch: pytest.MonkeyPatch, method: OneRunMethod, noise: str, delta: float, truth: float
) -> None:
    """The Gaussian form is held to Gaussian noise; on randomised response it says too much, as its condition allows."""
    monkeypatch.setattr("qflsec.accounting.one_run.one_run_bound", cached_bound)
    conditional = method == "one-run-gaussian" and noise == "response"
    sample, found = one_run(256, noise), []
    for seed in range(TRIALS):
        scores = sample(np.random.default_rng(seed))
        found.append(
            audit_one_run(
                *scores,
                delta=1e-5 if conditional else delta,
                method=method,
                seed=seed,
                guesses=[(96, 96), (32, 32)],
            ).lower
        )
    above = sum(bound > truth for bound in found)
    assert (above > TRIALS / 4) if conditional else (above < TOO_MANY)
    assert np.median(found) > 0.2 * truth


def test_trade_off_curves_help_where_delta_is_not_small() -> None:
    """All of 200 guesses on 1,000 canaries at delta 1e-3: the same claim, without a condition."""
    counts = {"canaries": 1000, "guesses": 200, "correct": 200, "delta": 1e-3}
    assert one_run_bound("one-run", **counts)[0] < 1.74  # type: ignore[arg-type]
    assert one_run_bound("one-run-f-dp", **counts)[0] > 4.1  # type: ignore[arg-type]


def test_what_the_result_says() -> None:
    scores = np.arange(100.0)
    found = audit_one_run(scores + 60, scores, delta=1e-5, guesses=[(20, 20)])
    assert found.evidence == "40 of 40 guesses on 200 canaries of one run are right"
    assert (found.tests, found.n, found.threshold, found.conditional) == (1, 40, None, "")
    assert (
        found.lower
        == found.ceiling
        == one_run_bound("one-run", canaries=200, guesses=40, correct=40, delta=1e-5)[0]
    )
    several = audit_one_run(scores + 60, scores, delta=1e-5, method="one-run-gaussian")
    assert several.tests == 5
    assert several.choice == "the best of 5 numbers of guesses fixed in advance (Bonferroni)"
    assert several.conditional == GAUSSIAN_ONLY
    assert several.mu is not None
    # a perfect attack would be right on all 200 canaries, whichever test found the most here
    assert several.ceiling == pytest.approx(
        one_run_bound(
            "one-run-gaussian", canaries=200, guesses=200, correct=200, delta=1e-5, confidence=0.99
        )[0]
    )
    assert several.n < 200


def test_the_order_of_equal_scores_knows_no_coins() -> None:
    """All scores are equal: the guesses are coins themselves, whichever side is given first."""
    equal = np.zeros(500)
    found = [
        audit_one_run(equal, equal, delta=0.0, guesses=[(250, 250)], seed=seed).lower for seed in range(40)
    ]
    assert sum(bound > 0 for bound in found) <= 8


def test_few_canaries_are_all_guessed() -> None:
    assert audit_one_run([1.0, 2.0], [0.0], delta=0.0).n == 3


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"guesses": [(3, 2)]}, ConfigError, "pair of guesses is out of range"),
        ({"guesses": [(0, 0)]}, ConfigError, "pair of guesses is out of range"),
        ({"guesses": [(-1, 2)]}, ConfigError, "pair of guesses is out of range"),
        ({"scores_in": np.zeros(50)}, DataError, "no fair coins"),
        ({"scores_out": []}, DataError, "no scores of canaries out"),
        ({"delta": 0.0, "method": "one-run-gaussian"}, ConfigError, "no finite epsilon at delta 0"),
        ({"delta": -1.0}, ConfigError, "delta is out of range"),
        ({"confidence": 0.0}, DataError, "confidence level"),
    ],
)  # fmt: skip
def test_bad_input(change: dict[str, object], error: type[Exception], words: str) -> None:
    given: dict[str, object] = {"scores_in": [1.0, 2.0], "scores_out": [0.0, 1.0], "delta": 1e-5, **change}
    with pytest.raises(error, match=words):
        audit_one_run(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(("m", "r", "v"), [(5, 6, 3), (5, 5, 6), (5, 0, 0), (5, 5, -1)])
def test_impossible_counts(m: int, r: int, v: int) -> None:
    for function in (
        lambda: one_run_p_value(1.0, 0.0, canaries=m, guesses=r, correct=v),
        lambda: one_run_bound("one-run", canaries=m, guesses=r, correct=v, delta=0.0),
        lambda: refuted_by_guesses(level_of(1.0, 0.0), canaries=m, guesses=r, correct=v, alpha=0.05),
    ):
        with pytest.raises(ConfigError, match="impossible counts of guesses"):
            function()
