"""Labels are classes by one rule, and what a model puts out is read by stated ones, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from qflsec.audit import Bench
from qflsec.audit.check import NotApplicable
from qflsec.audit.checks.modules import some_records
from qflsec.audit.checks.training import membership
from qflsec.audit.claim import claim_from_config
from qflsec.audit.classes import Classes, answers_of, reading_of
from qflsec.audit.outcome import Verdict
from qflsec.audit.parts import Array, Data, TorchModel, Training

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
TRUE = (X[:, 0] > 0).astype(int)
COINS = RNG.integers(0, 2, 200)
PAIRS = [(0, 1), (-1, 1), (1, 2), (3, 7), (-1, 0), (-2.5, -0.5)]
OUTPUTS: dict[str, Callable[[Array, Array], Array]] = {
    "probability": lambda z, _: 1 / (1 + np.exp(-z)),
    "score": lambda z, _: 3 * z,
    "columns": lambda z, _: np.stack([1 / (1 + np.exp(z)), 1 / (1 + np.exp(-z))], axis=1),
    "logits": lambda z, _: np.stack([-z, z], axis=1),
    "labels": lambda z, names: names[(z > 0).astype(int)],
    "one column": lambda z, _: 1 / (1 + np.exp(-z[:, None])),
}


def training(
    classes: Array, names: Array, output: str, *, heart: bool = False, encode: str = "flat"
) -> Training:
    """A training that solves for classes, or learns records by heart; labels are written by names."""
    labels = names[classes]
    if encode == "column":
        labels = labels[:, None]
    if encode == "one-hot":
        labels = np.eye(2)[classes]

    def train(records: tuple[Array, Array], _: int) -> Callable[[Array], Array]:
        x, y = records
        number = y.argmax(1) if encode == "one-hot" else np.searchsorted(names, y.ravel())
        signs = 2.0 * number - 1
        if not heart:
            w = np.linalg.lstsq(x, signs, rcond=None)[0]
            return lambda q: OUTPUTS[output](2 * q @ w, names)

        def nearest(q: Array) -> Array:
            away = ((q[:, None] - x[None]) ** 2).sum(-1)
            return OUTPUTS[output](5 * signs[away.argmin(1)] * np.exp(-away.min(1)), names)

        return nearest

    data = Data(name="data", clients=((X[:100], labels[:100]),), test=(X[100:], labels[100:]))
    return Training(name="train", train=train, data=data)


def verdict(part: Training, **claim: object) -> Verdict:
    return claim_from_config(claim).verdict([part], Bench())


@pytest.mark.parametrize("output", OUTPUTS)
def test_names_of_classes_change_no_verdict(output: str) -> None:
    """{0, 1}, {-1, 1}, {1, 2}, {3, 7} and others, each with every kind of output."""
    seen = set()
    for pair in PAIRS:
        names = np.asarray(pair)
        right = verdict(training(TRUE, names, output), kind="accuracy", at_least=0.8)
        wrong = verdict(training(1 - COINS, names, output), kind="accuracy", at_least=0.8)
        member = membership(training(COINS, names, output, heart=True), 0)
        assert (right.judgement, wrong.judgement) == ("not refuted", "refuted"), (pair, right, wrong)
        seen.add((right.evidence["accuracy"], wrong.evidence["accuracy"], member))
    assert len(seen) == 1
    ((right_accuracy, _, (advantage, _, _)),) = seen
    assert float(right_accuracy) > 0.9
    assert advantage > (0.3 if output == "labels" else 0.9)


@pytest.mark.parametrize("encode", ["column", "one-hot"])
def test_columns_of_labels(encode: str) -> None:
    for output in ("probability", "columns", "score"):
        names = np.asarray([0, 1])
        part = training(TRUE, names, output, encode=encode)
        assert verdict(part, kind="accuracy", at_least=0.8) == verdict(
            training(TRUE, names, output), kind="accuracy", at_least=0.8
        )
        by_heart = [training(COINS, names, output, heart=True, encode=one) for one in (encode, "flat")]
        assert len({membership(one, 0) for one in by_heart}) == 1
        ruled = verdict(part, kind="dp", epsilon=1.0, delta=1e-3, trainings=12)
        assert ruled.judgement != "not tested"


@pytest.mark.parametrize("shadows", [0, 8])
def test_shadow_models_and_names(shadows: int) -> None:
    found = {
        verdict(
            training(COINS, np.asarray(pair), output, heart=True), kind="membership", at_most=0.2, shadows=shadows
        ).judgement
        for pair, output in product(PAIRS[:4], ["probability", "score", "columns"])
    }  # fmt: skip
    assert found == {"refuted"}


def test_dp_and_names() -> None:
    """A training without noise: the canary is seen whatever its label is called."""
    ruled = {
        verdict(
            training(TRUE, np.asarray(pair), "score"), kind="dp", epsilon=0.5, delta=1e-3, trainings=60
        ).judgement
        for pair in PAIRS[:4]
    }
    assert ruled == {"refuted"}


def read(outputs: object, labels: object, trained: bool = True) -> str:
    said = answers_of(lambda _: np.asarray(outputs), np.asarray(labels))
    classes = Classes.of(np.asarray(labels))
    return reading_of(said, classes, classes.numbers(np.asarray(labels)) if trained else None).kind


def test_rules() -> None:
    y = np.array([1, 2] * 20)
    assert read(np.linspace(0, 1, 40), y) == "probability"
    assert read(np.linspace(-3, 3, 40), y) == "score"
    assert read(y[::-1], y) == "labels"
    assert read(np.ones((40, 2)) / 2, y) == "probabilities"
    assert read(np.ones((40, 2)), y) == "scores"
    assert read(np.zeros((40, 3)), np.arange(40) % 2) == "scores"  # classes from 0, of which one was not seen
    assert read(np.where(y == 1, "a", "b"), np.where(y == 1, "a", "b")) == "labels"
    assert read(np.arange(40) % 3, np.arange(40) % 3) == "labels"


@pytest.mark.parametrize(
    ("outputs", "labels", "why"),
    [
        (np.ones(40), np.array([1, 2] * 20), "may be a label or a probability"),
        (np.zeros(40), np.array([-1, 0] * 20), "may be a label or a probability"),
        (np.array([1.1, 1.9] * 20), np.array([1, 2] * 20), "guesses of the labels 1, 2"),
        (np.array([-0.1, 0.2, 0.8, 1.1] * 10), np.array([0, 0, 1, 1] * 10), "guesses of the labels 0, 1"),
        (np.array([2.0, 9.0] * 20), np.array([7, 3] * 20), "guesses of the labels 3, 7"),
        (np.zeros((40, 3)), np.array([1, 2] * 20), "nothing says which column"),
        (np.zeros((40, 2)), np.arange(40) % 3, "nothing says which column"),
        (np.linspace(0, 1, 40), np.arange(40) % 3, "one number is read only of two classes"),
        (np.linspace(0, 1, 40), np.zeros(40), "one number is read only of two classes"),
        (np.linspace(0, 1, 40), np.linspace(0, 1.5, 40), "35 more"),
        (np.full(40, np.nan), np.arange(40) % 2, "NaN"),
        (np.linspace(0, 1, 39), np.arange(40) % 2, "shape"),
        (np.zeros((40, 2, 2)), np.arange(40) % 2, "shape"),
        (np.zeros(40), np.array(["a", "b"] * 20), "words"),
        (np.array(["a", "b"] * 20), np.arange(40) % 2, "words"),
        (np.zeros(40), RNG.normal(size=(40, 2)), "neither one label nor one-hot"),
        (np.zeros(40), np.where(np.arange(40) > 2, 1, np.nan), "missing"),
    ],
)
def test_what_no_rule_reads_is_no_number(outputs: Array, labels: Array, why: str) -> None:
    with pytest.raises(NotApplicable, match=why):
        read(outputs, labels)
    pair = (np.arange(40)[:, None], labels)
    part = Training(
        name="train",
        train=lambda _, __: lambda q: outputs[q[:, 0]] if len(outputs) == len(labels) else outputs,
        data=Data(name="data", clients=(pair,), test=pair),
    )
    for claim in ({"kind": "accuracy", "at_least": 0.1}, {"kind": "membership", "at_most": 0.1}):
        ruled = verdict(part, **claim)
        assert ruled.judgement == "not tested"
        assert ruled.why
        assert not ruled.evidence


def test_scores_that_are_wrong_are_still_scores() -> None:
    """A model that is wrong throughout is refuted and not called unreadable."""
    y = np.array([0, 1] * 20)
    z = np.where(y == 0, 0.3, -1.2) + np.linspace(-0.2, 0.2, 40)
    assert read(z, y) == "score"
    assert read(-z, y) == "score"


def test_a_later_call_must_be_of_the_same_kind() -> None:
    classes = Classes.of(np.array([0, 1]))
    share = reading_of(np.linspace(0, 1, 9), classes)
    with pytest.raises(NotApplicable, match="those of another call"):
        share.losses(np.array([1.5]), np.array([1]))
    assert reading_of(np.array([-1.0, 2.0]), classes).predicted(np.array([0.3])).tolist() == [1]


def test_classes_of_several_kinds() -> None:
    one_hot = np.eye(3)[[0, 1, 1]]
    assert len(Classes.of(one_hot)) == 3
    assert Classes.of(one_hot, np.array([2, 0])).numbers(np.array([2, 0])).tolist() == [2, 0]
    assert Classes.of(np.array([[3], [7]]), np.array([5])).numbers(np.array([7, 5, 9])).tolist() == [2, 1, -1]
    for wrong in (
        (one_hot, np.array([3])),
        (one_hot, np.eye(2)),
        (np.array(["a"]), np.array([1])),
        (np.zeros(0),),
    ):
        with pytest.raises(NotApplicable):
            Classes.of(*wrong)


def test_torch_losses_take_numbers_of_classes() -> None:
    import torch

    for labels in (np.array([1, 2] * 4), np.eye(2)[[0, 1] * 4], np.array([[0], [1]] * 4)):
        part = TorchModel(
            name="m", make=lambda: torch.nn.Linear(3, 2), loss=torch.nn.CrossEntropyLoss(),
            data=Data(name="data", clients=((X[:8], labels),)),
        )  # fmt: skip
        assert some_records(part, 8)[1].tolist() == [0, 1] * 4
