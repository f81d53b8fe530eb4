"""Lower bounds on epsilon from scores of canaries that took part and of canaries that did not.

A mechanism is (epsilon, delta)-differentially private if P(S) <= exp(epsilon) Q(S) + delta for every set S of outputs,
P and Q being its distributions with and without a record, in either order. A rule "it took part if the score is above
t" is such a set: with TPR = P(S) and FPR = Q(S),

    epsilon >= ln((TPR - delta) / FPR)    and, by the complement in the other order,
    epsilon >= ln((1 - FPR - delta) / (1 - TPR)).

Both grow with TPR and fall with FPR. One lower limit of TPR and one upper limit of FPR, each wrong with probability
alpha / 2 at most, therefore give both bounds at once with confidence 1 - alpha. The same limits bound the parameter mu of
a Gaussian mechanism, whose rates obey mu = z(TPR) - z(FPR) for the best rule and exceed it for none, z being the normal
quantile.

The limits hold for a threshold that these scores did not choose. How it was chosen is part of a bound: :class:`Explicit`,
:class:`Grid`, :class:`Ranks` or :class:`Split`. They also need independent scores: one from each of n independent runs, or n
canaries that cannot influence each other. Canaries of one training run are a matter of :mod:`qflsec.accounting.one_run`.

Source:
    Jagielski, Ullman, Oprea: Auditing differentially private machine learning, NeurIPS 2020 (limits of both rates); Nasr
    et al.: Tight auditing of differentially private machine learning, USENIX Security 2023 (the Gaussian form); Dong, Roth, Su:
    Gaussian differential privacy, JRSS B 84, 2022. The formulas are derived above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qflsec.accounting.gaussian import epsilon_of_mu
from qflsec.accounting.roc import Scores, check_scores
from qflsec.accounting.statistics import check_confidence, clopper_pearson_lower, clopper_pearson_upper
from qflsec.base import ConfigError, DataError

__all__ = [
    "GAUSSIAN_ONLY",
    "AuditedEpsilon",
    "Choice",
    "Explicit",
    "Grid",
    "Method",
    "Ranks",
    "RateLimits",
    "Split",
    "audit_scores",
    "check_audit_delta",
    "rate_limits",
    "seeded_generator",
]

Method = Literal[
    "clopper-pearson", "gaussian", "one-run", "one-run-f-dp", "one-run-gaussian", "canary-states"
]

GAUSSIAN_ONLY = "only if the mechanism is Gaussian"

_FINE = 1.5
"""Ratio of neighbouring ranks among which :class:`Split` looks for a threshold: it costs time, not confidence."""


@dataclass(frozen=True, kw_only=True)
class AuditedEpsilon:
    """A lower bound on epsilon that data support, and the most that so much data could.

    Attributes:
        lower: The bound in nats; 0 says that nothing was found.
        delta: The delta that it holds at.
        confidence: A mechanism whose epsilon is below ``lower`` gives such data with probability 1 - ``confidence`` at
            most.
        method: How it was computed.
        conditional: What must hold besides for the bound to count; empty where nothing.
        ceiling: The bound that a perfect attack would reach with the same numbers and the same choice of tests: a claim
            above it cannot be refuted by this audit, however broken the mechanism is.
        choice: How the threshold, or the number of guesses, was chosen.
        tests: Among how many tests the confidence was shared.
        threshold: Scores above it were called "in"; None where there is none.
        n: How many scores, guesses or shots the test counted.
        evidence: These counts, in words.
        mu: The lower bound on the parameter of a Gaussian mechanism, where ``method`` bounds that first.
    """

    lower: float
    delta: float
    confidence: float
    method: Method
    conditional: str = ""
    ceiling: float
    choice: str
    tests: int = 1
    threshold: float | None = None
    n: int
    evidence: str
    mu: float | None = None

    def refutes(self, claimed: float) -> bool:
        """Whether a claimed epsilon lies below the bound; under a condition, only as far as that holds."""
        return claimed < self.lower


@dataclass(frozen=True, kw_only=True)
class Explicit:
    """One threshold, fixed before the scores were seen.

    Attributes:
        threshold: Scores above it are called "in".
    """

    threshold: float


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Several thresholds, fixed before the scores were seen; each test gets an equal share of the allowed failures.

    Attributes:
        thresholds: Scores above one of them are called "in" by its test.
    """

    thresholds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Thresholds at ranks of the scores of those that did not take part; no scale needs to be known beforehand.

    The threshold that k such scores exceed depends on these scores alone. For a continuous score the rate above it is
    distributed as Beta(k + 1, n - k), whose upper quantile is the Clopper-Pearson limit of k in n; ties make the rate
    smaller. The scores of the others are independent of the threshold, so that their limit holds as for a fixed one.
    The tests share the allowed failures.

    Attributes:
        counts: The numbers k; powers of two from either end where empty.
    """

    counts: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Split:
    """A random half of either side chooses the threshold, and the other half is tested.

    Attributes:
        seed: Of the division: files are often sorted, so that first and second half would not do.
    """

    seed: int = 0


Choice = Explicit | Grid | Ranks | Split


class RateLimits(NamedTuple):
    """What holds of a test's two rates together, with a stated confidence.

    Attributes:
        tpr_low: A lower limit of the true-positive rate.
        fpr_high: An upper limit of the false-positive rate.
    """

    tpr_low: float
    fpr_high: float

    def epsilon(self, delta: float) -> float:
        """The larger of both bounds, and at least 0."""
        pairs = ((self.tpr_low, self.fpr_high), (1 - self.fpr_high, 1 - self.tpr_low))
        return math.log(max(1.0, *((gain - delta) / loss for gain, loss in pairs)))

    def mu(self) -> float:
        """The bound on a Gaussian mechanism's parameter, and at least 0."""
        from scipy.special import ndtri

        return max(0.0, float(ndtri(self.tpr_low) - ndtri(self.fpr_high)))


