"""The Skellam mechanism: the bound on Rényi divergence against the divergence itself, and what follows from it."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from scipy import stats

from qflsec.accounting.skellam import (
    calibrate_skellam,
    rounded_sensitivities,
    skellam_epsilon,
    skellam_rdp,
    skellam_tail,
)
from qflsec.base import ConfigError


def log_probabilities(variance: float, size: int) -> list[mpmath.mpf]:
    """Logarithms of the Skellam probabilities of 0 to ``size``, by Miller's backward recurrence in 60 digits."""
    mpmath.mp.dps = 60
    x, ratio = mpmath.mpf(variance), mpmath.mpf(0)
    start = size + int(40 * math.sqrt(variance)) + 400
    ratios = [mpmath.mpf(0)] * (start + 1)
    for k in range(start, 0, -1):
        ratio = 1 / (2 * k / x + ratio)
        ratios[k - 1] = ratio
    logs = [mpmath.log(mpmath.besseli(0, x)) - x]
    for k in range(size):
        logs.append(logs[-1] + mpmath.log(ratios[k]))
    return logs


def renyi(order: int, variance: float, shift: int, *, flipped: bool = False) -> float:
    """The Rényi divergence between a Skellam variable and the same shifted, by summation."""
    width = int(30 * math.sqrt(variance)) + order * shift * 4 + 60
    logs = log_probabilities(variance, width + shift)
    total = mpmath.mpf(0)
    for k in range(-width, width + 1):
        p, q = logs[abs(k)], logs[abs(k - shift)]
        if flipped:
            p, q = q, p
        total += mpmath.exp(order * p + (1 - order) * q)
    return float(mpmath.log(total) / (order - 1))


def test_the_oracle_is_right_itself() -> None:
    logs = log_probabilities(7.0, 20)
    expected = stats.skellam.pmf(np.arange(21), 3.5, 3.5)
    assert np.allclose([float(mpmath.exp(v)) for v in logs], expected, rtol=1e-9)


@pytest.mark.parametrize("variance", [1.0, 4.0, 25.0, 400.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3, 8, 32])
def test_the_bound_holds_in_one_dimension(variance: float, shift: int, order: int) -> None:
    """Agarwal, Kairouz and Liu 2021, theorem 3.5: at or above the divergence, and close where noise is large."""
    direct = max(renyi(order, variance, shift), renyi(order, variance, shift, flipped=True))
    bound = skellam_rdp(order, variance=variance, l1=shift, l2=shift)
    assert direct <= bound * (1 + 1e-12)
    if variance >= 400 and order * shift <= math.sqrt(variance):
        assert bound <= 1.05 * direct
        assert direct >= order * shift**2 / (2 * variance) * 0.95, "it approaches the Gaussian"


@pytest.mark.parametrize(
    ("order", "variance", "l1", "l2", "expected"),
    [
        (2, 10.0, 30.0, 5.0, 2.5 + (3 * 25 + 6 * 30) / 400),
        (3, 10.0, 12.0, 2.0, 0.6 + (5 * 4 + 6 * 12) / 400),
        (16, 400.0, 90.0, 10.0, 2.0 + (31 * 100 + 6 * 90) / (4 * 400**2)),
        (2, 0.5, 2.0, 1.0, 2.0 + 3 * 2 / 1.0),
        (8, 1.0, 1.0, 1.0, 4.0 + 3 * 1 / 2.0),
    ],
)
def test_both_terms_of_the_published_bound(
    order: int, variance: float, l1: float, l2: float, expected: float
) -> None:
    """Theorem 3.5 term by term, computed by hand: in one dimension alone its term in the L1 norm is slack, which no
    comparison with the divergence would miss."""
    assert skellam_rdp(order, variance=variance, l1=l1, l2=l2) == pytest.approx(expected, rel=1e-12)


def test_a_tenth_less_than_the_bound_would_not_hold() -> None:
    """A control of the comparison: with a tenth more variance than there is, the bound is below the divergence."""
    for order, shift in ((2, 1), (3, 2), (8, 2)):
        direct = renyi(order, 400.0, shift)
        assert skellam_rdp(order, variance=1.1 * 400.0, l1=shift, l2=shift) < direct


