"""Epsilon of a Gaussian mechanism, from its parameter mu."""

from __future__ import annotations

import math

from qflsec.base import ConfigError

__all__ = ["epsilon_of_mu"]


def epsilon_of_mu(mu: float, delta: float) -> float:
    """The least epsilon at delta of noise whose standard deviation is the sensitivity over ``mu``.

    Args:
        mu: 0 or more.
        delta: Between 0 and 1, both excluded.

    Returns:
        The root of delta = Phi(mu / 2 - epsilon / mu) - exp(epsilon) Phi(-mu / 2 - epsilon / mu), in nats, to 1e-10; 0
        where delta is above the right side at 0.

    Raises:
        ConfigError: An argument is out of range.

    Source:
        Balle, Wang: Improving the Gaussian mechanism for differential privacy, ICML 2018, theorem 8; Dong, Roth, Su: Gaussian
        differential privacy, JRSS B 84, 2022, corollary 1.
    """
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    if not 0 <= mu < math.inf:
        raise ConfigError("mu is out of range", got=mu, expected="0 or more, finite")
    if not 0 < delta < 1:
        raise ConfigError("delta is out of range", got=delta, expected="between 0 and 1")

    def excess(epsilon: float) -> float:
        # by logarithms: both terms underflow long before their quotient does
        gain = float(log_ndtr(mu / 2 - epsilon / mu))
        loss = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
        return gain + math.log(-math.expm1(min(loss - gain, -1e-300))) - math.log(delta)

    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-10))
