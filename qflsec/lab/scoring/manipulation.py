"""Scoring manipulations: always against the honest run of the same pipeline, stack and seed.

A trigger may "succeed" without any attack, and a stack may cost accuracy on its own; only the difference to
the honest run is the attack's doing.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from qflsec.accounting.statistics import clopper_pearson
from qflsec.attacks import Attack, BackdoorManipulation, Manipulation
from qflsec.base import ConfigError, Score, stream
from qflsec.federation import RunResult
from qflsec.lab.scoring.rankings import mean_ranking
from qflsec.lab.scoring.trial import Raw, TrialScore, point, ratio
from qflsec.lab.subject import Subject
from qflsec.models import EXACT, Execution, Model
from qflsec.threat import Records

__all__ = ["n_correct", "score_backdoor", "score_manipulation", "score_poisoning", "trigger_success"]


class _Answering(Protocol):
    def predict(self, features: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class _Executed:
    """A run's final model where another circuit is executed in place of the shared one."""

    run: RunResult
    model: Model

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        """The answers of that circuit."""
        return self.run.predict(features, model=self.model)


def _executed(attack: Attack, attacked: Subject, *, triggered: bool) -> _Answering:
    """The attacked subject as it is executed after training."""
    if (
        not isinstance(attack, Manipulation)
        or not isinstance(attacked, RunResult)
        or len(attacked.models) != 1
    ):
        return attacked
    model = deepcopy(attack).deployed(attacked.pipeline.model, attacked.models[0], triggered=triggered)
    return attacked if model is attacked.pipeline.model else _Executed(run=attacked, model=model)


def _compared(attack: Attack, honest: Subject) -> _Answering:
    """The honest subject as whoever uses it executes it: in the compiled circuit, where a compiler changes every model."""
    compiles = isinstance(attack, Manipulation) and attack.compiles
    return _executed(attack, honest, triggered=False) if compiles else honest


def n_correct(subject: _Answering, records: Records) -> int:
    """How many records the subject's last model classifies correctly."""
    return int((subject.predict(records.features) == records.labels).sum()) if len(records.labels) else 0


def score_manipulation(attack: Attack, attacked: RunResult, honest: RunResult) -> TrialScore:
    """The score of a manipulated run against the honest run of the same pipeline, stack and seed."""
    _check_pair(attacked, honest)
    if isinstance(attack, BackdoorManipulation):
        return score_backdoor(attack, attacked, honest, seed=honest.spec.seed)
    score = score_poisoning(_executed(attack, attacked, triggered=False), honest)
    curves: Raw = {
        "accuracy_by_round": list(attacked.accuracy),
        "honest_accuracy_by_round": list(honest.accuracy),
    }
    found = {**score.metrics, **_rankings(attack, attacked, honest)}
    return replace(score, raw={**score.raw, **curves}, metrics=found) if score.raw else score


def _rankings(attack: Attack, attacked: RunResult, honest: RunResult) -> dict[str, Score]:
    """How both runs rank the class that the pipeline detects; of several models, those whose readers are honest."""
    if honest.pipeline.detects is None:
        return {}
    executed = _executed(attack, attacked, triggered=False)
    model = executed.model if isinstance(executed, _Executed) else None
    found: dict[str, Score] = {}
    n = len(honest.records("test").labels)
    for who, ranks in (
        ("honest_", mean_ranking(honest, places=attacked.readers)),
        ("", mean_ranking(attacked, model=model)),
    ):
        guessing = {"auroc": 0.5, "aupr": ranks.get("prevalence", 0.0), "recall": ranks.get("guessed", 0.0)}
        found |= {
            f"{who}{name}": point(f"{who}{name}", ranks[name], n=n, baseline=baseline)
            for name, baseline in guessing.items()
            if name in ranks
        }
    return found


def score_poisoning(attacked: _Answering, honest: Subject) -> TrialScore:
    """Advantage (honest accuracy - attacked accuracy) / (honest accuracy - chance), of the final models.

    Chance is the accuracy of always answering the most frequent class of the test records. A model that the
    attack turned round is worse than chance, so the advantage may exceed 1.
    """
    test = honest.records("test")
    n = len(test.labels)
    if n == 0:
        return _undefined("there are no test records")
    if isinstance(attacked, RunResult) and isinstance(honest, RunResult) and len(honest.models) > 1:
        return _score_readers(attacked, honest, test)
    before, after = (n_correct(run, test) for run in (honest, attacked))
    majority = int(torch.bincount(test.labels).max())
    reason = (
        f"the honest run is no better than chance: {before} of {n} correct, {majority} by the majority class"
    )
    advantage, reason = ratio(before - after, before - majority, reason)
    runs = {"honest_": honest, "": attacked}
    return TrialScore(
        advantage=advantage,
        metrics={
            "accuracy": _rate("accuracy", after, n, baseline=before / n, ideal=majority / n),
            "honest_accuracy": _rate("honest_accuracy", before, n, baseline=majority / n, ideal=1.0),
            **{
                f"{who}worst_accuracy": point(f"{who}worst_accuracy", run.worst_accuracy[-1], n=n, ideal=1.0)
                for who, run in runs.items()
                if isinstance(run, RunResult) and run.visits
            },
        },
        raw={
            "correct": float(after),
            "honest_correct": float(before),
            "majority": float(majority),
            "n_test": float(n),
        },
        reason=reason,
    )


