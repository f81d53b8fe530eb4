"""How well scores tell members from non-members: AUC, ROC curve, TPR at a fixed FPR.

Higher scores mean "member". Infinite scores are allowed (a likelihood ratio may be one); NaN is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qflsec.accounting.statistics import Estimate, clopper_pearson, clopper_pearson_upper
from qflsec.base import DataError

__all__ = ["Roc", "Scores", "TprAtFpr", "auc", "check_scores", "roc", "tpr_at_fpr"]

Scores = Sequence[float] | NDArray[np.float64]
_Array = NDArray[np.float64]


def auc(members: Scores, nonmembers: Scores, *, confidence: float = 0.95) -> Estimate:
    """The probability that a member's score exceeds a non-member's (ties count one half).

    The interval is DeLong's on the logit scale, which keeps it inside [0, 1] and covers better near the
    ends. Where DeLong's variance vanishes (perfect separation, or all scores equal) that interval would be a
    point, so Newcombe's score interval takes its place.
    Both are approximations: of normal scores they cover 93 % or more with ten members and ten others up, but 86 % with
    ten against two hundred near an area of 1.

    Args:
        members: Scores of records that were trained on.
        nonmembers: Scores of records that were not.
        confidence: Coverage of the interval.

    Returns:
        The estimate; ``n`` is the number of members and non-members together.

    Raises:
        DataError: A side is empty or holds NaN.

    Source:
        DeLong, DeLong, Clarke-Pearson: Comparing the areas under two or more correlated ROC curves,
        Biometrics 44, 1988, equations 2 to 5; computed by midranks after Sun, Xu: IEEE Signal Processing
        Letters 21, 2014. Newcombe: Confidence intervals for an effect size measure based on the
        Mann-Whitney statistic, part 2, Statistics in Medicine 25, 2006, method 5.
    """
    from scipy import special

    positive, negative = check_scores(members, "members"), check_scores(nonmembers, "nonmembers")
    m, n = len(positive), len(negative)
    pooled = _midranks(np.concatenate([positive, negative]))
    # Structural components: for each record, the share of the other side that it beats.
    member_wins = (pooled[:m] - _midranks(positive)) / n
    nonmember_wins = 1 - (pooled[m:] - _midranks(negative)) / m
    area = float(member_wins.mean())
    variance = 0.0
    if m > 1 and n > 1:
        variance = float(member_wins.var(ddof=1)) / m + float(nonmember_wins.var(ddof=1)) / n
    z = float(special.ndtri((1 + confidence) / 2))
    if variance > 1e-15 and 0 < area < 1:
        half = z * math.sqrt(variance) / (area * (1 - area))
        centre = math.log(area / (1 - area))
        low, high = _logistic(centre - half), _logistic(centre + half)
    else:
        low, high = _newcombe(area, m, n, z)
    return Estimate(value=area, low=low, high=high, n=m + n, confidence=confidence)


def _midranks(scores: _Array) -> _Array:
    """The rank of each score from 1; equal scores share the mean of theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle: _Array = np.cumsum(counts) - (counts - 1) / 2
    return middle[place]


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _newcombe(area: float, m: int, n: int, z: float) -> tuple[float, float]:
    """The areas from which ``area`` lies z standard errors away, by the variance of exponential scores."""
    from scipy.optimize import brentq

    half = (m + n) / 2 - 1

    def excess(true: float) -> float:
        spread = 1 + half * (1 - true) / (2 - true) + half * true / (1 + true)
        return (area - true) ** 2 - z * z * true * (1 - true) * spread / (m * n)

    # At an area of 0 or 1 the area itself solves the equation too; the interval's end is the other root.
    low = 0.0 if area == 0 else float(brentq(excess, 0.0, min(area, 1 - 1e-12)))
    high = 1.0 if area == 1 else float(brentq(excess, max(area, 1e-12), 1.0))
    return low, high


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """A ROC curve: its corners from (0, 0) to (1, 1).

    Attributes:
        fpr: False-positive rates, increasing.
        tpr: True-positive rates, increasing.
        thresholds: A record is called a member from this score upwards; the first is infinite.
        n_in: Members.
        n_out: Non-members.

    Shapes:
        fpr, tpr, thresholds: ``[C]``, C corners.
    """

    fpr: _Array
    tpr: _Array
    thresholds: _Array
    n_in: int
    n_out: int

    def log_points(self, floor: float | None = None) -> tuple[_Array, _Array]:
        """Points for logarithmic axes, where a rate of 0 has no place.

        Rates below ``floor`` are drawn at it. The default, half of ``1 / max(n_in, n_out)``, lies below every
        rate but 0 that the sample can show, so that a point there means "none seen".
        """
        least = 0.5 / max(self.n_in, self.n_out) if floor is None else floor
        fpr, tpr = np.maximum(self.fpr, least), np.maximum(self.tpr, least)
        # Of several points at the floor only the last, the highest, remains.
        at_floor = int(np.flatnonzero(fpr == least).max(initial=0))
        return fpr[at_floor:], tpr[at_floor:]


