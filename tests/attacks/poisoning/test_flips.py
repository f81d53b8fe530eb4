"""Label flip and sign flips: what they send, and what stops them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks import Manipulation
from qflsec.attacks.poisoning import Constant, LabelFlip, ScaledSignFlip, SignFlip, Withhold
from qflsec.base import ConfigError
from qflsec.federation import Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_poisoning
from qflsec.models import build_model
from qflsec.threat import corrupted_clients, public_final_model

MakeHands = Callable[..., Hands]


def test_sign_flips_turn_the_honest_update(hands: MakeHands) -> None:
    held = hands([])
    assert torch.equal(SignFlip().updates(held), -held.honest)
    assert torch.equal(ScaledSignFlip(scale=3.0).updates(held), -3 * held.honest)


def test_label_flip_trains_on_wrong_labels_only(hands: MakeHands) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen)
    sent = LabelFlip().updates(held)
    (features, labels), *rest = seen
    assert not rest
    assert torch.equal(features, held.features)
    assert torch.equal(labels, 1 - held.labels)
    assert torch.equal(sent, torch.ones(2, 2, 36))


def test_label_flip_of_three_classes(hands: MakeHands) -> None:
    three = build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "n_classes": 3})
    labels = torch.arange(24).reshape(2, 2, 6) % 3
    for rule, expected in (("reverse", 2 - labels), ("next", (labels + 1) % 3)):
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        LabelFlip(rule=rule).updates(hands(seen, model=three, labels=labels))
        assert torch.equal(seen[0][1], expected)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="rule"):
        LabelFlip(rule="sideways")  # type: ignore[arg-type]
    for scale in (0.0, -1.0, float("inf")):
        with pytest.raises(ConfigError, match="scale"):
            ScaledSignFlip(scale=scale)


def test_without_corrupted_clients_there_is_no_attack(pipeline: Callable[..., Pipeline]) -> None:
    threat = public_final_model()
    with pytest.raises(ConfigError, match="passive"):
        RunSpec(seed=0, adversary=SignFlip(), threat=threat)
    withdrawn = corrupted_clients(n=2).withdrawn()
    with pytest.raises(ConfigError, match="corrupted clients"):
        run_batch(
            pipeline(members=20, rounds=1),
            Stack(name="none"),
            [RunSpec(seed=0, adversary=SignFlip(), threat=withdrawn)],
        )


SEEDS = range(3)


@pytest.fixture
def advantages(pipeline: Callable[..., Pipeline]) -> Callable[..., list[float]]:
    """Advantages over three seeds on ten clients with ten records."""

    def measure(attack: Manipulation, layers: Stack, n: int = 2) -> list[float]:
        threat = corrupted_clients(n=n)
        honest = [RunSpec(seed=seed) for seed in SEEDS]
        attacked = [RunSpec(seed=seed, adversary=attack, threat=threat) for seed in SEEDS]
        runs = run_batch(pipeline(members=100, rounds=20, local_steps=2), layers, [*honest, *attacked])
        assert {run.outcome for run in runs} == {"completed"}
        return [score_poisoning(runs[i + len(SEEDS)], runs[i]).advantage for i in range(len(SEEDS))]

    return measure


def test_the_scaled_flip_has_power_and_the_client_clip_does_not_stop_it(
    advantages: Callable[..., list[float]], stack: Callable[..., Stack]
) -> None:
    for layers in (stack(), stack("client-clip"), stack("masked")):
        assert mean_over_seeds(advantages(ScaledSignFlip(), layers)).low > 0.5


def test_the_servers_norm_bound_stops_it(
    advantages: Callable[..., list[float]], stack: Callable[..., Stack]
) -> None:
    for layers in (stack("norm-bound"), stack("median")):
        assert max(advantages(ScaledSignFlip(), layers)) < 0.3


def test_an_unscaled_minority_is_outvoted(
    advantages: Callable[..., list[float]], stack: Callable[..., Stack]
) -> None:
    assert max(advantages(SignFlip(), stack())) < 0.3
    assert max(advantages(LabelFlip(), stack())) < 0.3
    # a label flip by nearly half of the clients is not
    assert min(advantages(LabelFlip(), stack(), n=4)) > 0.1


@pytest.mark.parametrize("value", [500.0, 1e30, -2.0, "nan", "inf", "-inf"])
def test_a_constant_is_sent_as_it_is(hands: MakeHands, value: float | str) -> None:
    held = hands([])
    sent = Constant(value=value).updates(held)
    assert isinstance(sent, torch.Tensor)
    assert sent.shape == held.honest.shape
    assert torch.equal(sent, torch.full_like(held.honest, float(value))) or math.isnan(float(value))
    assert bool(torch.isnan(sent).all()) == (value == "nan")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "many", "1e30"])
def test_a_constant_that_no_file_holds_is_refused(value: float | str) -> None:
    with pytest.raises(ConfigError, match="'value'"):
        Constant(value=value)


def test_withholding_clients_send_nothing(hands: MakeHands) -> None:
    assert Withhold().updates(hands([])) == [[None, None], [None, None]]
