"""Scoring evasion: against records that were moved as far, but at random."""

from __future__ import annotations

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import EvasionClaim
from qflsec.lab.scoring.trial import EvasionTruth, TrialScore, ratio

__all__ = ["score_evasion"]


def score_evasion(claim: EvasionClaim, truth: EvasionTruth) -> TrialScore:
    """Advantage (success - success of noise) / (1 - success of noise).

    Success is the share of the records which the model classifies correctly as they are, and wrongly as they were
    moved. Noise moves every feature as far, to one side or the other at random: a model that it fools is not
    evaded but bad. The accuracy that is left is never below the one that is certified, where there is one.
    """
    labels = truth.records.labels
    right = truth.predict(truth.records.features) == labels
    n, n_test = int(right.sum()), len(labels)
    if n == 0:
        reason = "the model classifies no test record correctly"
        return TrialScore(advantage=float("nan"), metrics={}, raw={}, reason=reason)
    fooled, by_noise = (
        int(((truth.predict(features) != labels) & right).sum()) for features in (claim.features, truth.noisy)
    )
    robust = int((truth.predict(claim.features) == labels).sum())
    advantage, reason = ratio(fooled - by_noise, n - by_noise, "noise of the same size fools every record")
    success, noise = clopper_pearson(fooled, n), clopper_pearson(by_noise, n)
    clean, left = clopper_pearson(int(right.sum()), n_test), clopper_pearson(robust, n_test)
    moved = (claim.features - truth.records.features).abs()
    proved = {}
    if truth.certified is not None:
        held = clopper_pearson(int((right & truth.certified).sum()), n_test)
        proved["certified_accuracy"] = held.score(name="certified_accuracy", baseline=0.0, ideal=1.0)
    return TrialScore(
        advantage=advantage,
        metrics={
            "success": success.score(name="success", baseline=noise.value, ideal=1.0),
            "success_of_noise": noise.score(name="success_of_noise", baseline=0.0, ideal=0.0),
            "accuracy": left.score(name="accuracy", baseline=clean.value, ideal=0.0),
            "honest_accuracy": clean.score(name="honest_accuracy", baseline=0.0, ideal=1.0),
            **proved,
        },
        raw={
            "fooled": float(fooled),
            "fooled_by_noise": float(by_noise),
            "n_right": float(n),
            "n_test": float(n_test),
            "farthest": float(moved.max()) if torch.numel(moved) else 0.0,
        },
        reason=reason,
    )
