"""Point estimates with intervals: proportions, and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from qflsec.base import DataError, Score

__all__ = [
    "MOST_SEEDS",
    "Estimate",
    "Interval",
    "bounded_mean",
    "check_confidence",
    "clopper_pearson",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "mean_by_chance",
    "mean_over_seeds",
    "seeds_to_decide",
]

Interval = tuple[float, float]

MOST_SEEDS = 10_000
"""Beyond so many seeds nobody is told a number."""

# Student's 0.975 quantiles for 1 to 30 degrees of freedom, as SciPy gives them: whoever only looks at results of a few
# seeds need not import it.
_STUDENT = (
    12.706204736174694, 4.302652729749462, 3.1824463052837078, 2.7764451051977934, 2.5705818356363146,
    2.4469118511449786, 2.364624251592784, 2.306004135204166, 2.262157162798205, 2.228138851986274,
    2.200985160091639, 2.1788128296672284, 2.1603686564627913, 2.144786687917804, 2.131449545559776,
    2.1199052992212546, 2.1098155778333156, 2.1009220402410382, 2.0930240544083087, 2.085963447265864,
    2.0796138447276795, 2.0738730679040254, 2.0686576104190486, 2.0638985616280245, 2.0595385527532972,
    2.0555294386428735, 2.0518305164802846, 2.0484071417952454, 2.045229642132703, 2.0422724563012378,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A point estimate and its two-sided interval.

    Attributes:
        value: The point estimate.
        low: Lower end; NaN where the data allow no interval.
        high: Upper end; NaN where the data allow no interval.
        n: What the interval was taken over (records of one run, or seeds of one cell).
        confidence: The coverage of the interval.
    """

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95

    def affine(self, scale: float, offset: float) -> Self:
        """The estimate of ``scale * quantity + offset``: an AUC's advantage is ``affine(2, -1)``."""
        ends = (scale * self.low + offset, scale * self.high + offset)
        low, high = ends if scale >= 0 else ends[::-1]
        return replace(self, value=scale * self.value + offset, low=low, high=high)

    def score(self, *, name: str, baseline: float, ideal: float, unit: str = "1") -> Score:
        """The estimate as a score of the report; only for 95 % intervals, which scores promise."""
        assert self.confidence == 0.95
        return Score(
            name=name,
            value=self.value,
            low=self.low,
            high=self.high,
            n=self.n,
            baseline=baseline,
            ideal=ideal,
            unit=unit,
        )


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """A proportion with its exact interval: it covers at least as often as it says.

    For the records of one run only; seeds are not records and are never pooled as if they were.

    Raises:
        DataError: The counts are impossible.

    Source:
        Clopper, Pearson: The use of confidence or fiducial limits, Biometrika 26, 1934.
    """
    alpha = (1 - check_confidence(confidence)) / 2
    return Estimate(
        value=successes / trials if trials > 0 else math.nan,
        low=clopper_pearson_lower(successes, trials, alpha=alpha),
        high=clopper_pearson_upper(successes, trials, alpha=alpha),
        n=trials,
        confidence=confidence,
    )


def clopper_pearson_lower(successes: int, trials: int, *, alpha: float) -> float:
    """The one-sided lower limit that the true proportion undercuts with probability ``alpha`` at most."""
    from scipy.special import betaincinv

    _check_counts(successes, trials)
    return 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, alpha))


def clopper_pearson_upper(successes: int, trials: int, *, alpha: float) -> float:
    """The one-sided upper limit that the true proportion exceeds with probability ``alpha`` at most."""
    from scipy.special import betainccinv

    _check_counts(successes, trials)
    return 1.0 if successes == trials else float(betainccinv(successes + 1, trials - successes, alpha))


def bounded_mean(values: Sequence[float], *, confidence: float = 0.95) -> Estimate:
    """The mean of independent values from -1 to 1, with an interval that covers for every number of them.

    It has a width where all values are equal, unlike an interval by their standard deviation. Of two such intervals,
    each allowed half of the failures, it is what they share: one by relative entropy, one by the sample's variance.

    Source:
        Hoeffding: Probability inequalities for sums of bounded random variables, JASA 58, 1963, eq. (2.1),
        solved for the mean on either side; Maurer, Pontil: Empirical Bernstein bounds and sample variance
        penalization, COLT 2009, arXiv:0907.3740, theorem 4.
    """
    from scipy.optimize import brentq

    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not (np.abs(sample) <= 1 + 1e-9).all():
        raise DataError("these are no values from -1 to 1", got=f"{sample.size} values")
    mean, n, alpha = float(sample.mean()), sample.size, 1 - check_confidence(confidence)
    share, spent = min(1.0, max(0.0, (1 + mean) / 2)), math.log(4 / alpha) / n

    def end(side: float) -> float:
        if share == side or _divergence(share, side) <= spent:
            return side
        return float(brentq(lambda at: _divergence(share, at) - spent, share, side))

    low, high = 2 * end(0.0) - 1, 2 * end(1.0) - 1
    if n > 1:
        weight = math.log(8 / alpha)
        half = math.sqrt(2 * float(sample.var(ddof=1)) * weight / n) + 14 * weight / (3 * (n - 1))
        low, high = max(low, mean - half), min(high, mean + half)
    return Estimate(value=mean, low=low, high=high, n=n, confidence=confidence)


