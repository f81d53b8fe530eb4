"""Scoring manipulations: always against the honest run of the same pipeline, stack and seed.

A trigger may "succeed" without any attack, and a stack may cost accuracy on its own; only the difference to
the honest run is the attack's doing.
"""

from __future__ import annotations

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import BackdoorManipulation
from qflsec.base import Score, stream
from qflsec.federation import RunResult
from qflsec.lab.scoring.trial import TrialScore, ratio
from qflsec.threat import Records

__all__ = ["n_correct", "score_backdoor", "score_poisoning"]


def n_correct(result: RunResult, params: torch.Tensor, records: Records) -> int:
    """How many records the run's model classifies correctly, by exact expectation values."""
    if len(records.labels) == 0:
        return 0
    with torch.no_grad():
        answers = result.pipeline.model(params, records.features).argmax(dim=-1)
    return int((answers == records.labels).sum())


def score_poisoning(attacked: RunResult, honest: RunResult) -> TrialScore:
    """Advantage (honest accuracy - attacked accuracy) / (honest accuracy - chance), of the final models.

    Chance is the accuracy of always answering the most frequent class of the test records. A model that the
    attack turned round is worse than chance, so the advantage may exceed 1.
    """
    _check_pair(attacked, honest)
    test = honest.records("test")
    n = len(test.labels)
    if n == 0:
        return _undefined("there are no test records")
    before, after = (n_correct(run, run.params, test) for run in (honest, attacked))
    majority = int(torch.bincount(test.labels).max())
    reason = (
        f"the honest run is no better than chance: {before} of {n} correct, {majority} by the majority class"
    )
    advantage, reason = ratio(before - after, before - majority, reason)
    return TrialScore(
        advantage=advantage,
        metrics={
            "accuracy": _rate("accuracy", after, n, baseline=before / n, ideal=majority / n),
            "honest_accuracy": _rate("honest_accuracy", before, n, baseline=majority / n, ideal=1.0),
        },
        raw={
            "correct": float(after),
            "honest_correct": float(before),
            "majority": float(majority),
            "n_test": float(n),
            "accuracy_by_round": list(attacked.accuracy),
            "honest_accuracy_by_round": list(honest.accuracy),
        },
        reason=reason,
    )


def score_backdoor(attack: BackdoorManipulation, attacked: RunResult, honest: RunResult) -> TrialScore:
    """Advantage (success - success without attack) / (1 - success without attack).

    Success is the share of test records of other classes that the final model gives the target class once
    they carry the trigger; without attack, it is that of the honest run's model.
    """
    _check_pair(attacked, honest)
    test = honest.records("test")
    others = test.labels != attack.target_class
    n, n_test = int(others.sum()), len(test.labels)
    if n == 0:
        return _undefined(f"no test record has another class than the target class {attack.target_class}")
    generator = stream(honest.spec.seed, "score", attack.card.name, "trigger")
    marked = attack.trigger(test.features[others], generator)
    wanted = Records(features=marked, labels=torch.full((n,), attack.target_class))
    with_attack, without = (n_correct(run, run.params, wanted) for run in (attacked, honest))
    after, before = (n_correct(run, run.params, test) for run in (attacked, honest))
    reason = "the trigger succeeds on every record without any attack"
    advantage, reason = ratio(with_attack - without, n - without, reason)
    return TrialScore(
        advantage=advantage,
        metrics={
            "success": _rate("success", with_attack, n, baseline=without / n, ideal=1.0),
            "success_without_attack": _rate("success_without_attack", without, n, baseline=0.0, ideal=0.0),
            "accuracy": _rate("accuracy", after, n_test, baseline=before / n_test, ideal=before / n_test),
            "honest_accuracy": _rate("honest_accuracy", before, n_test, baseline=0.0, ideal=1.0),
        },
        raw={
            "successes": float(with_attack),
            "successes_without_attack": float(without),
            "n_triggered": float(n),
            "correct": float(after),
            "honest_correct": float(before),
            "n_test": float(n_test),
        },
        reason=reason,
    )


def _rate(name: str, count: int, n: int, *, baseline: float, ideal: float) -> Score:
    return clopper_pearson(count, n).score(name=name, baseline=baseline, ideal=ideal)


def _undefined(reason: str) -> TrialScore:
    return TrialScore(advantage=float("nan"), metrics={}, raw={}, reason=reason)


def _check_pair(attacked: RunResult, honest: RunResult) -> None:
    """A mistake here is one of the program: the advantage would compare two different things."""
    if honest.spec.adversary is not None:
        msg = "the run to compare with is not honest"
        raise ValueError(msg)
    mine, theirs = (
        (run.spec.seed, run.pipeline.to_config(), run.stack.to_config()) for run in (attacked, honest)
    )
    if mine != theirs:
        msg = "the attacked and the honest run differ in seed, pipeline or stack"
        raise ValueError(msg)
