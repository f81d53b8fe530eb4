"""Exact sampling from secret bytes: every distribution against its probabilities. Each test: false alarm 1e-6."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats

from qflsec.base import OsSecrets, SeededSecrets
from qflsec.protocols.secagg.ddp.skellam_noise import draw_skellam, sampling_distance, skellam_table
from qflsec.protocols.secagg.he.sampling import (
    SecretIntegers,
    centred_binomial,
    discrete_gaussian,
    ternary,
    uniform_words,
)


def chi_square(drawn: Any, support: Any, probabilities: Any) -> float:
    """The p-value, cells of small expectation put together."""
    counts = np.array([np.count_nonzero(drawn == k) for k in support], dtype=float)
    expected = np.array(probabilities) * len(drawn)
    rare = expected < 10
    counts = np.append(counts[~rare], len(drawn) - counts[~rare].sum())
    expected = np.append(expected[~rare], len(drawn) - expected[~rare].sum())
    if expected[-1] < 10:
        assert counts[-1] < 60
        counts, expected = counts[:-1], expected[:-1] * counts[:-1].sum() / expected[:-1].sum()
    return float(stats.chisquare(counts, expected).pvalue)


def test_integers_and_coins() -> None:
    source = SecretIntegers(SeededSecrets(1, "integers"))
    for n in (1, 2, 7, 256, 300):
        drawn = np.array([source.below(n) for _ in range(4000)])
        assert chi_square(drawn, range(n), [1 / n] * n) > 1e-6 if n > 1 else bool((drawn == 0).all())
    for top, bottom in ((1, 3), (7, 2), (0, 1), (1, 1)):
        heads = sum(source.exponential_coin(top, bottom) for _ in range(8000))
        assert stats.binomtest(heads, 8000, math.exp(-top / bottom)).pvalue > 1e-6


@pytest.mark.parametrize("variance", [Fraction(1, 4), Fraction(4), Fraction(1234, 10)])
def test_discrete_gaussian(variance: Fraction) -> None:
    drawn = np.array(discrete_gaussian(SecretIntegers(SeededSecrets(2, "gaussian")), variance, 6000))
    k = np.arange(-60, 61)
    weights = np.exp(-(k**2) / (2 * float(variance)))
    assert chi_square(drawn, k, weights / weights.sum()) > 1e-6


def test_errors_and_secrets_of_the_own_scheme() -> None:
    secrets = SeededSecrets(3, "x")
    drawn = centred_binomial(secrets, 20_000)
    k = np.arange(-21, 22)
    assert chi_square(drawn, k, stats.binom.pmf(k + 21, 42, 0.5)) > 1e-6
    assert chi_square(ternary(secrets, 20_000), [-1, 0, 1], [1 / 3] * 3) > 1e-6
    words = np.array(uniform_words(secrets, 20_000, 5))
    assert chi_square(words, range(-16, 16), [1 / 32] * 32) > 1e-6


@pytest.mark.parametrize("variance", [1, 9, 200])
def test_skellam_draws(variance: int) -> None:
    drawn = draw_skellam(SeededSecrets(4, "skellam"), variance, 20_000)
    k = np.arange(-150, 151)
    assert chi_square(drawn, k, stats.skellam.pmf(k, variance / 2, variance / 2)) > 1e-6


@pytest.mark.parametrize("variance", [1, 12345, 10**7])
def test_the_table_is_skellam_to_35_digits(variance: int) -> None:
    """Against Bessel functions in 60 digits, at a few magnitudes; the whole is exactly one."""
    mpmath.mp.dps = 60
    table = skellam_table(variance)
    assert table.cumulative[-1] == 1 << 124
    assert table.distance < 1e-31
    spread = math.isqrt(variance)
    for m in {0, 1, spread, 3 * spread}:
        below = table.cumulative[m - 1] if m else 0
        found = mpmath.mpf(table.cumulative[m] - below) / (1 << 124)
        expected = (1 if m == 0 else 2) * mpmath.besseli(m, variance) * mpmath.exp(-variance)
        assert abs(found - expected) < mpmath.mpf(2) ** -106  # the first entry takes the rounding of all


def test_ties_of_the_leading_bits_are_decided_by_further_bits() -> None:
    """Words whose leading bits equal a boundary: both sides of it are reached, by the bits that follow."""
    table = skellam_table(9)

    class Chosen:
        seeded = True

        def __init__(self, tail: int) -> None:
            self.tail, self.first = tail, True

        def draw(self, n_bytes: int) -> bytes:
            if self.first:
                self.first = False
                return (int(table.leading[1]) << 2).to_bytes(8, "little")
            return (self.tail << 2).to_bytes(8, "little")

    below = int(table.cumulative[1]) & ((1 << 62) - 1)
    assert table.draw(Chosen(0), 1).tolist() == [1]
    assert table.draw(Chosen(below - 1), 1).tolist() == [1]
    assert table.draw(Chosen(below), 1).tolist() == [2]


def test_large_variances_are_sums_of_smaller_ones() -> None:
    """Kolmogorov-Smirnov against the normal law that it approaches."""
    variance = 3 * 10**8 + 1
    drawn = draw_skellam(SeededSecrets(5, "large"), variance, 4000)
    assert stats.kstest(drawn / math.sqrt(variance), "norm").pvalue > 1e-6
    assert sampling_distance(variance) < 1e-30
    assert draw_skellam(OsSecrets(), 0, 3).tolist() == [0, 0, 0]
