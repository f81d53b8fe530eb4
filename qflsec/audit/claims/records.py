"""Claims about records and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qflsec.accounting.statistics import clopper_pearson
from qflsec.audit.check import Bench
from qflsec.audit.checks.records import common_kind, digests
from qflsec.audit.checks.training import wordy
from qflsec.audit.claim import Claim, Ruling
from qflsec.audit.parts import Array, Data, Part, Training
from qflsec.base import ConfigError, register

__all__ = ["Accuracy", "Disjoint"]


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
        """Compare all records, value by value."""
        data = self.about(parts, Data)
        if isinstance(data, Ruling):
            return data
        kind = common_kind(
            *(features for features, _ in (*data.clients, *([data.test] if data.test else [])))
        )
        held = [set(digests(features, kind)) for features, _ in data.clients]
        train = set().union(*held)
        twice = sum(map(len, held)) - len(train)
        both = 0 if data.test is None else sum(one in train for one in digests(data.test[0], kind))
        evidence = {"in training and evaluation": both, "at several clients": twice}
        if both or twice:
            why = f"{both} records are in training and evaluation, {twice} copies at further clients"
            return Ruling(judgement="refuted", why=why, evidence=evidence)
        if data.test is None:
            return Ruling(judgement="not tested", why="the pipeline gives no records for evaluation")
        return Ruling(
            judgement="proved by check",
            why=f"all {len(train)} training records were compared, value by value as {np.dtype(kind).name}",
            ceiling="records that differ in a digit, such as scaled or rotated copies, are different ones",
            evidence=evidence,
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
        x, y = training.data.test
        said = np.asarray(training.train(training.data.train, bench.seed)(x))
        if wordy(y) and not wordy(said):
            return Ruling(
                judgement="not tested", why="the labels are words, and nothing says which output is which"
            )
        right = (
            said.ravel() == np.ravel(y) if wordy(y) else predicted(said) == np.asarray(y).astype(int).ravel()
        )
        seen = clopper_pearson(int(right.sum()), len(right))
        told = f"{seen.value:.3f} [{seen.low:.3f}, {seen.high:.3f}] on {seen.n} records"
        return Ruling(
            judgement="refuted" if seen.high < self.at_least else "not refuted",
            why=f"one training reaches {told}",
            ceiling=f"with {seen.n} records any accuracy from {seen.low:.3f} to {seen.high:.3f} fits what was seen",
            evidence={"accuracy": seen.value, "low": seen.low, "high": seen.high, "records": seen.n},
        )


def predicted(outputs: Array) -> Array:
    """The classes that outputs say: of class scores, of the probability or the score of class 1, or of labels.

    Shapes:
        outputs: ``(n,)`` or ``(n, K)``; returns: ``(n,)``.
    """
    found = np.asarray(outputs, dtype=float)
    if found.ndim > 1 and found.shape[1] > 1:
        return np.asarray(found.argmax(axis=1))
    found = found.ravel()
    if np.array_equal(found, found.round()):
        return found.astype(int)
    return (found > (0.5 if found.min() >= 0 and found.max() <= 1 else 0.0)).astype(int)
