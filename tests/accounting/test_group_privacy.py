"""Groups of records: the conversion by hand, the mechanism against exact deltas and other accountants."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, stats

from qflsec.accounting.accountants import epsilon_rdp
from qflsec.accounting.group_privacy import GroupShare, converted, epsilon_of_group
from qflsec.base import ConfigError

Density = Callable[[float], float]


def epsilon(z: float, *shares: tuple[int, float, int], delta: float = 1e-5) -> float:
    parts = [GroupShare(records=k, rate=q, steps=steps) for k, q, steps in shares]
    return epsilon_of_group(noise_multiplier=z, shares=parts, delta=delta).epsilon


def test_the_conversion_by_hand() -> None:
    """Three changes of one record each: P <= e^e (e^e (e^e Q + d) + d) + d."""
    assert converted(0.5, 1e-6, 3) == pytest.approx((1.5, 1e-6 * (1 + math.exp(0.5) + math.exp(1.0))))
    assert converted(0.0, 1e-6, 4) == pytest.approx((0.0, 4e-6))
    assert converted(2.0, 0.0, 5) == (10.0, 0.0)
    assert converted(2.0, 1e-5, 1) == pytest.approx((2.0, 1e-5))
    assert converted(9.0, 1e-5, 5)[1] == math.inf


@pytest.mark.parametrize(
    ("z", "q", "steps"), [(1.0, 0.01, 1000), (2.0, 0.1, 1000), (4.0, 0.25, 20), (1.0, 1.0, 5)]
)
def test_a_group_of_one_agrees_with_opacus(z: float, q: float, steps: int) -> None:
    other = epsilon_rdp(noise_multiplier=z, sample_rate=q, steps=steps, delta=1e-5).epsilon
    assert epsilon(z, (1, q, steps)) == pytest.approx(other, rel=0.02)


@pytest.mark.parametrize(("z", "q", "k"), [(2.0, 0.1, 3), (1.0, 0.02, 4), (4.0, 0.3, 8), (0.7, 0.5, 2)])
def test_the_exact_delta_of_one_step_keeps_the_bound_in_both_directions(z: float, q: float, k: int) -> None:
    """The hockey-stick integral of the two densities, record by record binomial: an oracle without Rényi."""
    bound = epsilon(z, (k, q, 1), delta=1e-3)

    def mixture(x: float) -> float:
        counts = np.arange(k + 1)
        return float((stats.binom.pmf(counts, k, q) * stats.norm.pdf(x, counts, z)).sum())

    def plain(x: float) -> float:
        return float(stats.norm.pdf(x, 0, z))

    edges = np.linspace(-12 * z, k + 12 * z, 400)
    for above, below in ((mixture, plain), (plain, mixture)):

        def over(x: float, above: Density = above, below: Density = below) -> float:
            return max(0.0, above(x) - math.exp(bound) * below(x))

        exact = sum(integrate.quad(over, a, b)[0] for a, b in itertools.pairwise(edges))
        assert exact <= 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize(
    ("z", "q", "steps", "k", "exact"),
    [
        (2.0, 0.01, 500, 3, 1.4448),
        (2.0, 0.1, 50, 2, 3.6183),
        (4.0, 0.05, 200, 5, 4.0091),
        (6.0, 0.3, 30, 8, 11.8432),
    ],
)
def test_it_lies_above_the_privacy_loss_distribution_and_not_far(
    z: float, q: float, steps: int, k: int, exact: float
) -> None:
    """The mixture of Gaussians in dp-accounting 0.6.0, discretised to 1e-3, at delta 1e-5."""
    assert exact <= epsilon(z, (k, q, steps)) <= 1.15 * exact
    one = epsilon_rdp(noise_multiplier=z, sample_rate=q, steps=steps, delta=1e-5).epsilon
    if k > 2:
        assert k * one < exact, "k times a record's epsilon at the same delta is no bound"


def test_the_table_is_what_dp_accounting_says() -> None:
    pytest.importorskip("dp_accounting")
    from dp_accounting.pld import privacy_loss_distribution

    pmf = list(stats.binom.pmf(range(4), 3, 0.01))
    found = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        2.0, [0, 1, 2, 3], pmf, value_discretization_interval=1e-3
    )
    assert found.self_compose(500).get_epsilon_for_delta(1e-5) == pytest.approx(1.4448, abs=2e-4)


def test_without_sampling_it_is_a_gaussian_of_that_many_records() -> None:
    assert epsilon(3.0, (3, 1.0, 10)) == pytest.approx(epsilon(1.0, (1, 1.0, 10)))
    # two clients' noises are independent: squares add, so that (3, 4) is 5
    assert epsilon(5.0, (3, 1.0, 10), (4, 1.0, 10)) == pytest.approx(epsilon(1.0, (1, 1.0, 10)))


def test_more_of_anything_costs_more() -> None:
    base = epsilon(2.0, (2, 0.1, 50))
    for other in ([(3, 0.1, 50)], [(2, 0.2, 50)], [(2, 0.1, 60)], [(2, 0.1, 50), (1, 0.1, 50)]):
        assert epsilon(2.0, *other) > base
    assert epsilon(3.0, (2, 0.1, 50)) < base


def test_the_trivial_groups() -> None:
    assert epsilon(0.0, (1, 0.1, 1)) == math.inf
    assert epsilon(1.0) == epsilon(1.0, (0, 0.5, 3)) == epsilon(0.0, (2, 0.5, 0)) == 0.0
    for wrong in ({"z": -1.0}, {"delta": 0.0}):
        with pytest.raises(ConfigError, match="out of range"):
            epsilon(**{"z": 1.0, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="share of a group"):
        epsilon(1.0, (2, 0.0, 3))