class _Test(NamedTuple):
    """One threshold with its counts."""

    threshold: float
    hits: int
    n_in: int
    alarms: int
    n_out: int

    def limits(self, alpha: float) -> RateLimits:
        return rate_limits(self.hits, self.n_in, self.alarms, self.n_out, alpha=alpha)

    def words(self, bound: str) -> str:
        return f"{self.hits:,} of {self.n_in:,} in and {bound}{self.alarms:,} of {self.n_out:,} out lie above"


def rate_limits(hits: int, n_in: int, alarms: int, n_out: int, *, alpha: float) -> RateLimits:
    """Limits of both rates that fail together with probability ``alpha`` at most, half of it each.

    Args:
        hits: Scores above the threshold among those that took part.
        n_in: How many took part.
        alarms: Scores above it among those that did not.
        n_out: How many did not.
        alpha: One less the confidence.

    Raises:
        DataError: The counts are impossible.
    """
    return RateLimits(
        clopper_pearson_lower(hits, n_in, alpha=alpha / 2),
        clopper_pearson_upper(alarms, n_out, alpha=alpha / 2),
    )


def audit_scores(
    scores_in: Scores,
    scores_out: Scores,
    *,
    delta: float,
    confidence: float = 0.95,
    choice: Choice | None = None,
    method: Literal["clopper-pearson", "gaussian"] = "clopper-pearson",
) -> AuditedEpsilon:
    """A lower bound on epsilon from independent scores.

    Args:
        scores_in: Scores of canaries that took part, one of each independent run; higher ones say "in". ``[n_in]``.
        scores_out: Scores of canaries that did not. ``[n_out]``.
        delta: The delta of the claim; above 0 for the Gaussian form.
        confidence: Of the bound.
        choice: How the threshold is chosen; :class:`Split` with seed 0 by default.
        method: ``"clopper-pearson"`` assumes nothing; ``"gaussian"`` bounds mu and converts it, which is far
            stronger and holds for a Gaussian mechanism alone.

    Raises:
        DataError: A side has no scores, or too few to be split, or holds NaN.
        ConfigError: An argument is out of range.
    """
    check_audit_delta(delta, method)
    members, others = check_scores(scores_in, "canaries in"), check_scores(scores_out, "canaries out")
    alpha, rule = 1 - check_confidence(confidence), Split() if choice is None else choice

    def strength(limits: RateLimits) -> float:
        return limits.mu() if method == "gaussian" else limits.epsilon(delta)

    tests = _tests(rule, members, others, lambda test: strength(test.limits(alpha)))
    share = alpha / len(tests)
    best = max(tests, key=lambda test: strength(test.limits(share)))
    limits = best.limits(share)
    fewest = min(test.alarms for test in tests) if isinstance(rule, Ranks) else 0
    perfect = rate_limits(best.n_in, best.n_in, fewest, best.n_out, alpha=share)
    gaussian = method == "gaussian"
    return AuditedEpsilon(
        lower=epsilon_of_mu(limits.mu(), delta) if gaussian else limits.epsilon(delta),
        delta=delta,
        confidence=confidence,
        method=method,
        conditional=GAUSSIAN_ONLY if gaussian else "",
        ceiling=epsilon_of_mu(perfect.mu(), delta) if gaussian else perfect.epsilon(delta),
        choice=_words(rule, len(tests)),
        tests=len(tests),
        threshold=best.threshold,
        n=best.n_in + best.n_out,
        evidence=best.words("at most " if isinstance(rule, Ranks) and best.alarms else ""),
        mu=limits.mu() if gaussian else None,
    )


