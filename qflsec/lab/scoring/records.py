"""What a stored trial says of its advantage: its interval over the records of its run, and its possible values.

Both are read off the raw counts and scores, so that they can be had again for every stored trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from qflsec.accounting.statistics import Interval, clopper_pearson
from qflsec.base import Score

__all__ = ["attainable", "record_interval"]


def record_interval(
    advantage: float, metrics: Mapping[str, Score], raw: Mapping[str, Any]
) -> Interval | None:
    """The 95 % interval of a trial's advantage over its records, with the run held fixed.

    Membership and questions about clients have DeLong's. A manipulation's advantage is a difference of two counts over the same records, in
    units of what there was to win, which is held fixed; the limits of the difference follow from those of the counts
    as if they were independent, which is wide where both models are right on the same records. The records of an
    inversion are reconstructed together and are no sample, so it has none.

    Args:
        advantage: The trial's advantage.
        metrics: Its metrics.
        raw: Its raw scores and counts.

    Source:
        Newcombe, Statistics in Medicine 17, 873, 1998 (difference of proportions, method 10, here from exact limits).
    """
    if "member_scores" in raw or "yes_scores" in raw:
        return metrics["advantage"].low, metrics["advantage"].high
    if "successes" in raw:
        gained, start, n = raw["successes"], raw["successes_without_attack"], raw["n_triggered"]
        return _difference(advantage, gained, start, n, to_win=n - start)
    if "fooled" in raw:
        gained, start, n = raw["fooled"], raw["fooled_by_noise"], raw["n_right"]
        return _difference(advantage, gained, start, n, to_win=n - start)
    if "majority" in raw:
        kept, start = raw["correct"], raw["honest_correct"]
        return _difference(advantage, start, kept, raw["n_test"], to_win=start - raw["majority"])
    return None


def attainable(raw: Mapping[str, Any]) -> Interval:
    """What the advantage of such a trial can be, whatever happens.

    2 AUC - 1 lies in [-1, 1]; a reconstruction cannot be better than exact, nor a trigger or an evasion succeed more than always.
    How far a poisoned model can fall depends on the honest one, so that advantage has no range.
    """
    if "member_scores" in raw or "yes_scores" in raw:
        return -1.0, 1.0
    if "originals" in raw or "successes" in raw or "fooled" in raw:
        return -math.inf, 1.0
    return -math.inf, math.inf


def _difference(advantage: float, more: float, less: float, n: float, *, to_win: float) -> Interval:
    up, down = (clopper_pearson(round(count), round(n)) for count in (more, less))
    scale = n / to_win
    below = math.hypot(up.value - up.low, down.high - down.value)
    above = math.hypot(up.high - up.value, down.value - down.low)
    return advantage - scale * below, advantage + scale * above