def roc(members: Scores, nonmembers: Scores) -> Roc:
    """The ROC curve, without the points that lie on the line between their neighbours.

    Raises:
        DataError: A side is empty or holds NaN.
    """
    positive, negative = check_scores(members, "members"), check_scores(nonmembers, "nonmembers")
    values = np.unique(np.concatenate([positive, negative]))[::-1]
    hits = len(positive) - np.searchsorted(np.sort(positive), values, side="left")
    alarms = len(negative) - np.searchsorted(np.sort(negative), values, side="left")
    hits, alarms = np.concatenate([[0], hits]), np.concatenate([[0], alarms])
    turn = np.diff(hits[:-1]) * np.diff(alarms[1:]) != np.diff(hits[1:]) * np.diff(alarms[:-1])
    keep = np.concatenate([[True], turn, [True]])
    return Roc(
        fpr=alarms[keep] / len(negative),
        tpr=hits[keep] / len(positive),
        thresholds=np.concatenate([[np.inf], values])[keep],
        n_in=len(positive),
        n_out=len(negative),
    )


@dataclass(frozen=True, kw_only=True)
class TprAtFpr:
    """The true-positive rate that a threshold reaches within a false-positive budget.

    Attributes:
        tpr: The rate with its Clopper-Pearson interval for this threshold; ``n`` counts members.
        fpr: The budget.
        achieved_fpr: The false-positive rate at the threshold, at most the budget.
        fpr_upper: An upper limit (one-sided, at the interval's tail probability) of the threshold's true
            false-positive rate.
        by_chance: The rate that scores reach on average which tell nothing: that of this threshold, (k + 1) / (n_out + 1) where
            the budget has room for k of the n_out non-members. It is above the budget, as the threshold is the next
            non-member's score.
        threshold: Scores above it are called members.
        n_out: Non-members.
        resolved: Whether there are enough non-members for one false positive to fit the budget; if not, the
            rate is the one at no false positive and says little about the budget.
    """

    tpr: Estimate
    fpr: float
    achieved_fpr: float
    fpr_upper: float
    by_chance: float
    threshold: float
    n_out: int
    resolved: bool


def tpr_at_fpr(members: Scores, nonmembers: Scores, fpr: float, *, confidence: float = 0.95) -> TprAtFpr:
    """The largest true-positive rate of any threshold whose false-positive rate is at most ``fpr``.

    No interpolation between thresholds. The threshold depends on the non-members alone, so the interval of
    the members' rate is exact for it; what other non-members would make of the threshold is not in it. A bound that
    a proof sets at a false-positive rate is to be read at ``fpr_upper``.

    Raises:
        DataError: A side is empty or holds NaN, or ``fpr`` is no rate.

    Source:
        Carlini et al.: Membership inference attacks from first principles, IEEE S&P 2022, section III-B.
    """
    positive, negative = check_scores(members, "members"), check_scores(nonmembers, "nonmembers")
    if not 0 <= fpr <= 1:
        raise DataError("a false-positive rate lies between 0 and 1", got=fpr)
    n_out = len(negative)
    allowed = math.floor(fpr * n_out + 1e-9)
    threshold = -math.inf
    hits, alarms = len(positive), n_out
    if allowed < n_out:
        threshold = float(np.sort(negative)[n_out - 1 - allowed])
        hits, alarms = int((positive > threshold).sum()), int((negative > threshold).sum())
    return TprAtFpr(
        tpr=clopper_pearson(hits, len(positive), confidence=confidence),
        fpr=fpr,
        achieved_fpr=alarms / n_out,
        fpr_upper=clopper_pearson_upper(allowed, n_out, alpha=(1 - confidence) / 2),
        by_chance=(allowed + 1) / (n_out + 1),
        threshold=threshold,
        n_out=n_out,
        resolved=allowed >= 1,
    )


def check_scores(scores: Scores, side: str) -> _Array:
    """The scores of one side as an array.

    Args:
        scores: One or more numbers; infinite ones are allowed.
        side: Whose they are, as in ``"members"``.

    Returns:
        The scores, ``[n]``.

    Raises:
        DataError: There are none, they are no list of numbers, or they hold NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise DataError(f"there are no scores of {side}", got=f"shape {values.shape}", expected="one or more")
    if np.isnan(values).any():
        raise DataError(f"scores of {side} hold NaN", got=f"{int(np.isnan(values).sum())} of {values.size}")
    return values
