"""Scoring membership inference."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.accounting.roc import auc, tpr_at_fpr
from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import MembershipClaim
from qflsec.base import Score
from qflsec.lab.scoring.trial import MembershipTruth, TrialScore, point

__all__ = ["low_rates", "score_membership"]

_RATES = {"0.1": 0.001, "1": 0.01, "10": 0.10}
_REFUSED_UNRESOLVED = {"0.1"}
"""Rates that are left out, rather than flagged, where a single false positive does not fit the budget."""


def score_membership(claim: MembershipClaim, truth: MembershipTruth) -> TrialScore:
    """Advantage 2 AUC - 1, with the AUC, true-positive rates at low false-positive rates, and accuracies.

    A rate ``tpr_at_P_percent_fpr`` has a companion in ``raw``, ``resolved_at_P_percent``: 0 says that there
    are too few non-members for one false positive to fit the budget, so that the rate is the one at none. The rate at
    0.1 % is refused there: it needs a thousand non-members.

    Source:
        Yeom et al., CSF 2018, definition 4 (advantage of one threshold); Carlini et al., IEEE S&P 2022,
        section III (low false-positive rates); DeLong et al., 1988 (interval of the AUC).
    """
    members = claim.scores[truth.member].double().tolist()
    nonmembers = claim.scores[~truth.member].double().tolist()
    area = auc(members, nonmembers)
    metrics = {
        "auc": area.score(name="auc", baseline=0.5, ideal=1.0),
        "advantage": area.affine(2, -1).score(name="advantage", baseline=0.0, ideal=1.0),
        **_accuracies(truth),
    }
    raw: dict[str, float | list[float]] = {"member_scores": members, "nonmember_scores": nonmembers}
    rates, resolved = low_rates(members, nonmembers)
    metrics |= rates
    raw |= resolved
    raw |= {
        "train_correct": float(truth.train_correct),
        "n_train": float(truth.n_train),
        "test_correct": float(truth.test_correct),
        "n_test": float(truth.n_test),
    }
    return TrialScore(advantage=2 * area.value - 1, metrics=metrics, raw={**raw})


def low_rates(
    members: Sequence[float], nonmembers: Sequence[float]
) -> tuple[dict[str, Score], dict[str, float]]:
    """True-positive rates at low false-positive rates, and which of these the non-members resolve.

    Args:
        members: Scores of what the answer is yes for.
        nonmembers: Scores of the rest.

    Returns:
        The rates, and for each whether it is resolved, 1 or 0; one that is refused is in neither.
    """
    rates: dict[str, Score] = {}
    resolved: dict[str, float] = {}
    for label, budget in _RATES.items():
        found = tpr_at_fpr(members, nonmembers, budget)
        if label in _REFUSED_UNRESOLVED and not found.resolved:
            continue
        name = f"tpr_at_{label}_percent_fpr"
        rates[name] = found.tpr.score(name=name, baseline=found.by_chance, ideal=1.0)
        resolved[f"resolved_at_{label}_percent"] = float(found.resolved)
    return rates, resolved


def _accuracies(truth: MembershipTruth) -> dict[str, Score]:
    if truth.n_train == 0 or truth.n_test == 0:
        return {}
    train = clopper_pearson(truth.train_correct, truth.n_train)
    test = clopper_pearson(truth.test_correct, truth.n_test)
    return {
        "train_accuracy": train.score(name="train_accuracy", baseline=test.value, ideal=1.0),
        "test_accuracy": test.score(name="test_accuracy", baseline=0.0, ideal=1.0),
        "generalisation_gap": point("generalisation_gap", train.value - test.value, n=truth.n_train),
    }
