"""The finite-key length for single photons against its paper, and against formulas that are wrong."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError
from qflsec.protocols.bb84.asymptotic import binary_entropy, shor_preskill_rate
from qflsec.protocols.bb84.key_length import (
    leak_bits,
    sampling_deviation,
    tomamichel_length,
    variable_length_unproved,
)

TABLE_II = [
    (10**4, 0.01, 11.7), (10**4, 0.025, 6.8), (10**5, 0.01, 30.4),
    (10**5, 0.025, 21.5), (10**6, 0.01, 47.8), (10**6, 0.025, 35.7),
]  # fmt: skip


def test_one_point_of_the_formula_by_hand() -> None:
    """Tomamichel et al. 2012, theorem 2, at n = k = 1e5, Q_tol = 2 %: exact values."""
    assert sampling_deviation(10**5, 10**5, 1e-10 / 4) == pytest.approx(0.022096330, abs=1e-9)
    leak = 1.1e5 * binary_entropy(0.02)
    assert (
        tomamichel_length(n=10**5, k=10**5, q_tol=0.02, leak_ec=leak, eps_sec=1e-10, eps_cor=1e-15) == 59142
    )


def test_the_deviation_is_serflings() -> None:
    """Serfling 1974: the tail exp(-2 n k^2 mu^2 / ((n + k)(k + 1))) equals eps^2 at mu(eps)."""
    n, k, eps = 3000, 700, 1e-4
    mu = sampling_deviation(n, k, eps)
    assert math.exp(-2 * n * k**2 * mu**2 / ((n + k) * (k + 1))) == pytest.approx(eps**2, rel=1e-9)


def test_sampling_without_replacement_keeps_the_bound() -> None:
    """The exact hypergeometric tail stays below eps^2, whatever the number of errors."""
    n, k, eps = 300, 100, 0.05
    mu = sampling_deviation(n, k, eps)
    worst = max(
        sum(
            stats.hypergeom.pmf(seen, n + k, errors, k)
            for seen in range(min(k, errors) + 1)
            if 0 <= errors - seen <= n and (errors - seen) / n >= seen / k + mu
        )
        for errors in range(0, n + k, 10)
    )
    assert 0 < worst < eps**2


def best_rate(n: int, qber: float, *, exact_robustness: bool) -> float:
    """(1 - eps_rob) l / (sqrt n + sqrt k)^2 in per cent, the best over k and Q_tol."""
    best = 0.0
    for k in (int(n * share) for share in (0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)):
        for q_tol in (qber + 0.001 * step for step in range(1, 50)):
            length = n / 2
            for _ in range(25):
                eps_sec = 1e-14 * max(length, 1)
                leak = 1.1 * n * binary_entropy(q_tol)
                length = tomamichel_length(
                    n=n, k=k, q_tol=q_tol, leak_ec=leak, eps_sec=eps_sec, eps_cor=1e-10
                )
            abort = stats.binom.sf(math.floor(k * q_tol), k, qber)
            if not exact_robustness:
                abort = math.exp(-2 * k * (q_tol - qber) ** 2)
            best = max(best, 100 * (1 - abort) * length / (math.sqrt(n) + math.sqrt(k)) ** 2)
    return best


@pytest.mark.parametrize(("n", "qber", "published"), TABLE_II)
def test_table_ii_lies_between_two_bounds_on_the_abort_probability(
    n: int, qber: float, published: float
) -> None:
    """Tomamichel et al. 2012, table II (expected rate in %, eps_sec/l = 1e-14, f = 1.1).

    The paper does not state how it bounds the probability of an honest abort. With Hoeffding's bound our rate
    is lower than the published one, with the exact binomial tail it is higher: in all six entries.
    """
    assert best_rate(n, qber, exact_robustness=False) < published < best_rate(n, qber, exact_robustness=True)


def test_long_keys_approach_the_asymptotic_rate() -> None:
    n, k, q = 10**13, 10**11, 0.03
    length = tomamichel_length(n=n, k=k, q_tol=q, leak_ec=n * binary_entropy(q), eps_sec=1e-10, eps_cor=1e-15)
    assert length / n == pytest.approx(shor_preskill_rate(q), abs=2e-4)


def qkdpy_rate(qber: float, f_ec: float) -> float:
    """The asymptote of qkdpy 0.8.0's finite_key.py: error correction is taken off twice."""
    return 1.0 - 2.0 * binary_entropy(qber) - f_ec * binary_entropy(qber)


