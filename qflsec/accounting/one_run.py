"""Lower bounds on epsilon from many canaries of one training run.

An independent fair coin decides for each of m canaries whether it takes part. Somebody who sees the output, but no coin,
names r canaries and says of each whether it took part; v of these guesses are right. Neither theorem holds where exactly
half of the canaries was drawn, or where scores were computed with knowledge of the coins.

**(epsilon, delta).** A guess about one canary of a mechanism with (epsilon, 0) is right with probability q = exp(epsilon) /
(1 + exp(epsilon)) at most, whatever the other guesses were, so that v is dominated by Bin(r, q); delta adds 2 m delta
max_i P[v > Bin(r, q) >= v - i] / i to the tail (Steinke et al., appendix D).

**A trade-off curve.** Let p_j be the probability of j right guesses. Take the event that the guess on canary i is "b" and
that c - 1 others or more are right. It depends on the output and on the other coins. With the coin at b it says that the guess on
i is right and c or more are; with the other coin, that it is wrong and c - 1 or more are right. If no test has a power above
F(level), F concave, the first probability is at most F(the second). Averaged over b and over all canaries,

    sum_{j >= c} (j / m) p_j  <=  F( sum_{j >= c - 1} ((r - j) / m) p_j )    for every c.

The largest tail sum_{j >= v} p_j that these allow is a p-value. Write N_c for the tail and R_c for the left side. Given
N_c and R_c, the least N_{c-1} is the larger of N_c and of what R_c <= F(r N_{c-1} / m - R_{c-1}) demands, where R_{c-1} = R_c +
(c - 1) (N_{c-1} - N_c) / m. It grows with N_c and with R_c - (c - 1) N_c / m = sum_{j >= c} N_j / m, which is least if
all of the tail lies at v. Going down from there by the least steps, a tail alpha is possible exactly if N_0 <= 1 at the
end. Tests compare this with a linear program over p.

The curve of (epsilon, delta) is F(x) = min(1, delta + exp(epsilon) x, 1 - exp(-epsilon) (1 - delta - x)); that of a
Gaussian mechanism is F(x) = Phi(mu + z(x)).

Source:
    Steinke, Nasr, Jagielski: Privacy auditing with one (1) training run, NeurIPS 2023, arXiv:2305.08846; Mahloujifar, Melis,
    Chaudhuri: Auditing f-differential privacy in one run, arXiv:2410.22235 (a recursion of this kind). The second is derived
    above; the first is tested against exact tails of mechanisms that attain their delta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from qflsec.accounting.audited import GAUSSIAN_ONLY, AuditedEpsilon, check_audit_delta, seeded_generator
from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.accounting.roc import Scores, check_scores
from qflsec.accounting.statistics import check_confidence
from qflsec.base import ConfigError, DataError

__all__ = [
    "OneRunMethod",
    "audit_one_run",
    "one_run_bound",
    "one_run_p_value",
    "refuted_by_guesses",
]

OneRunMethod = Literal["one-run", "one-run-f-dp", "one-run-gaussian"]

_NORMAL = NormalDist()
_FEWEST = 8
"""Guesses of the smallest test that is tried by default."""
_IMPOSSIBLE = 1e-9


def one_run_p_value(epsilon: float, delta: float, *, canaries: int, guesses: int, correct: int) -> float:
    """At most the probability of so many right guesses under (epsilon, delta)-differential privacy.

    Args:
        epsilon: 0 or more.
        delta: From 0 to 1.
        canaries: m, each included by a fair coin of its own.
        guesses: r, of these canaries.
        correct: v.

    Raises:
        ConfigError: The counts are impossible.

    Source:
        Steinke, Nasr, Jagielski, arXiv:2305.08846, appendix D.
    """
    from scipy.special import betainc, expit

    _check_counts(canaries, guesses, correct)
    if correct == 0:
        return 1.0
    at_least = np.arange(correct, -1, -1, dtype=np.float64)
    # P[Bin(r, q) >= k] is the incomplete beta function; for k = 0 it is 1
    tails = np.ones(correct + 1)
    tails[:-1] = betainc(at_least[:-1], guesses - at_least[:-1] + 1, expit(epsilon))
    if delta == 0:
        return float(tails[0])
    share = float(((tails[1:] - tails[0]) / np.arange(1, correct + 1)).max())
    return min(1.0, float(tails[0]) + 2 * canaries * delta * share)


def refuted_by_guesses(
    least_level: Callable[[float], float], *, canaries: int, guesses: int, correct: int, alpha: float
) -> bool:
    """Whether so many right guesses have probability below ``alpha`` under a trade-off curve.

    Args:
        least_level: The inverse of F: the least level of a test with a given power. Non-decreasing.
        canaries: m, each included by a fair coin of its own.
        guesses: r, of these canaries.
        correct: v.
        alpha: The level.

    Raises:
        ConfigError: The counts are impossible.
    """
    _check_counts(canaries, guesses, correct)
    right, wrong = alpha * correct / canaries, alpha * (guesses - correct) / canaries
    for c in range(correct - 1, -1, -1):
        level = least_level(right)
        if level <= wrong:
            break  # nothing moves from here on
        right += (level - wrong) * c / (guesses - c)
        wrong = level
        if right + wrong > guesses / canaries:
            return True
    return right + wrong > guesses / canaries


def one_run_bound(
    method: OneRunMethod,
    *,
    canaries: int,
    guesses: int,
    correct: int,
    delta: float,
    confidence: float = 0.95,
) -> tuple[float, float | None]:
    """The bound on epsilon from counts whose number of guesses was fixed in advance.

    Args:
        method: ``"one-run"``; ``"one-run-f-dp"``, the same claim by trade-off curves, which is stronger where m delta is not
            small; ``"one-run-gaussian"``, for Gaussian mechanisms alone.
        canaries: m, each included by a fair coin of its own.
        guesses: r, of these canaries.
        correct: v.
        delta: The delta of the claim.
        confidence: Of the bound.

    Returns:
        Epsilon in nats, rounded down by 1e-7 at most, and for ``"one-run-gaussian"`` the bound on mu.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_audit_delta(delta, method)
    _check_counts(canaries, guesses, correct)
    alpha = 1 - check_confidence(confidence)

    def refuted(at: float) -> bool:
        if method == "one-run":
            return one_run_p_value(at, delta, canaries=canaries, guesses=guesses, correct=correct) <= alpha
        level = _level_of_mu(at) if method == "one-run-gaussian" else _level_of_epsilon(at, delta)
        return refuted_by_guesses(level, canaries=canaries, guesses=guesses, correct=correct, alpha=alpha)

    found = _largest(refuted)
    return (epsilon_of_mu(found, delta), found) if method == "one-run-gaussian" else (found, None)


