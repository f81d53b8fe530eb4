"""Rényi differential privacy of the Skellam mechanism: integer noise that stays Skellam under addition.

The noise is the difference of two Poisson variables; ``variance`` is that of the difference, in the units of the
integers that are released. Sensitivities are those of the integers, after rounding.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from qflsec.base import ConfigError

__all__ = [
    "SkellamBound",
    "calibrate_skellam",
    "rounded_sensitivities",
    "skellam_epsilon",
    "skellam_rdp",
    "skellam_tail",
]

_ORDERS = (*range(2, 65), 72, 80, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
_LARGEST = 2**60


@dataclass(frozen=True, kw_only=True)
class SkellamBound:
    """A proved upper bound on epsilon.

    Attributes:
        epsilon: The bound; infinite where nothing is guaranteed.
        delta: The delta it holds at.
        order: The order of Rényi divergence that gave it.
        accountant: What computed it.
        version: The library that turned Rényi divergence into epsilon.
        kind: The kind of bound.
    """

    epsilon: float
    delta: float
    order: int
    accountant: str = "RDP of the Skellam mechanism"
    version: str = ""
    kind: Literal["upper bound"] = "upper bound"


def skellam_rdp(order: int, *, variance: float, l1: float, l2: float) -> float:
    """The Rényi divergence of one release, at an integer order above 1.

    Args:
        order: The order.
        variance: Of the noise in each coordinate.
        l1: The largest L1 norm of what one unit adds.
        l2: Its largest L2 norm.

    Source:
        Agarwal, Kairouz and Liu: The Skellam mechanism for differentially private federated learning, NeurIPS
        2021, arXiv:2110.04995, theorem 3.5 and corollary 3.6. The tests compare it with the divergence itself.
    """
    if order != int(order) or order < 2:
        raise ConfigError("the order must be a whole number above 1", got=order)
    if not variance > 0:
        return math.inf
    main = order * l2**2 / (2 * variance)
    return main + min(((2 * order - 1) * l2**2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance))


def skellam_epsilon(*, variance: float, l1: float, l2: float, steps: int, delta: float) -> SkellamBound:
    """Epsilon of several releases.

    Args:
        variance: Of the noise in each coordinate of a release.
        l1: The largest L1 norm of what one unit adds to a release.
        l2: Its largest L2 norm.
        steps: The number of releases.
        delta: Target delta.

    Raises:
        ConfigError: An argument is out of range.
    """
    from qflsec.accounting.opacus_arithmetic import rdp

    if not (0 < delta < 1 and steps >= 1 and l1 >= 0 and l2 >= 0):
        raise ConfigError(
            "an argument is out of range", got=f"delta={delta}, steps={steps}, l1={l1}, l2={l2}"
        )
    if not variance > 0:
        return SkellamBound(epsilon=math.inf, delta=delta, order=0)
    spent = [steps * skellam_rdp(order, variance=variance, l1=l1, l2=l2) for order in _ORDERS]
    with warnings.catch_warnings():
        # an optimum at the edge of the orders is a looser bound, not a wrong one
        warnings.filterwarnings("ignore", message="Optimal order is the", category=UserWarning)
        epsilon, order = rdp.get_privacy_spent(orders=list(_ORDERS), rdp=spent, delta=delta)
    return SkellamBound(
        epsilon=max(0.0, float(epsilon)),
        delta=delta,
        order=int(order),
        version=f"opacus {version('opacus')}",
    )


def calibrate_skellam(*, target_epsilon: float, l1: float, l2: float, steps: int, delta: float) -> int:
    """The least whole variance whose bound does not exceed the target.

    Raises:
        ConfigError: An argument is out of range, or no variance reaches the target.
    """
    if not 0 < target_epsilon < math.inf:
        raise ConfigError("target_epsilon must be positive and finite", got=target_epsilon)

    def spent(variance: int) -> float:
        return skellam_epsilon(variance=variance, l1=l1, l2=l2, steps=steps, delta=delta).epsilon

    high = 1
    while spent(high) > target_epsilon:
        high *= 2
        if high > _LARGEST:
            raise ConfigError("no noise reaches so small an epsilon", got=target_epsilon)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if spent(middle) <= target_epsilon else (middle, high)
    return high


def rounded_sensitivities(*, scaled_norm: float, n_values: int, beta: float) -> tuple[float, float]:
    """The largest L1 and L2 norm of a vector after conditional stochastic rounding.

    Args:
        scaled_norm: The largest L2 norm before rounding, in steps of the grid.
        n_values: The number of coordinates.
        beta: The largest probability that a rounding is drawn again.

    Source:
        Kairouz, Liu and Steinke: The distributed discrete Gaussian mechanism, ICML 2021, arXiv:2102.06387,
        proposition 22 (L2); integers have an L1 norm of at most the square of the L2 norm.
    """
    root = math.sqrt(n_values)
    always = (scaled_norm + root) ** 2
    mostly = scaled_norm**2 + n_values / 4 + math.sqrt(2 * math.log(1 / beta)) * (scaled_norm + root / 2)
    squared = math.floor(min(always, mostly))  # the square of an integer vector's norm is an integer
    return min(math.sqrt(n_values * squared), float(squared)), math.sqrt(squared)


def skellam_tail(variance: float, distance: float) -> float:
    """A bound on the probability that one coordinate of the noise is ``distance`` or more above zero.

    Source:
        Chernoff's bound with the moment generating function ``exp(variance (cosh s - 1))``.
    """
    if distance <= 0:
        return 1.0
    # hypot - variance without cancellation
    gap = distance * distance / (math.hypot(distance, variance) + variance)
    return math.exp(gap - distance * math.asinh(distance / variance))
