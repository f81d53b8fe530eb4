"""Errors among bits that nobody compared, from a random sample of the others: the exact hypergeometric bound.

A population of ``n_test + n_key`` bits holds some number of errors, and which of the bits are tested is drawn at
random. The bound holds for every number of errors seen, none included, where approximations by a normal law or by
an entropy do not.

Everything is done with logarithms. The lower tail of the hypergeometric law is its last term times the sum of a
series whose quotients only fall (the law is log-concave), so that a geometric series bounds it from above: by less
than 1 % in the logarithm wherever the bound is used, and with no sum over the counts.
"""

from __future__ import annotations

import math

__all__ = ["log_tail", "unseen_errors"]


def log_tail(seen: int, unseen: int, n_test: int, n_key: int) -> float:
    """Upper bound on ln Pr[at most ``seen`` errors are tested], where ``seen + unseen`` errors exist in all.

    Args:
        seen: Errors among the tested bits.
        unseen: Errors among the others.
        n_test: Bits that are tested, a random sample of all.
        n_key: The other bits.
    """
    if unseen > n_key:
        return -math.inf
    quotient = seen * (n_key - unseen) / ((unseen + 1) * (n_test - seen + 1))
    if quotient >= 1.0:
        return 0.0  # below its mode the law gives no bound
    last = (
        _log_choices(n_test, seen) + _log_choices(n_key, unseen) - _log_choices(n_test + n_key, seen + unseen)
    )
    return min(0.0, last - math.log1p(-quotient))


def unseen_errors(seen: int, n_test: int, n_key: int, *, log_probability: float) -> int:
    """The least number of errors among the untested bits that the sample excludes.

    Whatever the true number, the probability that the untested bits hold this many or more is at most
    ``exp(log_probability)``; ``n_key + 1`` where nothing is excluded. It grows with ``seen``.

    Args:
        seen: Errors among the tested bits, or more.
        n_test: Bits that are tested, a random sample of all.
        n_key: The other bits.
        log_probability: Natural logarithm of the probability with which the bound may fail.
    """
    low, high = -1, n_key + 1
    step = seen + math.ceil(-log_probability)
    while high - low > 1:  # doubling steps from below, then bisection
        middle = min(low + step, (low + high) // 2) if high > n_key else (low + high) // 2
        if log_tail(seen, middle, n_test, n_key) <= log_probability:
            high = middle
        else:
            low, step = middle, 2 * step
    return high


def _log_choices(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