def test_epsilon_bounds_the_exact_trade_off_in_one_dimension() -> None:
    """The exact delta at the claimed epsilon, by summation for one release, is below the claimed delta."""
    for variance, shift, delta in ((100.0, 5, 1e-5), (2500.0, 20, 1e-6), (30.0, 1, 1e-3)):
        bound = skellam_epsilon(variance=variance, l1=shift, l2=shift, steps=1, delta=delta)
        width = int(20 * math.sqrt(variance)) + 100
        k = np.arange(-width, width + 1)
        p = stats.skellam.pmf(k, variance / 2, variance / 2)
        q = stats.skellam.pmf(k - shift, variance / 2, variance / 2)
        exact = float(np.maximum(p - math.exp(bound.epsilon) * q, 0).sum())
        assert exact <= delta
        assert exact >= delta / 100, "and not far below it"
        assert bound.kind == "upper bound"
        assert "opacus" in bound.version


def test_it_approaches_the_gaussian_mechanism() -> None:
    """At high variance within 1 % of the RDP accountant of the Gaussian mechanism without sampling."""
    from qflsec.accounting.accountants import epsilon_rdp

    for multiplier, steps in ((1.0, 1), (4.0, 10)):
        skellam = skellam_epsilon(
            variance=(multiplier * 1e4) ** 2, l1=1e4 * math.sqrt(37), l2=1e4, steps=steps, delta=1e-5
        )
        gaussian = epsilon_rdp(noise_multiplier=multiplier, sample_rate=1.0, steps=steps, delta=1e-5)
        assert skellam.epsilon == pytest.approx(gaussian.epsilon, rel=0.01)


@pytest.mark.parametrize("target", [0.5, 2.0, 8.0])
def test_calibration_is_tight(target: float) -> None:
    given = {"l1": 900.0, "l2": 300.0, "steps": 5, "delta": 1e-5}
    variance = calibrate_skellam(target_epsilon=target, **given)
    assert skellam_epsilon(variance=variance, **given).epsilon <= target
    assert skellam_epsilon(variance=variance - 1, **given).epsilon > target


def test_rounding_can_lengthen_a_vector_by_no_more_than_the_sensitivities() -> None:
    """By enumeration over all roundings of vectors at the clip norm in three dimensions."""
    import itertools

    rng = np.random.Generator(np.random.PCG64(1))
    for scale in (0.5, 2.0, 9.0):
        l1, l2 = rounded_sensitivities(scaled_norm=scale, n_values=3, beta=1e-9)
        for _ in range(50):
            x = rng.normal(size=3)
            x *= scale / np.linalg.norm(x)
            for up in itertools.product((0, 1), repeat=3):
                v = np.floor(x) + up
                assert np.linalg.norm(v) <= l2 + 1e-9
                assert np.abs(v).sum() <= l1 + 1e-9
    always = rounded_sensitivities(scaled_norm=100.0, n_values=10_000, beta=1e-300)[1]
    mostly = rounded_sensitivities(scaled_norm=100.0, n_values=10_000, beta=0.6)[1]
    assert mostly < 0.6 * (100 + math.sqrt(10_000)), "conditional rounding makes many coordinates affordable"
    assert mostly < always


def test_the_tail_bounds_the_tail() -> None:
    for variance, distance in ((4.0, 6), (100.0, 45), (1e4, 500)):
        exact = float(stats.skellam.sf(distance - 1, variance / 2, variance / 2))
        assert exact <= skellam_tail(variance, distance) <= 40 * exact
    assert skellam_tail(4.0, 0) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"delta": 0.0}, {"delta": 1.0}, {"steps": 0}, {"l2": -1.0}],
)
def test_arguments_that_are_refused(wrong: dict[str, float]) -> None:
    given = {"variance": 10.0, "l1": 1.0, "l2": 1.0, "steps": 1, "delta": 1e-5, **wrong}
    with pytest.raises(ConfigError):
        skellam_epsilon(**given)  # type: ignore[arg-type]


def test_no_noise_gives_no_epsilon() -> None:
    assert skellam_epsilon(variance=0.0, l1=1.0, l2=1.0, steps=1, delta=1e-5).epsilon == math.inf
    with pytest.raises(ConfigError, match="whole number"):
        skellam_rdp(1, variance=1.0, l1=1.0, l2=1.0)
    with pytest.raises(ConfigError, match="positive"):
        calibrate_skellam(target_epsilon=0.0, l1=1.0, l2=1.0, steps=1, delta=1e-5)