def audit_one_run(
    scores_in: Scores,
    scores_out: Scores,
    *,
    delta: float,
    confidence: float = 0.95,
    guesses: Sequence[tuple[int, int]] = (),
    method: OneRunMethod = "one-run",
    seed: int = 0,
) -> AuditedEpsilon:
    """A lower bound on epsilon from the scores of one run's canaries.

    Args:
        scores_in: Scores of the canaries whose coin included them, higher ones say "in". ``[n_in]``.
        scores_out: Scores of the others. ``[n_out]``, m in all.
        delta: The delta of the claim.
        confidence: Of the bound.
        guesses: Pairs (k, l), fixed before the scores were seen: the k highest are called "in" and the l lowest "out".
            Several pairs share the allowed failures. By default halves, quarters, eighths and so on of all canaries.
        method: As for :func:`one_run_bound`.
        seed: Of the order among equal scores, which must not depend on the coins; not to be chosen by the result.

    Raises:
        DataError: A side has no scores, or holds NaN, or no fair coins divide canaries so.
        ConfigError: An argument is out of range.
    """
    members, others = check_scores(scores_in, "canaries in"), check_scores(scores_out, "canaries out")
    m = members.size + others.size
    _check_coins(members.size, m)
    pairs = list(dict.fromkeys(guesses)) or _halvings(m)
    for k, low in pairs:
        if not (k >= 0 and low >= 0 and 1 <= k + low <= m):
            raise ConfigError(
                "a pair of guesses is out of range", got=(k, low), expected=f"1 to {m} together"
            )
    taken = np.concatenate([np.ones(members.size, bool), np.zeros(others.size, bool)])
    mixed = seeded_generator(seed).permutation(m)
    taken, scores = taken[mixed], np.concatenate([members, others])[mixed]
    taken = taken[np.argsort(-scores, kind="stable")]
    share = 1 - (1 - check_confidence(confidence)) / len(pairs)

    def bound(pair: tuple[int, int], correct: int) -> tuple[float, float | None]:
        return one_run_bound(
            method, canaries=m, guesses=sum(pair), correct=correct, delta=delta, confidence=share
        )

    right = {pair: int(taken[: pair[0]].sum() + (~taken[m - pair[1] :]).sum()) for pair in pairs}
    found = {pair: bound(pair, correct) for pair, correct in right.items()}
    best = max(pairs, key=lambda pair: found[pair][0])
    lower, mu = found[best]
    gaussian = method == "one-run-gaussian"
    return AuditedEpsilon(
        lower=lower,
        delta=delta,
        confidence=confidence,
        method=method,
        conditional=GAUSSIAN_ONLY if gaussian else "",
        ceiling=max(bound(pair, sum(pair))[0] for pair in pairs),
        choice=(
            "one number of guesses, fixed in advance"
            if len(pairs) == 1
            else f"the best of {len(pairs)} numbers of guesses fixed in advance (Bonferroni)"
        ),
        tests=len(pairs),
        n=sum(best),
        evidence=f"{right[best]:,} of {sum(best):,} guesses on {m:,} canaries of one run are right",
        mu=mu,
    )


