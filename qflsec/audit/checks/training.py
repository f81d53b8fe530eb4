"""A training that is run: what its model tells of the records that it was trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qflsec.accounting.roc import auc
from qflsec.audit.check import Bench, Check, NotApplicable
from qflsec.audit.classes import Classes, answers_of, reading_of
from qflsec.audit.outcome import Finding
from qflsec.audit.parts import Array, Training
from qflsec.base import CheckCard, Source, register

__all__ = ["OutputsTellMembers", "SeedWithoutEffect", "membership", "wordy"]

_YEOM = Source(
    paper="Yeom et al., Privacy risk in machine learning, arXiv:1709.01604", year=2018, where="section 3.2"
)
_TELLING = 0.1
"""Advantage whose lower limit counts as a leak."""
_FEWEST = 10


def wordy(values: Array) -> bool:
    """Whether labels or outputs are words."""
    return np.asarray(values).dtype.kind in "US"


def membership(part: Training, seed: int) -> tuple[float, float, float]:
    """The advantage of the loss threshold on one training, 2 AUC - 1, with its 95 % interval.

    Members are the training records, the others those of the evaluation; as many of each.

    Raises:
        NotApplicable: There are too few records, or nothing says how outputs are read.
    """
    if part.data.test is None:
        raise NotApplicable("the pipeline gives no records that were not trained on")
    train, test = part.data.train, part.data.test
    n = min(len(train[0]), len(test[0]))
    if n < _FEWEST:
        raise NotApplicable(f"{n} records on a side are too few, {_FEWEST} are needed")
    classes = Classes.of(train[1], test[1])
    predict = part.train(train, seed)
    order = np.random.default_rng(seed).permutation(len(train[0]))[:n]
    members, others = answers_of(predict, train[0][order]), answers_of(predict, test[0][:n])
    numbers = classes.numbers(train[1][order])
    reading = reading_of(np.concatenate([members, others]), classes, numbers)
    inside = -reading.losses(members, numbers)
    outside = -reading.losses(others, classes.numbers(test[1][:n]))
    found = auc(inside, outside)
    return 2 * found.value - 1, 2 * found.low - 1, 2 * found.high - 1


@register("check", "outputs-tell-members")
class OutputsTellMembers(Check):
    """The loss threshold: records with a small loss are taken for members."""

    looks_at = Training
    weight = 4.0
    card = CheckCard(
        name="outputs-tell-members",
        idea="Train once, and tell training records from others by their loss.",
        source=_YEOM,
        title="the model's outputs tell who was in the training",
        severity="warning",
        proves="The lower limit of the attack's advantage, 2 AUC - 1, is above 0.1 in one training.",
        cannot=(
            "Attacks with shadow models are stronger: a clean result is no privacy.",
            "Where evaluation records come from another distribution, part of the advantage is that difference.",
        ),
        consequence="Whoever can ask the model learns whether a person's record was used.",
        remedy="Train for fewer steps or with DP-SGD, and state the epsilon.",
    )

    def run(self, part: Training, bench: Bench) -> Iterator[Finding]:
        """The advantage of one training."""
        value, low, high = membership(part, bench.seed)
        bench.measured.update({"advantage": value, "low": low, "high": high})
        if low > _TELLING:
            yield Finding(
                what=f"the loss tells members with an advantage of {value:.2f} [{low:.2f}, {high:.2f}]",
                evidence={"advantage": value, "low": low, "high": high},
                reproduction=f"{part.name}(data, seed={bench.seed}), then compare losses of training and evaluation records",
            )


@register("check", "seed-without-effect")
class SeedWithoutEffect(Check):
    """Two trainings with one seed, and one with another."""

    looks_at = Training
    weight = 4.0
    card = CheckCard(
        name="seed-without-effect",
        idea="Train twice with one seed.",
        source=Source(
            paper="Pineau et al., Improving reproducibility in machine learning research",
            year=2021,
            where="appendix A",
        ),
        title="the same seed gives another model",
        severity="note",
        proves="Two trainings with one seed gave different outputs for the same records.",
        cannot=("Equal outputs on one machine may differ on another.",),
        consequence="Results cannot be repeated; that is right for noise from the operating system, and wrong elsewhere.",
        remedy="Draw everything but secrets from a generator that the seed starts.",
    )

    def run(self, part: Training, bench: Bench) -> Iterator[Finding]:
        """Whether outputs are equal."""
        features = part.data.train[0][:64]
        if not len(features):
            raise NotApplicable("there are no training records")
        one, two = (np.asarray(part.train(part.data.train, bench.seed)(features)) for _ in range(2))
        apart = (one != two).astype(float) if wordy(one) else np.abs(one.astype(float) - two.astype(float))
        difference = float(apart.max())
        bench.measured["difference of two trainings"] = difference
        if difference > 0:
            yield Finding(what=f"outputs of two trainings with seed {bench.seed} differ by {difference:.2g}")
