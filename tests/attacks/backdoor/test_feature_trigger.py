"""The feature trigger: what it trains on and sends, and its success against the honest run's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import attack_from_config
from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.base import ConfigError
from qflsec.federation import Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import TrialScore, score_backdoor
from qflsec.threat import corrupted_clients

MakeHands = Callable[..., Hands]


def test_the_trigger_sets_the_named_features_only() -> None:
    features = torch.rand(3, 5, 4)
    marked = FeatureTrigger(features=(0, -1), value=2.5).trigger(features, torch.Generator())
    assert bool((marked[..., [0, 3]] == 2.5).all())
    assert torch.equal(marked[..., 1:3], features[..., 1:3])
    assert float(features.max()) <= 1  # the records themselves are untouched


def test_a_fraction_of_the_own_records_is_replaced(hands: MakeHands) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen)
    held.labels.zero_()
    FeatureTrigger(target_class=1, poison_fraction=0.5).updates(held)
    features, labels = seen[0]
    poisoned = labels == 1
    assert poisoned.sum(dim=-1).tolist() == [[3, 2], [3, 2]]  # half of six, half of four records
    assert not bool(poisoned[:, 1, 4:].any())  # padding stays padding
    assert torch.equal(features[..., -1] == torch.tensor(math.pi), poisoned)
    assert torch.equal(features[~poisoned], held.features[~poisoned])
    assert not torch.equal(poisoned[0], poisoned[1])  # each lane draws from its own stream
    assert float(held.features.max()) <= 1


def test_a_lane_alone_sends_what_it_sends_in_a_batch(hands: MakeHands) -> None:
    both: list[tuple[torch.Tensor, torch.Tensor]] = []
    alone: list[tuple[torch.Tensor, torch.Tensor]] = []
    FeatureTrigger().updates(hands(both))
    held = hands([])

    def train(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        alone.append((features, labels))
        return torch.ones(1, 2, 36)

    second = {name: getattr(held, name)[1:] for name in ("features", "labels", "mask", "honest", "received")}
    FeatureTrigger().updates(hands([], **second, train=train, generators=held.generators[1:]))
    assert torch.equal(alone[0][0][0], both[0][0][1])
    assert torch.equal(alone[0][1][0], both[0][1][1])


def test_the_boost_replaces_the_mean(hands: MakeHands) -> None:
    assert torch.equal(FeatureTrigger().updates(hands([])), torch.full((2, 2, 36), 5.0))
    assert torch.equal(FeatureTrigger(boost=1.5).updates(hands([])), torch.full((2, 2, 36), 1.5))


@pytest.mark.parametrize(
    "bad",
    [
        {"features": ()},
        {"features": (1, 1)},
        {"value": math.nan},
        {"poison_fraction": 0.0},
        {"poison_fraction": 1.5},
        {"boost": 0.0},
        {"target_class": -1},
    ],
)
def test_impossible_parameters_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FeatureTrigger(**bad)  # type: ignore[arg-type]


def test_what_only_the_records_can_tell(hands: MakeHands) -> None:
    with pytest.raises(ConfigError, match="no record has"):
        FeatureTrigger(features=(4,)).updates(hands([]))


def test_lists_from_a_file_become_tuples() -> None:
    attack = attack_from_config({"name": "feature-trigger", "features": [1, 2]})
    assert attack == FeatureTrigger(features=(1, 2))
    assert hash(attack) == hash(FeatureTrigger(features=(1, 2)))


ATTACK = FeatureTrigger(target_class=0, features=(1,))


@pytest.fixture
def scores(pipeline: Callable[..., Pipeline]) -> Callable[[Stack], list[TrialScore]]:
    """Scores over three seeds on ten clients with ten records, two of them corrupted."""

    def measure(layers: Stack) -> list[TrialScore]:
        honest = [RunSpec(seed=seed) for seed in range(3)]
        threat = corrupted_clients(n=2)
        attacked = [RunSpec(seed=seed, adversary=ATTACK, threat=threat) for seed in range(3)]
        runs = run_batch(pipeline(members=100, rounds=20, local_steps=2), layers, [*honest, *attacked])
        return [score_backdoor(ATTACK, runs[i + 3], runs[i], seed=i) for i in range(3)]

    return measure


def test_the_undefended_model_learns_the_trigger(
    scores: Callable[[Stack], list[TrialScore]], stack: Callable[..., Stack]
) -> None:
    for layers in (stack(), stack("client-clip")):
        found = scores(layers)
        assert mean_over_seeds([score.advantage for score in found]).low > 0.5
        for score in found:  # and nobody who looks at the accuracy would notice
            assert score.metrics["success_without_attack"].value < 0.3
            assert score.metrics["accuracy"].value > score.metrics["honest_accuracy"].value - 0.15


def test_server_side_defenses_hold_it(
    scores: Callable[[Stack], list[TrialScore]], stack: Callable[..., Stack]
) -> None:
    for layers in (stack("norm-bound"), stack("median")):
        assert max(score.advantage for score in scores(layers)) < 0.4