def mean_by_chance(value: float, n: int) -> float:
    """At most the probability that ``n`` independent values from -1 to 1 with mean 0 average ``value`` or more.

    Source:
        Hoeffding, as :func:`bounded_mean`.
    """
    return math.exp(-n * _divergence((1 + min(value, 1.0)) / 2, 0.5)) if value > 0 else 1.0


def _divergence(share: float, of: float) -> float:
    """The relative entropy of two coins, in nats."""
    from scipy.special import rel_entr

    return float(rel_entr(share, of) + rel_entr(1 - share, 1 - of))


def mean_over_seeds(
    values: Sequence[float],
    *,
    within: Interval = (-math.inf, math.inf),
    records: Sequence[Interval] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """The mean over independent seeds with its interval; one seed allows none (NaN).

    Seeds are the outer level, records the inner one. Student's interval takes the spread between the seeds'
    values, in which the noise of their records is already. Seeds that agree by chance, as counts near 0 and 1
    often do, make it too short, down to a point. Where each value has an interval over its own records, the
    result is therefore the hull of Student's and of the interval of the mean that follows from those alone, whose ends
    lie sqrt(sum of squared distances to the records' ends) / n away. The hull covers at least as often as
    either: as the second where all seeds have the same true value, and as the first where they spread like a normal
    distribution. A random-effects estimate with a normal quantile is shorter, but covers in only 70 to 86 % of
    all cases (two or three seeds, 150 records each, a mean of one half, seeds that differ).

    What no interval of a few seeds sees is a rare seed far from the others: three that agree leave room for
    71 % that do not (1 - .025^(1/3)).

    Args:
        values: One value for each seed.
        within: What the mean can be; the interval is cut there, which loses no coverage.
        records: For each value its interval over the records of its run, at the same confidence.
        confidence: The coverage.

    Raises:
        DataError: There is no value, or one is not finite: a failed trial must not drop out of a mean.

    Source:
        Student: The probable error of a mean, Biometrika 6, 1908. Zou, Donner: Construction of confidence
        limits about effect measures, Statistics in Medicine 27, 2008 (limits of a sum from limits of its terms).
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0 or not np.isfinite(sample).all():
        raise DataError(
            "a mean over seeds needs one finite value for each seed",
            got=sample.tolist(),
            fix="show the failed trials instead of averaging over the others",
        )
    mean, n = float(sample.mean()), int(sample.size)
    if n == 1:
        return Estimate(value=mean, low=math.nan, high=math.nan, n=1, confidence=check_confidence(confidence))
    spread = float(sample.std(ddof=1))
    half = _quantile(n, confidence) * spread / math.sqrt(n) if spread else 0.0
    down, up = _of_records(sample, records)
    low, high = (
        min(max(end, within[0]), within[1]) for end in (mean - max(half, down), mean + max(half, up))
    )
    return Estimate(value=mean, low=low, high=high, n=n, confidence=confidence)


def seeds_to_decide(
    values: Sequence[float],
    gap: float,
    *,
    records: Sequence[Interval] | None = None,
    confidence: float = 0.95,
) -> int | None:
    """How many seeds would make the interval of :func:`mean_over_seeds` end nearer to the mean than ``gap``.

    The plan assumes that further seeds spread as these do, and keep their mean: it is an estimate, and a rough one from two
    seeds.

    Args:
        values: One value for each seed that there is.
        gap: The distance of the mean from what it is to be told apart from.
        records: As for the interval.
        confidence: The interval's coverage.

    Returns:
        The smallest number; None from one seed, which shows no spread, and beyond ``MOST_SEEDS``.
    """
    from scipy.special import stdtrit

    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 2 or not gap > 0:
        return None
    n = np.arange(2, MOST_SEEDS + 1)
    between = stdtrit(n - 1, (1 + check_confidence(confidence)) / 2) * float(sample.std(ddof=1)) / np.sqrt(n)
    within = max(_of_records(sample, records)) * np.sqrt(sample.size / n)
    enough = np.flatnonzero(np.maximum(between, within) < gap)
    return int(n[enough[0]]) if enough.size else None


def _of_records(sample: npt.NDArray[np.float64], records: Sequence[Interval] | None) -> Interval:
    """How far the ends of the mean's interval lie below and above it, by the records alone."""
    if records is None:
        return 0.0, 0.0
    ends = np.asarray(records, dtype=np.float64).reshape(-1, 2)
    low, high = (float(np.sqrt(np.square(sample - ends[:, side]).sum())) / sample.size for side in (0, 1))
    return low, high


def _quantile(n: int, confidence: float) -> float:
    if confidence == 0.95 and n <= len(_STUDENT) + 1:
        return _STUDENT[n - 2]
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + check_confidence(confidence)) / 2))


def check_confidence(confidence: float) -> float:
    """The level itself.

    Raises:
        DataError: It does not lie between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise DataError("a confidence level lies between 0 and 1", got=confidence)
    return confidence


def _check_counts(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials or trials < 1:
        raise DataError(
            "impossible counts",
            got=f"{successes} successes in {trials} trials",
            expected="0 <= successes <= trials",
        )