def _level_of_epsilon(epsilon: float, delta: float) -> Callable[[float], float]:
    up, down = math.exp(min(epsilon, 700.0)), math.exp(-epsilon)
    return lambda power: max(0.0, (power - delta) * down, 1 - delta - up * (1 - power))


def _level_of_mu(mu: float) -> Callable[[float], float]:
    def level(power: float) -> float:
        return power if not 0 < power < 1 else _NORMAL.cdf(_NORMAL.inv_cdf(power) - mu)

    return level


def _largest(refuted: Callable[[float], bool]) -> float:
    """A refuted parameter next to one that is not; what a larger one would allow, a smaller one forbids."""
    if not refuted(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while refuted(high):
        low, high = high, 2 * high
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _halvings(m: int) -> list[tuple[int, int]]:
    """As many guesses "in" as "out": half of the canaries each, then a quarter and so on."""
    halves = [m // 2**power // 2 for power in range(m.bit_length())]
    return [(half, half) for half in dict.fromkeys(halves) if 2 * half >= _FEWEST] or [(m - m // 2, m // 2)]


def _check_coins(included: int, m: int) -> None:
    """Refuse what fair coins give once in a thousand million audits."""
    from scipy.special import bdtr

    if 2 * bdtr(min(included, m - included), m, 0.5) < _IMPOSSIBLE:
        raise DataError(
            "no fair coins divide canaries so",
            got=f"{included:,} of {m:,} in",
            expected="each in with probability 1/2, independently",
            fix="include canaries by coins of their own, or audit independent runs",
        )


def _check_counts(canaries: int, guesses: int, correct: int) -> None:
    if not 0 <= correct <= guesses <= canaries or guesses < 1:
        raise ConfigError(
            "impossible counts of guesses",
            got=f"{correct} right of {guesses} on {canaries} canaries",
            expected="0 <= right <= guesses <= canaries, one guess or more",
        )
