"""The claim that a training is differentially private, tried by training with one canary and without it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.accounting.audited import Ranks, audit_scores
from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.classes import Classes, Reading, answers_of, reading_of
from qflsec.audit.parts import Array, Part, Prediction, Training
from qflsec.base import ConfigError, register

__all__ = ["TrainingPrivacy"]

_FEWEST, _SHARE = 12, 0.8
_PILOTS = 3
_FAR = (0.0, 1.0, 4.0)
"""Spreads from the mean: where others speak loudly outputs saturate, and a canary moves nothing that can be seen."""


@register("claim", "dp")
@dataclass(frozen=True, kw_only=True)
class TrainingPrivacy(Claim):
    """A training is (epsilon, delta)-DP for one record, added or removed, for whoever can ask its model.

    Attributes:
        epsilon: The claimed epsilon.
        delta: The claimed delta.
        trainings: The most trainings on a side; as many as the budget allows below that.
    """

    kind: ClassVar[str] = "dp"
    epsilon: float
    delta: float
    trainings: int = 500

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and 0 < self.delta < 1 and self.trainings >= _FEWEST):
            raise ConfigError(
                "a claim of kind 'dp'",
                got=f"epsilon = {self.epsilon}, delta = {self.delta}, trainings = {self.trainings}",
                expected=f"epsilon above 0, delta between 0 and 1, at least {_FEWEST} trainings",
            )

    @property
    def sentence(self) -> str:
        """The claim."""
        return f"the training is ({self.epsilon:g}, {self.delta:g})-DP for a record that is added or removed"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Train with the canary and without it, each time with another seed, and bound epsilon from its losses."""
        training = self.about(parts, Training)
        if isinstance(training, Ruling):
            return training
        scores = self._scores(training, bench)
        n = len(scores)
        if n < _FEWEST:
            why = f"the budget allows {n} trainings on a side, and {_FEWEST} are needed"
            return Ruling(judgement="not tested", why=why)
        choice = Ranks(counts=(0, max(1, n // 10)))
        inside, outside = scores.T
        found = audit_scores(inside, outside, delta=self.delta, choice=choice)
        gauss = audit_scores(inside, outside, delta=self.delta, choice=choice, method="gaussian")
        return Ruling(
            judgement="refuted" if found.refutes(self.epsilon) else "not refuted",
            why=f"{n} trainings with a canary and {n} without prove an epsilon of at least {found.lower:.3g} ({found.evidence})",
            ceiling=f"so many trainings cannot prove more than {found.ceiling:.3g}"
            f"{', which is below the claim: it could not be refuted here' if found.ceiling < self.epsilon else ''}; "
            f"if the mechanism were Gaussian the bound would be {gauss.lower:.3g}",
            evidence={
                "lower": found.lower, "ceiling": found.ceiling, "trainings": n, "lower_if_gaussian": gauss.lower,
            },
        )  # fmt: skip

    def _scores(self, training: Training, bench: Bench) -> Array:
        """Minus the canary's loss, with it and without it, a row for each pair of trainings; within the time.

        Shapes:
            returns: ``(n, 2)``.
        """
        seeds = iter(
            np.random.SeedSequence(bench.seed).generate_state(2 * self.trainings + _PILOTS + 100).tolist()
        )
        begun, allowed = time.monotonic(), _SHARE * bench.left
        canary = _canary(training, bench, seeds)
        pilot = time.monotonic() - begun
        rows: list[tuple[float, float]] = []
        while len(rows) < self.trainings:
            spent = time.monotonic() - begun
            if spent + (spent - pilot) / max(len(rows), 1) > allowed:
                break
            rows.append(
                (
                    canary.score(training, next(seeds), inside=True),
                    canary.score(training, next(seeds), inside=False),
                )
            )
        return np.asarray(rows, dtype=float).reshape(len(rows), 2)


@dataclass(frozen=True, kw_only=True)
class _Canary:
    """One record that is added.

    Attributes:
        features: Its features.
        label: Its label, as the pipeline writes labels.
        reading: How outputs are read, which many records have decided.
    """

    features: Array
    label: Array
    reading: Reading

    def score(self, training: Training, seed: int, *, inside: bool) -> float:
        """Minus its loss after one training."""
        features, labels = training.data.train
        if inside:
            features, labels = np.concatenate([features, self.features]), np.concatenate([labels, self.label])
        return self.told(training.train((features, labels), seed))

    def told(self, predict: Prediction) -> float:
        """Minus its loss by the outputs of a model."""
        said, number = answers_of(predict, self.features), self.reading.classes.numbers(self.label)
        return -float(self.reading.losses(said, number)[0])


def _canary(training: Training, bench: Bench, seeds: Iterator[int]) -> _Canary:
    """The candidate that moves most against the spread of trainings without it; these trainings are not used again.

    Raises:
        NotApplicable: There are no training records, or nothing says how outputs are read.
    """
    features, labels = training.data.train
    if not len(features):
        raise NotApplicable("the pipeline gives no training records")
    test = training.data.test
    classes = Classes.of(labels, *([] if test is None else [test[1]]))
    rng, spread = bench.rng("canary"), features.std(axis=0) + 1e-12
    places = [
        (features.mean(axis=0) + far * spread * rng.choice([-1.0, 1.0], size=features.shape[1:])).astype(
            features.dtype
        )
        for far in _FAR
        for _ in range(2)
    ]
    without = [training.train((features, labels), next(seeds)) for _ in range(_PILOTS)]
    known = [features, np.stack(places)] + ([] if test is None or not len(test[0]) else [test[0]])
    reading = reading_of(np.concatenate([answers_of(one, x) for one in without for x in known]), classes)
    kinds = np.unique(labels, axis=0)[:2]
    candidates = [
        _Canary(features=place[None], label=label, reading=reading)
        for index, place in enumerate(places)
        if len(label := kinds[index % 2 : index % 2 + 1])
    ]
    gains = []
    for one in candidates:
        before = np.asarray([one.told(predict) for predict in without])
        gains.append((one.score(training, next(seeds), inside=True) - before.mean()) / (before.std() + 1e-3))
    return candidates[int(np.argmax(gains))]