def test_a_published_tools_formula_differs_negative_control() -> None:
    """qkdpy 0.8.0 ends at Q = 5.7 % where the theorem gives key up to 9.8 % (f = 1.16)."""
    n, k, q = 10**10, 10**9, 0.075
    leak = 1.16 * n * binary_entropy(q)
    ours = tomamichel_length(n=n, k=k, q_tol=q, leak_ec=leak, eps_sec=1e-10, eps_cor=1e-15) / n
    assert ours > 0.15
    assert qkdpy_rate(q, 1.16) < 0
    assert qkdpy_rate(0.056, 1.16) > 0 > qkdpy_rate(0.066, 1.16)


def test_natural_logarithms_where_bits_are_meant_would_be_another_number() -> None:
    good = tomamichel_length(n=10**4, k=10**4, q_tol=0.01, leak_ec=0, eps_sec=1e-10, eps_cor=1e-15)
    mu = sampling_deviation(10**4, 10**4, 1e-10 / 4)
    constant = 10**4 * (1 - binary_entropy(0.01 + mu)) - good
    assert constant == pytest.approx(math.log2(2 / (1e-20 * 1e-15)), abs=1)
    assert abs(constant - math.log(2 / (1e-20 * 1e-15))) > 30


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(100, 10**7), k=st.integers(100, 10**7), q=st.floats(0.0, 0.11), leak=st.integers(0, 10**6)
)
def test_the_length_is_monotone(n: int, k: int, q: float, leak: int) -> None:
    def length(**changed: float) -> int:
        given_values = {"n": n, "k": k, "q_tol": q, "leak_ec": leak, "eps_sec": 1e-10, "eps_cor": 1e-15}
        return tomamichel_length(**{**given_values, **changed})

    here = length()
    assert here < n
    assert length(k=2 * k) >= here
    assert length(q_tol=q + 0.01) <= here
    assert length(leak_ec=leak + 7) in (here - 7, here - 8, here - 6)
    assert length(eps_sec=1e-12) <= here
    assert length(eps_cor=1e-18) <= here


def test_both_parties_messages_or_a_named_analysis() -> None:
    assert leak_bits(100, 90, "both-parties") == 190
    assert leak_bits(100, 90, "error-pattern-public") == 100


def test_variable_length_is_no_claim_and_never_negative() -> None:
    assert "not a claim" in (variable_length_unproved.__doc__ or "")
    unproved = variable_length_unproved(n=1000, k=1000, observed=0.2, leak_ec=0, eps_sec=1e-10, eps_cor=1e-15)
    assert unproved == 0
    assert variable_length_unproved(n=10, k=10, observed=1.0, leak_ec=0, eps_sec=1e-10, eps_cor=1e-15) == 0


@pytest.mark.parametrize(
    "wrong", [{"eps_sec": 0.0}, {"eps_sec": 2.0}, {"eps_cor": 0.0}, {"q_tol": 0.5}, {"q_tol": -0.1}, {"k": 0}]
)
def test_impossible_arguments_are_refused(wrong: dict[str, float]) -> None:
    arguments = {"n": 100, "k": 100, "q_tol": 0.02, "leak_ec": 0.0, "eps_sec": 1e-10, "eps_cor": 1e-15}
    with pytest.raises(ConfigError):
        tomamichel_length(**{**arguments, **wrong})