def check_audit_delta(delta: float, method: Method) -> None:
    """Refuse a delta that the method has no bound for.

    Raises:
        ConfigError: It is not from 0 to 1, or 0 for a Gaussian mechanism.
    """
    if not 0 <= delta < 1:
        raise ConfigError("delta is out of range", got=delta, expected="0 or more, below 1")
    if delta == 0 and method in {"gaussian", "one-run-gaussian"}:
        raise ConfigError(
            "a Gaussian mechanism has no finite epsilon at delta 0", fix="state the delta of the claim"
        )


def seeded_generator(seed: int) -> np.random.Generator:
    """The generator that divides scores, or orders equal ones.

    Raises:
        ConfigError: The seed is negative.
    """
    if seed < 0:
        raise ConfigError("seed is out of range", got=seed, expected="0 or more")
    return np.random.default_rng(seed)


def _tests(
    choice: Choice,
    members: NDArray[np.float64],
    others: NDArray[np.float64],
    strength: Callable[[_Test], float],
) -> list[_Test]:
    """The tests that share the allowed failures."""
    match choice:
        case Explicit(threshold=threshold):
            return [_count(members, others, _threshold(threshold))]
        case Grid(thresholds=thresholds):
            if not thresholds:
                raise ConfigError("the grid is empty", expected="one threshold or more")
            return [_count(members, others, _threshold(one)) for one in dict.fromkeys(thresholds)]
        case Ranks(counts=counts):
            return _rank_tests(counts or _ranks(others.size, 2.0), members, others)
        case Split(seed=seed):
            if min(members.size, others.size) < 2:
                raise DataError(
                    "one score cannot be split",
                    got=f"{members.size} in, {others.size} out",
                    expected="two or more",
                )
            rng = seeded_generator(seed)
            (first_in, rest_in), (first_out, rest_out) = _halves(members, rng), _halves(others, rng)
            candidates = [_count(first_in, first_out, one) for one in _candidates(first_in, first_out)]
            return [_count(rest_in, rest_out, max(candidates, key=strength).threshold)]


def _halves(
    side: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mixed = rng.permutation(side)
    return mixed[: side.size // 2], mixed[side.size // 2 :]


def _count(members: NDArray[np.float64], others: NDArray[np.float64], threshold: float) -> _Test:
    hits, alarms = (int((side > threshold).sum()) for side in (members, others))
    return _Test(threshold, hits, members.size, alarms, others.size)


def _rank_tests(
    counts: Sequence[int], members: NDArray[np.float64], others: NDArray[np.float64]
) -> list[_Test]:
    """Tests that count k of the others as above even where ties let fewer be: see :class:`Ranks`."""
    n, ordered = others.size, np.sort(others)
    if not all(0 <= k < n for k in counts):
        raise ConfigError(
            "a rank is out of range", got=list(counts), expected=f"0 to {n - 1}, below the scores out"
        )
    thresholds = [float(ordered[n - 1 - k]) for k in dict.fromkeys(counts)]
    return [
        _count(members, others, threshold)._replace(alarms=k)
        for k, threshold in zip(dict.fromkeys(counts), thresholds, strict=True)
    ]


def _ranks(n: int, ratio: float) -> tuple[int, ...]:
    """0 and the powers of a ratio up to the middle, from either end."""
    steps = int(math.log(max(n / 2, 1)) / math.log(ratio)) + 1
    low = {0, *(min(round(ratio**j), n - 1) for j in range(steps))}
    return tuple(sorted(low | {n - 1 - k for k in low}))


def _candidates(members: NDArray[np.float64], others: NDArray[np.float64]) -> list[float]:
    found = [np.sort(side)[list(_ranks(side.size, _FINE))] for side in (members, others)]
    return [float(threshold) for threshold in np.unique(np.concatenate(found))]


def _threshold(value: float) -> float:
    if math.isnan(value):
        raise ConfigError("the threshold is no number", got=value)
    return float(value)


def _words(choice: Choice, tests: int) -> str:
    match choice:
        case Explicit():
            return "one threshold, fixed in advance"
        case Grid():
            return f"the best of {tests} thresholds fixed in advance (Bonferroni)"
        case Ranks():
            return f"the best of {tests} ranks of the scores out (Bonferroni)"
        case Split(seed=seed):
            return f"a threshold that a random half chose, seed {seed}"
