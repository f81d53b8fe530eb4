"""Scoring manipulations against the honest run of the same stack and seed.

The model of these tests looks up its answer: a record's only feature is its row, and the parameters are the
answers. A trigger moves a record to a row of its own, so that any pattern of answers can be set.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import stream
from qflsec.lab.scoring import score_backdoor, score_manipulation, score_poisoning
from qflsec.threat import Records

LABELS = torch.tensor([0] * 6 + [1] * 4)
N = len(LABELS)


@dataclass
class FakeRun:
    """A run whose final model answers as told: first the test records, then the triggered ones."""

    params: torch.Tensor
    adversary: Any = None
    seed: int = 0
    stack_config: list[Any] = field(default_factory=list)
    labels: torch.Tensor = field(default_factory=lambda: LABELS)
    accuracy: tuple[float, ...] = (0.5,)

    @property
    def spec(self) -> Any:
        return SimpleNamespace(seed=self.seed, adversary=self.adversary)

    @property
    def pipeline(self) -> Any:
        return SimpleNamespace(to_config=dict, detects=None)

    @property
    def stack(self) -> Any:
        return SimpleNamespace(to_config=lambda: self.stack_config)

    def predict(self, features: torch.Tensor) -> torch.Tensor:
        return self.params[features[:, 0].long()].long()

    def records(self, split: str) -> Records:
        assert split == "test"
        return Records(features=torch.arange(len(self.labels)).float()[:, None], labels=self.labels)


def run(answers: Sequence[int], triggered: Sequence[int] = (), **change: Any) -> Any:
    return FakeRun(params=torch.tensor([*answers, *(triggered or [0] * N)]), **change)


class MoveRows:
    """A trigger that moves a record to its second row."""

    target_class = 1
    card = SimpleNamespace(name="move-rows")

    def trigger(self, features: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        assert generator.initial_seed() == stream(0, "score", "move-rows", "trigger").initial_seed()
        return features + N

    def victims(self, records: Any) -> torch.Tensor:
        return torch.as_tensor(records.labels != self.target_class)


ATTACKED = object()
RIGHT = LABELS.tolist()


@given(
    st.lists(st.integers(0, 2), min_size=N, max_size=N), st.lists(st.integers(0, 2), min_size=N, max_size=N)
)
@settings(deadline=None, max_examples=40)
def test_poisoning_is_the_share_of_what_could_be_lost(honest: list[int], attacked: list[int]) -> None:
    found = score_poisoning(run(attacked, adversary=ATTACKED), run(honest))
    before, after = (sum(a == b for a, b in zip(x, RIGHT, strict=True)) / N for x in (honest, attacked))
    if before > 0.6:
        assert found.advantage == pytest.approx((before - after) / (before - 0.6))
        assert found.reason == ""
    else:
        assert math.isnan(found.advantage)
        assert "no better than chance" in found.reason


def test_poisoning_perfect_none_and_beyond() -> None:
    chance = [0] * N
    assert score_poisoning(run(chance, adversary=ATTACKED), run(RIGHT)).advantage == pytest.approx(1)
    assert score_poisoning(run(RIGHT, adversary=ATTACKED), run(RIGHT)).advantage == 0
    turned = [1 - label for label in RIGHT]
    assert score_poisoning(run(turned, adversary=ATTACKED), run(RIGHT)).advantage == pytest.approx(2.5)
    helped = score_poisoning(run(RIGHT, adversary=ATTACKED), run([0] * 7 + [1] * 3))
    assert helped.advantage < 0  # not clipped


def test_poisoning_metrics_have_intervals_and_raw_counts() -> None:
    found = score_poisoning(run([0] * N, adversary=ATTACKED), run(RIGHT))
    assert found.metrics["accuracy"].value == pytest.approx(0.6)
    assert found.metrics["accuracy"].low < 0.6 < found.metrics["accuracy"].high
    assert found.metrics["accuracy"].baseline == 1
    raw = json.loads(json.dumps(found.raw))
    assert (raw["correct"], raw["honest_correct"], raw["majority"], raw["n_test"]) == (6, 10, 6, 10)


@given(st.integers(0, 6), st.integers(0, 6))
@settings(deadline=None, max_examples=30)
def test_backdoor_counts_records_of_other_classes_only(with_attack: int, without: int) -> None:
    """The last four triggered rows belong to the target class; what they answer must not count."""
    marked = [1] * with_attack + [0] * (6 - with_attack) + [0] * 4
    before = [1] * without + [0] * (6 - without) + [1] * 4
    found = score_backdoor(MoveRows(), run(RIGHT, marked, adversary=ATTACKED), run(RIGHT, before), seed=0)
    assert found.raw["successes"] == with_attack
    assert found.raw["n_triggered"] == 6
    if without == 6:
        assert math.isnan(found.advantage)
        assert "without any attack" in found.reason
    else:
        assert found.advantage == pytest.approx((with_attack - without) / (6 - without))


def test_a_trigger_that_succeeds_anyway_earns_nothing() -> None:
    """The trap of absolute success rates: 5 of 6 with and without attack."""
    marked = [1] * 5 + [0] * 5
    found = score_backdoor(MoveRows(), run(RIGHT, marked, adversary=ATTACKED), run(RIGHT, marked), seed=0)
    assert found.metrics["success"].value == pytest.approx(5 / 6)
    assert found.advantage == 0


def test_without_other_classes_there_is_nothing_to_trigger() -> None:
    ones = torch.ones(N, dtype=torch.long)
    honest = run([1] * N, labels=ones)
    found = score_backdoor(MoveRows(), run([1] * N, adversary=ATTACKED, labels=ones), honest, seed=0)
    assert math.isnan(found.advantage)
    assert "target class 1" in found.reason


def test_without_test_records_nothing_is_defined() -> None:
    none = torch.zeros(0, dtype=torch.long)
    found = score_poisoning(run([0], adversary=ATTACKED, labels=none), run([0], labels=none))
    assert math.isnan(found.advantage)
    assert "no test records" in found.reason


@pytest.mark.parametrize("change", [{"seed": 1}, {"stack_config": [{"name": "median"}]}])
def test_a_pair_differs_in_the_attack_only(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="differ"):
        score_manipulation(MoveRows(), run(RIGHT, adversary=ATTACKED, **change), run(RIGHT))  # type: ignore[arg-type]


def test_the_baseline_must_be_honest() -> None:
    with pytest.raises(ValueError, match="not honest"):
        score_manipulation(MoveRows(), run(RIGHT, adversary=ATTACKED), run(RIGHT, adversary=ATTACKED))  # type: ignore[arg-type]


def test_a_pair_of_runs_has_its_curves_stored() -> None:
    found = score_manipulation(MoveRows(), run([0] * N, adversary=ATTACKED), run(RIGHT, accuracy=(0.9,)))  # type: ignore[arg-type]
    assert (found.raw["accuracy_by_round"], found.raw["honest_accuracy_by_round"]) == ([0.5], [0.9])