def _score_readers(attacked: RunResult, honest: RunResult, test: Records) -> TrialScore:
    """The same of several models: by the mean over those whose readers are honest under the attack."""
    n, chance = len(test.labels), int(torch.bincount(test.labels).max()) / len(test.labels)
    rates = {
        who: [
            float((run.answers(place, test.features) == test.labels).double().mean())
            for place in attacked.readers
        ]
        for who, run in (("honest_", honest), ("", attacked))
    }
    mean = {who: sum(each) / len(each) for who, each in rates.items()}
    reason = f"the honest run is no better than chance: accuracy {mean['honest_']:.3f}, {chance:.3f} by the majority class"
    advantage, reason = ratio(mean["honest_"] - mean[""], mean["honest_"] - chance, reason)
    found = {f"{who}accuracy": mean[who] for who in rates} | {
        f"{who}worst_accuracy": min(each) for who, each in rates.items()
    }
    return TrialScore(
        advantage=advantage,
        metrics={name: point(name, value, n=n, baseline=chance) for name, value in found.items()},
        raw={f"{who}accuracy_by_reader": each for who, each in rates.items()},
        reason=reason,
    )


def score_backdoor(
    attack: BackdoorManipulation, attacked: Subject, honest: Subject, *, seed: int
) -> TrialScore:
    """Advantage (success - success without attack) / (1 - success without attack).

    Success is the share of the attack's victims among the test records, by default those of other classes, that the
    final model gives the target class once they carry the trigger; without attack, it is that of the honest run's model,
    executed as it was trained unless the attack says that a compiler changes every model.

    Args:
        attack: The attack, for its trigger.
        attacked: The attacked subject.
        honest: The honest one.
        seed: The seed of the run, for triggers that draw.
    """
    test = honest.records("test")
    wanted = _triggered(attack, test, seed)
    n, n_test = len(wanted.labels), len(test.labels)
    if n == 0:
        return _undefined(f"no test record could be turned to the target class {attack.target_class}")
    with_attack = n_correct(_executed(attack, attacked, triggered=True), wanted)
    after = n_correct(_executed(attack, attacked, triggered=False), test)
    without, before = (n_correct(_compared(attack, honest), records) for records in (wanted, test))
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


def trigger_success(attack: BackdoorManipulation, run: RunResult, *, execution: Execution = EXACT) -> Score:
    """How often the trigger succeeds on a run's last model where circuits are executed with noise, or with shots.

    The baseline is the share of these records that get the target class without the trigger, executed alike.

    Args:
        attack: The attack, for its trigger.
        run: The run.
        execution: How whoever uses the model executes it.

    Raises:
        ConfigError: Every client has a model of its own, or there is no record to turn.
    """
    test, seed = run.records("test"), run.spec.seed
    wanted = _triggered(attack, test, seed)
    n = len(wanted.labels)
    if n == 0 or len(run.models) != 1:
        raise ConfigError(
            "there is no success to measure", got=f"{n} records to turn, {len(run.models)} models"
        )

    def hits(features: torch.Tensor, purpose: str) -> int:
        generator = stream(seed, "score", attack.card.name, "execution", purpose)
        model = deepcopy(attack).deployed(run.pipeline.model, run.models[0], triggered=purpose == "triggered")
        with torch.no_grad():
            logits = model(run.models[0], features, execution=execution, generator=generator)
        return int((logits.argmax(dim=-1) == attack.target_class).sum())

    plain = test.features[deepcopy(attack).victims(test)]
    before, after = hits(plain, "plain"), hits(wanted.features, "triggered")
    return _rate("trigger_success", after, n, baseline=before / n, ideal=1.0)


def _triggered(attack: BackdoorManipulation, test: Records, seed: int) -> Records:
    """The victims among the test records with the trigger on them, and the class that the attack wants."""
    victims = deepcopy(attack).victims(test)  # as fresh as for a move
    generator = stream(seed, "score", attack.card.name, "trigger")
    marked = deepcopy(attack).trigger(test.features[victims], generator)
    return Records(features=marked, labels=torch.full((len(marked),), attack.target_class))


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
