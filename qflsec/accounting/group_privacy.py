"""What several records of one person cost: group privacy, by conversion and by the mechanism.

*By conversion.* An (epsilon, delta) guarantee for one record gives one for k records by k changes of one record each,
whatever the mechanism. It is loose: delta grows with ``exp((k - 1) epsilon)``.

*By the mechanism.* Where each of k records enters a step by itself with probability q and adds at most C to a sum with
noise of standard deviation ``z C``, the number of records that enter is binomial, and the step is dominated by the
mixture of Gaussians ``sum_m Bin(m; k, q) N(m, z^2)`` against ``N(0, z^2)``, in both directions. Without sampling it is
the Gaussian mechanism of multiplier ``z / k``. Rényi divergences of steps add up, those of different clients too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np

from qflsec.accounting.accountants import DpBound
from qflsec.base import ConfigError

__all__ = ["GroupShare", "converted", "epsilon_of_group"]

_ORDERS = (
    *(1 + part / 20 for part in range(1, 40)),
    *range(3, 64),
    *(64, 80, 96, 128, 192, 256, 384, 512),
)
_WIDTHS = 14.0


@dataclass(frozen=True, kw_only=True, order=True)
class GroupShare:
    """A group's part in the releases of one client.

    Attributes:
        records: How many of the group's units are there.
        rate: The Poisson rate at which each enters a step; 1 for no sampling.
        steps: The steps.
    """

    records: int
    rate: float = 1.0
    steps: int


def converted(epsilon: float, delta: float, k: int) -> tuple[float, float]:
    """Epsilon and delta for k units together, from those of one: ``k eps`` and ``delta sum_(i<k) exp(i eps)``.

    A delta of 1 or more guarantees nothing.

    Args:
        epsilon: For one unit.
        delta: For one unit.
        k: The number of units.

    Source:
        Vadhan: The complexity of differential privacy, 2017, lemma 2.2.
    """
    if delta == 0:
        return k * epsilon, 0.0
    from scipy.special import logsumexp

    grown = math.log(delta) + float(logsumexp(epsilon * np.arange(k)))
    return k * epsilon, math.exp(grown) if grown < 0 else math.inf


def epsilon_of_group(*, noise_multiplier: float, shares: Sequence[GroupShare], delta: float) -> DpBound:
    """Epsilon of a group of units in the Poisson-sampled Gaussian mechanism, by Rényi divergences.

    Zero-out adjacency: what all units of the group sent counts, or nothing of it does; numbers of units stay.

    Args:
        noise_multiplier: Noise standard deviation over the sensitivity of one unit; 0 gives an infinite epsilon.
        shares: The group's parts in the releases of each client, whose noises are independent.
        delta: Target delta.

    Raises:
        ConfigError: An argument is out of range.

    Source:
        Ganesh: Tight group-level DP guarantees for DP-SGD with sampling via mixture of Gaussians mechanisms,
        arXiv:2401.10294, 2024, section 4 (the dominating mixture); Balle et al.: Hypothesis testing interpretations
        and Rényi differential privacy, AISTATS 2020, theorem 21 (from Rényi to epsilon). The divergences are one-dimensional
        integrals, taken by the trapezoidal rule.
    """
    if not 0 <= noise_multiplier < math.inf:
        raise ConfigError("noise_multiplier is out of range", got=noise_multiplier, expected="0 or more")
    if not 0 < delta < 1:
        raise ConfigError("delta is out of range", got=delta, expected="between 0 and 1")
    for share in shares:
        if share.records < 0 or share.steps < 0 or not 0 < share.rate <= 1:
            raise ConfigError("a share of a group is out of range", got=share)
    real = [share for share in shares if share.records and share.steps]
    epsilon = math.inf if real else 0.0
    for order in _ORDERS if real and noise_multiplier else ():
        spent = sum(
            share.steps * _divergence(order, noise_multiplier, share.records, share.rate) for share in real
        )
        if spent > epsilon:
            break  # divergences only grow with the order; to stop gives an upper bound in any case
        conversion = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        epsilon = min(epsilon, max(0.0, spent + conversion))
    sampled = any(share.rate < 1 for share in real)
    return DpBound(
        epsilon=epsilon,
        delta=delta,
        accountant="RDP of groups",
        version=f"qflsec {version('qflsec')}",
        sampling="Poisson" if sampled else "none",
    )


@lru_cache(maxsize=65536)
def _divergence(order: float, noise: float, records: int, rate: float) -> float:
    """The larger Rényi divergence between the mixture and the Gaussian without the group, of the two directions."""
    from scipy.special import gammaln, logsumexp

    if rate == 1:
        return order * records**2 / (2 * noise**2)
    step = min(noise / 8, noise**2 / (2 * records))
    x = np.arange(-_WIDTHS * noise, order * records + _WIDTHS * noise, step)
    log_density = -(x**2) / (2 * noise**2) - math.log(noise) - math.log(2 * math.pi) / 2
    m = np.arange(records + 1)
    log_weights = (
        gammaln(records + 1)
        - gammaln(m + 1)
        - gammaln(records - m + 1)
        + m * math.log(rate)
        + (records - m) * math.log1p(-rate)
    )
    log_ratio = np.full_like(x, -np.inf)
    for count, weight in zip(m, log_weights, strict=True):
        np.logaddexp(log_ratio, weight + (2 * count * x - count**2) / (2 * noise**2), out=log_ratio)
    both = [
        float(logsumexp(log_density + power * log_ratio)) + math.log(step) for power in (order, 1 - order)
    ]
    return max(0.0, *both) / (order - 1)
