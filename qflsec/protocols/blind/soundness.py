"""How surely tests catch a server that corrupts some of its rounds.

The model: the server corrupts a number of rounds of its choice without knowing which are tests, each
corrupted test fails with probability at least 1 / colours, and the client accepts if at most ``threshold``
tests fail. The number of corrupted tests is then hypergeometric, and the worst number of corrupted rounds is
found exactly. That every strategy of a server comes down to this model is the theorem of the sources.

Source:
    Leichtle, Music, Kashefi and Ollivier, Verifying BQP computations on noisy devices with minimal overhead,
    PRX Quantum 2, 040302, 2021 (tests on the same graph, majority of the computations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qflsec.base import finite
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.errors import BlindError

__all__ = [
    "RoundCounts",
    "acceptance",
    "accepted_harm",
    "completeness",
    "harmless_rounds",
    "plan_rounds",
    "plan_tests",
    "soundness_error",
]

Ints = npt.NDArray[np.int64]

NEGLIGIBLE = 1e-30
"""An acceptance below which the search ends, and which it returns."""
MOST_TESTS = 20_000
"""Tests beyond which the planner gives up."""


@finite
@dataclass(frozen=True, kw_only=True)
class RoundCounts:
    """Rounds on one graph.

    Attributes:
        shots: Computation rounds of each row.
        tests: Test rounds.
        threshold: The largest number of failed tests that is accepted.
        colours: Colours of the graph.
        rows: Rows of angles that share the rounds, each with its own estimate.
    """

    shots: int
    tests: int
    threshold: int
    colours: int
    rows: int = 1

    def __post_init__(self) -> None:
        """Refuse counts that are no counts."""
        for name, least in (("shots", 1), ("tests", 0), ("threshold", 0), ("colours", 1), ("rows", 1)):
            if getattr(self, name) < least:
                raise BlindError(f"bad {name}", got=getattr(self, name), expected=f"at least {least}")

    @property
    def rounds(self) -> int:
        """All rounds."""
        return self.tests + self.rows * self.shots


def acceptance(counts: RoundCounts, attacked: int) -> float:
    """The probability that ``attacked`` corrupted rounds are accepted."""
    tests, weights = _corrupted_tests(counts, attacked)
    return float((_accepted(counts)[tests] * weights).sum())


def accepted_harm(counts: RoundCounts, attacked: int, harmless: int) -> float:
    """The probability that ``attacked`` corrupted rounds are accepted and hit some row more than ``harmless`` times.

    Exact for one row. Several rows are joined by the union bound, and how many of the corrupted rounds fall
    on one of them by Hoeffding's bound in terms of the relative entropy, so that it is an upper bound.

    Source:
        Hoeffding, Probability inequalities for sums of bounded random variables, JASA 58, 13, 1963,
        eq. (2.1) and section 6 (sampling without replacement).
    """
    from scipy.special import rel_entr

    tests, weights = _corrupted_tests(counts, attacked)
    rest = attacked - tests
    if counts.rows == 1:
        harmed: Floats = (rest > harmless).astype(np.float64)
    else:
        share = rest / (counts.rows * counts.shots)
        hit = min((harmless + 1) / counts.shots, 1.0)
        entropy = rel_entr(hit, share) + rel_entr(1 - hit, 1 - share)
        harmed = np.where(share >= hit, 1.0, np.exp(-counts.shots * np.clip(entropy, 0, None)))
        harmed = np.where((rest > harmless) & (harmless < counts.shots), harmed, 0.0)
    return float(min(1.0, counts.rows * (weights * _accepted(counts)[tests] * harmed).sum()))


@lru_cache(maxsize=64)
def _accepted(counts: RoundCounts) -> Floats:
    """The probability of acceptance for each number of corrupted tests."""
    from scipy.stats import binom

    found: Floats = np.asarray(
        binom.cdf(counts.threshold, np.arange(counts.tests + 1), 1 / counts.colours), dtype=np.float64
    )
    return found


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Floats:
    from scipy.special import gammaln

    found: Floats = gammaln(np.arange(1, n + 2, dtype=np.float64))
    return found


def _corrupted_tests(counts: RoundCounts, attacked: int) -> tuple[Ints, Floats]:
    """The hypergeometric distribution of the corrupted tests, but for tails of less than exp(-70)."""
    n, t = counts.rounds, counts.tests
    mean, reach = attacked * t / n, math.sqrt(35 * attacked) + 1
    low = max(0, attacked - (n - t), math.floor(mean - reach))
    tests = np.arange(low, min(attacked, t, math.ceil(mean + reach)) + 1)
    log = _log_factorials(n)

    def choose(size: int, k: Ints | int) -> Floats:
        ways: Floats = log[size] - log[k] - log[size - k]
        return ways

    return tests, np.exp(choose(t, tests) + choose(n - t, attacked - tests) - choose(n, attacked))


@lru_cache(maxsize=256)
def soundness_error(counts: RoundCounts, *, harmless: int) -> float:
    """The largest :func:`accepted_harm` over the number of corrupted rounds.

    Args:
        counts: The rounds.
        harmless: Corrupted computation rounds of one row that the result bears: for a majority of d rounds,
            ceil(d / 2) - 1; for an average, the fraction that the bias bound allows.
    """
    worst = 0.0
    for attacked in range(harmless + 1, counts.rounds + 1):
        # acceptance only falls with the number of corrupted rounds: nothing worse can follow
        most = min(1.0, counts.rows * acceptance(counts, attacked))
        if most <= max(worst, NEGLIGIBLE):
            return max(worst, most)
        worst = max(worst, accepted_harm(counts, attacked, harmless))
    return worst


def completeness(counts: RoundCounts, failure_rate: float) -> float:
    """The probability that an honest server is accepted whose tests fail at a rate."""
    from scipy.stats import binom

    return float(binom.cdf(counts.threshold, counts.tests, failure_rate))


def plan_tests(
    *,
    shots: int,
    colours: int,
    corrupted_fraction: float,
    target: float,
    failure_rate: float = 0.0,
    reject_honest: float = 0.01,
    rows: int = 1,
) -> RoundCounts:
    """Tests and threshold for a target soundness.

    The threshold is the smallest that an honest server with this failure rate passes; the number of tests is
    found by doubling and bisection, and the plan returned meets the target by :func:`soundness_error`.

    Args:
        shots: Computation rounds of each row.
        colours: Colours of the graph.
        corrupted_fraction: The fraction of a row's rounds that may be corrupted; 1/2 for a majority.
        target: The probability that more than that is accepted.
        failure_rate: At which rate an honest but noisy server fails tests.
        reject_honest: The probability with which that server may be rejected.
        rows: Rows of angles that share the tests.

    Raises:
        BlindError: A target out of range, or noise that no number of tests can tell from an attack: the rate
            must be below corrupted_fraction / colours.
    """
    from scipy.stats import binom

    _check_target(colours, corrupted_fraction, target, failure_rate, reject_honest)
    harmless = harmless_rounds(shots, corrupted_fraction)

    def plan(tests: int) -> RoundCounts:
        allowed = max(int(binom.ppf(1 - reject_honest, tests, failure_rate)), 0)
        return RoundCounts(shots=shots, tests=tests, threshold=allowed, colours=colours, rows=rows)

    def good(tests: int) -> bool:
        return soundness_error(plan(tests), harmless=harmless) <= target

    high = 16
    while not good(high):
        high *= 2
        if high > MOST_TESTS:
            raise BlindError(
                "no plan within the tests that the planner tries",
                got=f"{MOST_TESTS} tests",
                fix="allow more corrupted rounds, a larger target, or more shots",
            )
    low = high // 2
    while high - low > max(1, high // 64):
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle, high)
    return plan(high)


def _check_target(
    colours: int, corrupted_fraction: float, target: float, failure_rate: float, reject_honest: float
) -> None:
    for name, value in (("target", target), ("reject_honest", reject_honest)):
        if not 0 < value < 1:
            raise BlindError(f"bad {name}", got=value, expected="between 0 and 1")
    if not 0 < corrupted_fraction <= 0.5:
        raise BlindError("bad corrupted_fraction", got=corrupted_fraction, expected="above 0, at most 1/2")
    if not 0 <= failure_rate < corrupted_fraction / colours:
        raise BlindError(
            "this noise hides an attack",
            got=failure_rate,
            expected=f"a failure rate below corrupted_fraction / colours = {corrupted_fraction / colours:.3g}",
        )


def plan_rounds(
    *,
    colours: int,
    target: float,
    corrupted_fraction: float = 0.5,
    failure_rate: float = 0.0,
    reject_honest: float = 0.01,
    most_shots: int = 4096,
) -> RoundCounts:
    """Shots, tests and threshold for a target soundness, with few rounds in all.

    Numbers of shots from 1 to ``most_shots`` in steps of a factor of about 1.4 are planned by
    :func:`plan_tests`, and the one with the fewest rounds is taken.

    Raises:
        BlindError: As :func:`plan_tests`, or no number of shots has a plan.
    """
    found: list[RoundCounts] = []
    refused: BlindError | None = None
    for shots in sorted({round(2 ** (k / 2)) for k in range(2 * most_shots.bit_length() - 1)}):
        if shots > most_shots or (found and shots >= min(plan.rounds for plan in found)):
            break
        try:
            found.append(
                plan_tests(
                    shots=shots,
                    colours=colours,
                    corrupted_fraction=corrupted_fraction,
                    target=target,
                    failure_rate=failure_rate,
                    reject_honest=reject_honest,
                )
            )
        except BlindError as error:
            refused = error
    if not found:
        assert refused is not None
        raise refused
    return min(found, key=lambda plan: plan.rounds)


def harmless_rounds(shots: int, corrupted_fraction: float) -> int:
    """Corrupted rounds that stay strictly below a half, or within a smaller fraction, of the shots."""
    if corrupted_fraction >= 0.5:
        return math.ceil(shots / 2) - 1
    return math.floor(corrupted_fraction * shots + 1e-9)
