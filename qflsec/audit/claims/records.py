"""Claims about records and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.accounting.statistics import clopper_pearson
from qflsec.audit.check import Bench
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.classes import Classes, answers_of, reading_of
from qflsec.audit.parts import Data, Part, Training
from qflsec.audit.same_records import copies, held_in
from qflsec.base import ConfigError, register

__all__ = ["Accuracy", "Disjoint"]

_KNOWN = 100
"""Training records that are asked beside those of the evaluation, to see what outputs are."""


@register("claim", "disjoint")
@dataclass(frozen=True, kw_only=True)
class Disjoint(Claim):
    """No record of the evaluation is a training record, and no two clients hold the same."""

    kind: ClassVar[str] = "disjoint"

    @property
    def sentence(self) -> str:
        """The claim."""
        return "no record is in training and evaluation, or at two clients"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Compare all records by value, after both are rounded to the coarser of their two precisions."""
        data = self.about(parts, Data)
        if isinstance(data, Ruling):
            return data
        train = [features for features, _ in data.clients]
        n = sum(map(len, train))
        if not n:
            return Ruling(judgement="not tested", why="the pipeline gives no training records")
        twice = sum(len(holders) - 1 for holders in copies(train))
        given = data.test is not None and len(data.test[0]) > 0
        both = int(held_in(data.test[0], train).sum()) if data.test is not None and given else 0
        evidence = {"in training and evaluation": both, "at several clients": twice}
        if both or twice:
            why = f"{both} records are in training and evaluation, {twice} copies at further clients"
            return Ruling(judgement="refuted", why=why, evidence=evidence)
        if not given:
            return Ruling(judgement="not tested", why="the pipeline gives no records for evaluation")
        return Ruling(
            judgement="proved by check", why=f"all {n} training records were compared", evidence=evidence
        )


@register("claim", "accuracy")
@dataclass(frozen=True, kw_only=True)
class Accuracy(Claim):
    """The accuracy on held-out records is at least so much.

    Attributes:
        at_least: The accuracy, 0 to 1.
    """

    kind: ClassVar[str] = "accuracy"
    at_least: float

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= 1:
            raise ConfigError("'at_least' of a claim of accuracy", got=self.at_least, expected="0 to 1")

    @property
    def sentence(self) -> str:
        """The claim."""
        return f"the accuracy on held-out records is at least {self.at_least:g}"

    def test(self, parts: Sequence[Part], bench: Bench) -> Ruling:
        """Train once, and count; the model is one draw of the training, and its records are one draw too."""
        training = self.about(parts, Training)
        if isinstance(training, Ruling):
            return training
        if training.data.test is None:
            return Ruling(judgement="not tested", why="the pipeline gives no records for evaluation")
        (known, labels), (x, y) = training.data.train, training.data.test
        if not len(known) or not len(x):
            why = "the pipeline gives no training records, or none for evaluation"
            return Ruling(judgement="not tested", why=why)
        classes = Classes.of(labels, y)
        predict = training.train((known, labels), bench.seed)
        some = np.linspace(0, len(known) - 1, min(len(known), max(len(x), _KNOWN))).astype(int)
        said = answers_of(predict, x)
        both = np.concatenate([answers_of(predict, known[some]), said])
        reading = reading_of(both, classes, classes.numbers(labels[some]))
        right = reading.predicted(said) == classes.numbers(y)
        seen = clopper_pearson(int(right.sum()), len(right))
        told = f"{seen.value:.3f} [{seen.low:.3f}, {seen.high:.3f}] on {seen.n} records"
        return Ruling(
            judgement="refuted" if seen.high < self.at_least else "not refuted",
            why=f"one training reaches {told}",
            ceiling=f"with {seen.n} records any accuracy from {seen.low:.3f} to {seen.high:.3f} fits what was seen",
            evidence={"accuracy": seen.value, "low": seen.low, "high": seen.high, "records": seen.n},
        )
