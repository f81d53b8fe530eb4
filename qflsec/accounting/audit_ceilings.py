"""What the best attack could prove with so many canaries: no audit refutes a claim above that."""

from __future__ import annotations

from typing import cast

from qflsec.accounting.audited import Method, check_audit_delta, rate_limits
from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.accounting.one_run import OneRunMethod, one_run_bound
from qflsec.accounting.statistics import check_confidence

__all__ = ["audit_ceiling"]


def audit_ceiling(
    method: Method,
    n: int,
    *,
    delta: float,
    confidence: float = 0.95,
    tests: int = 1,
    canaries: int | None = None,
) -> float:
    """The lower bound on epsilon that an attack without a single error reaches.

    Args:
        method: How the bound is computed.
        n: Scores in and as many out that are tested, or shots on either state; for the methods of one run, guesses.
        delta: The delta of the claim.
        confidence: Of the bound.
        tests: Among how many tests the confidence is shared.
        canaries: Of one run; as many as guesses by default.

    Raises:
        DataError: ``n`` is below 1.
        ConfigError: Another argument is out of range.
    """
    check_audit_delta(delta, method)
    alpha = (1 - check_confidence(confidence)) / tests
    if method.startswith("one-run"):
        return one_run_bound(
            cast("OneRunMethod", method),
            canaries=n if canaries is None else canaries,
            guesses=n,
            correct=n,
            delta=delta,
            confidence=1 - alpha,
        )[0]
    limits = rate_limits(n, n, 0, n, alpha=alpha)
    return epsilon_of_mu(limits.mu(), delta) if method == "gaussian" else limits.epsilon(delta)
