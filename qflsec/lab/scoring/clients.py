"""Scoring answers to questions about clients."""

from __future__ import annotations

import math

from qflsec.accounting.roc import auc
from qflsec.attacks import ClientClaim
from qflsec.lab.scoring.membership import low_rates
from qflsec.lab.scoring.trial import ClientTruth, Raw, TrialScore, point

__all__ = ["score_clients"]

_SAME = 1e-9
"""Scores that differ by less, in units of the largest, are equal: rounding ranks nobody."""


def score_clients(claim: ClientClaim, truth: ClientTruth) -> TrialScore:
    """Advantage 2 AUC - 1 of telling the questions whose answer is yes from the others, and rates as of membership.

    Where the question is about a property that sums mix, ``sums_advantage`` beside it is that of one who reads the
    property's exact mean off everything readable, and knows nothing else: what the rosters leave. ``anonymity_set`` is the
    mean, over the clients that anything names, of the smallest anonymity set that holds them.

    Source:
        DeLong et al., Biometrics 44, 1988 (interval of the AUC).
    """
    scores = _rounded(claim.scores.double().tolist())
    holds = truth.holds.tolist()
    yes, no = _split(scores, holds)
    raw: Raw = {"yes_scores": yes, "no_scores": no}
    metrics = {}
    if named := [k for k in truth.anonymity if k]:
        metrics["anonymity_set"] = point(
            "anonymity_set", sum(named) / len(named), n=len(named), unit="clients"
        )
        raw["anonymity"] = list(truth.anonymity)
    if truth.values is not None:
        raw |= {"values": truth.values.tolist(), "claimed": scores}
    if not yes or not no:
        answer = "yes" if yes else "no"
        return TrialScore(
            advantage=math.nan, metrics=metrics, raw=raw, reason=f"the answer to every question is {answer}"
        )
    area = auc(yes, no)
    metrics["auc"] = area.score(name="auc", baseline=0.5, ideal=1.0)
    metrics["advantage"] = area.affine(2, -1).score(name="advantage", baseline=0.0, ideal=1.0)
    rates, resolved = low_rates(yes, no)
    metrics |= rates
    raw |= resolved
    if truth.told_by_sums is not None:
        told = auc(*_split(_rounded(truth.told_by_sums.tolist()), holds)).value
        metrics["sums_advantage"] = point("sums_advantage", 2 * told - 1, n=len(holds))
    return TrialScore(advantage=2 * area.value - 1, metrics=metrics, raw=raw)


def _split(scores: list[float], holds: list[bool]) -> tuple[list[float], list[float]]:
    pairs = list(zip(scores, holds, strict=True))
    return [score for score, held in pairs if held], [score for score, held in pairs if not held]


def _rounded(scores: list[float]) -> list[float]:
    unit = _SAME * max(map(abs, scores), default=0.0)
    return [round(score / unit) * unit for score in scores] if unit else scores
