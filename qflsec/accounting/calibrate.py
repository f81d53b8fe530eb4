"""The noise that a target epsilon needs, by any of the accountants."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from qflsec.accounting.accountants import epsilon_bound
from qflsec.base import ConfigError

__all__ = ["calibrate_noise"]


def calibrate_noise(
    *,
    target_epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: str = "rdp",
    tolerance: float = 1e-3,
) -> float:
    """The least noise multiplier whose epsilon bound does not exceed the target, to a relative tolerance.

    Args:
        target_epsilon: The budget.
        delta: Its delta.
        sample_rate: Probability that a unit takes part in a step.
        steps: Noisy releases.
        accountant: As for :func:`epsilon_bound`.
        tolerance: How far above the least multiplier the result may lie, relatively.

    Returns:
        A noise multiplier; its own bound is at most ``target_epsilon``. It is 0 if nothing is released.

    Raises:
        ConfigError: An argument is out of range, or no noise that the accountant can tell reaches the target.
    """
    if not 0 < target_epsilon < math.inf:
        raise ConfigError("target_epsilon must be positive and finite", got=target_epsilon)
    if not 1e-9 <= tolerance < math.inf:
        raise ConfigError("tolerance is out of range", got=tolerance, expected="at least 1e-9")

    @lru_cache(maxsize=64)
    def spent(noise: float) -> float:
        return epsilon_bound(
            accountant, noise_multiplier=noise, sample_rate=sample_rate, steps=steps, delta=delta
        ).epsilon

    if spent(0.0) <= target_epsilon:
        return 0.0
    start = 1.0
    if accountant == "tightest":
        # Rényi's bound is quick, and its noise is enough for the tightest bound too.
        start = calibrate_noise(
            target_epsilon=target_epsilon,
            delta=delta,
            sample_rate=sample_rate,
            steps=steps,
            accountant="rdp",
            tolerance=tolerance,
        )
    return _search(spent, target_epsilon, _bracket(spent, target_epsilon, accountant, start), tolerance)


def _bracket(
    spent: Callable[[float], float], target: float, accountant: str, start: float
) -> tuple[float, float]:
    """Two noise multipliers not far apart: the smaller overspends, the larger does not."""
    high = start
    while spent(high) > target:
        high *= 2
        if high > 1e5:
            raise ConfigError(
                f"accountant {accountant!r} cannot certify so small an epsilon",
                got=target,
                expected="more than the accountant's own error (0.01 for 'prv')",
                fix="raise target_epsilon or use accountant 'tightest'",
            )
    factor = 2 if accountant == "rdp" or start == 1 else 1.25
    while spent(high / factor) <= target:
        high /= factor
    return high / factor, high


def _search(
    spent: Callable[[float], float], target: float, bracket: tuple[float, float], tolerance: float
) -> float:
    """Close in on the least multiplier that does not overspend; epsilon is nearly a power of it."""
    low, high = bracket
    above, below = spent(low), spent(high)
    side = 1.0
    while high / low > 1 + tolerance:
        middle = math.sqrt(low * high)
        if math.isfinite(above) and below > 0:
            slope = math.log(above / target) / math.log(above / below)
            # A little to either side of the guess in turn, so that both ends come close.
            guess = low * (high / low) ** slope * (1 + side * tolerance / 3)
            if low * (1 + tolerance / 9) < guess < high / (1 + tolerance / 9):
                middle = guess
        value = spent(middle)
        if value <= target:
            high, below, side = middle, value, -1.0
        else:
            low, above, side = middle, value, 1.0
    return high
