"""Lower bounds on the epsilon of a quantum channel from counts on two canary states.

A channel is (epsilon, delta)-differentially private at trace distance tau if for all states rho, sigma within tau and
every effect M

    tr(M E(rho)) <= exp(epsilon) tr(M E(sigma)) + delta.

Two states are prepared many times, sent through the channel and measured by one effect. Their counts limit p = tr(M E(rho))
from below and q = tr(M E(sigma)) from above, and ln((p - delta) / q) is a bound as for any two distributions
(:mod:`qflsec.accounting.audited`), if the states lie within tau.

Canaries further apart, at distance T > tau, are easier to tell and say something of tau as well: with s = tau / T the
state (1 - s) sigma + s rho lies at tau from sigma, and channels are linear, so that its effect has the probability
(1 - s) q + s p. Hence

    epsilon >= ln(1 - s + (s p - delta) / q),    and the same with 1 - q for p and 1 - p for q.

The first grows with p and falls with q wherever it exceeds 0, so that the limits of both rates may be put in. Mixed states
have to be adjacent for that: it says nothing of a claim for pure states only.
"""

from __future__ import annotations

import math

from qflsec.accounting.audited import AuditedEpsilon, RateLimits, check_audit_delta, rate_limits
from qflsec.accounting.statistics import check_confidence
from qflsec.base import ConfigError

__all__ = ["MIXED_ONLY", "audit_canary_states"]

MIXED_ONLY = "only if mixed states are adjacent too"


def audit_canary_states(
    clicks: tuple[int, int],
    shots: tuple[int, int],
    *,
    distance: float,
    tau: float | None = None,
    delta: float = 0.0,
    confidence: float = 0.95,
    effects: int = 1,
) -> AuditedEpsilon:
    """A lower bound on epsilon of one use of a channel, from one two-outcome measurement on two states.

    Args:
        clicks: How often the outcome came, for rho and for sigma; order them so that rho's share is the larger.
        shots: How often each was prepared and measured.
        distance: The trace distance of the states before the channel, as prepared; above 0, at most 1.
        tau: The distance that the claim is about; ``distance`` by default.
        delta: The delta of the claim.
        confidence: Of the bound.
        effects: Among how many outcomes, measurements and pairs of states these counts are the best: they share the
            allowed failures.

    Raises:
        DataError: The counts are impossible.
        ConfigError: An argument is out of range.
    """
    check_audit_delta(delta, "canary-states")
    tau = distance if tau is None else tau
    if not (0 < distance <= 1 and 0 < tau <= 1):
        raise ConfigError("no trace distance", got=f"{distance}, tau {tau}", expected="above 0, at most 1")
    if effects < 1:
        raise ConfigError("effects is out of range", got=effects, expected="1 or more")
    alpha, share = (1 - check_confidence(confidence)) / effects, min(1.0, tau / distance)
    limits = rate_limits(clicks[0], shots[0], clicks[1], shots[1], alpha=alpha)
    perfect = rate_limits(shots[0], shots[0], 0, shots[1], alpha=alpha)
    return AuditedEpsilon(
        lower=_bound(limits, share, delta),
        delta=delta,
        confidence=confidence,
        method="canary-states",
        conditional=MIXED_ONLY if share < 1 else "",
        ceiling=_bound(perfect, share, delta),
        choice="one effect, fixed in advance"
        if effects == 1
        else f"the best of {effects} effects (Bonferroni)",
        tests=effects,
        n=sum(shots),
        evidence=(
            f"{clicks[0]:,} of {shots[0]:,} and {clicks[1]:,} of {shots[1]:,} shots at trace distance {distance:g}, "
            f"for a claim at {tau:g}"
        ),
    )


def _bound(limits: RateLimits, share: float, delta: float) -> float:
    """Of the effect and of its complement, the larger; at ``share`` 1 that of the states themselves."""
    pairs = ((limits.tpr_low, limits.fpr_high), (1 - limits.fpr_high, 1 - limits.tpr_low))
    ratios = [1 - share + (share * p - delta) / q for p, q in pairs]
    return math.log(max(1.0, *ratios))
