"""Mimic, free riders, sybils, replacement and label flips: what they send."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from qflsec.attacks.poisoning import (
    FreeRider,
    Gaussian,
    LabelFlip,
    Mimic,
    ModelReplacement,
    Sybil,
    TargetedLabelFlip,
)
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import FederationConfig, Hands, Pipeline
from qflsec.models import build_model
from qflsec.threat import Records, corrupted_clients

MakeHands = Callable[..., Hands]


def moved(value: object) -> tuple[torch.Tensor, list[object]]:
    assert isinstance(value, tuple)
    return value


def test_mimic_copies_the_client_farthest_along_the_largest_variance(
    informed: MakeHands,
) -> None:
    """Against the leading eigenvector of the covariance, which the running iteration must have found."""
    generator = torch.Generator().manual_seed(5)
    axis = torch.zeros(36)
    axis[7] = 1.0
    places = torch.tensor([0.1, -0.2, 0.3, 0.2, -3.0, 0.1, 0.2, 0.4])
    attack = Mimic(warm_up=4)
    states: list[object] = [attack.start(36)] * 2
    for round_index in range(6):
        noise = 0.05 * torch.randn(2, 8, 36, generator=generator)
        honest = places[None, :, None] * axis + noise
        held = informed(honest, round_index=round_index, states=tuple(states))
        values, states = moved(attack.updates(held))
        if round_index < 3:
            assert torch.equal(values, held.honest)
            continue
        rows = honest[0].double().numpy()
        centred = rows - rows.mean(axis=0)
        leading = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        assert int(np.abs(rows @ leading).argmax()) == 4
        assert torch.equal(values, honest[:, 4:5].expand_as(values))


def test_mimic_needs_somebody_to_copy(pipeline: Callable[..., Pipeline]) -> None:
    small = pipeline(members=20, rounds=1)
    with pytest.raises(IncompatibleAttack, match="sees none"):
        Mimic().check(small, corrupted_clients(n=2))
    Mimic().check(small, corrupted_clients(n=2, knows=("honest-updates",)))


def test_a_plain_free_rider_sends_zero_and_one_by_delta_the_last_step(hands: MakeHands) -> None:
    first, second = torch.rand(2, 2, 36), torch.rand(2, 2, 36)
    plain, _ = moved(FreeRider().updates(hands([], base=first, states=(None, None))))
    assert not plain.any()
    attack = FreeRider(kind="delta")
    sent, kept = moved(attack.updates(hands([], base=first, states=(None, None))))
    assert not sent.any()
    sent, _ = moved(attack.updates(hands([], base=second, states=tuple(kept), round=1)))
    assert torch.equal(sent, second - first)


def test_a_disguised_free_riders_noise_shrinks(hands: MakeHands) -> None:
    lengths = []
    for round_index in (0, 99):
        held = hands([], states=(None, None), round=round_index)
        sent, _ = moved(FreeRider(noise=0.5, decay=1.0).updates(held))
        lengths.append(float(sent.square().mean().sqrt()))
        assert not torch.equal(sent[0], sent[1])
    assert lengths[0] == pytest.approx(0.5, rel=0.2)
    assert lengths[1] == pytest.approx(0.005, rel=0.2)


def test_gaussian_noise_has_its_deviation_and_ignores_the_records(hands: MakeHands) -> None:
    sent = Gaussian(sigma=3.0).updates(hands([]))
    again = Gaussian(sigma=3.0).updates(hands([], honest=torch.zeros(2, 2, 36)))
    assert isinstance(sent, torch.Tensor)
    assert torch.equal(sent, again)  # type: ignore[arg-type]
    assert float(sent.std()) == pytest.approx(3.0, rel=0.2)


def test_the_noise_between_sybils_cancels_in_the_weighted_mean(hands: MakeHands) -> None:
    def train(_features: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.ones(2, 36), 2 * torch.ones(2, 36)], dim=1)

    held = hands([], train=train)
    quiet = Sybil().updates(held)
    assert isinstance(quiet, torch.Tensor)
    assert torch.allclose(quiet, torch.full((2, 2, 36), (6 * 1 + 4 * 2) / 10))
    loud = Sybil(noise=3.0, boost=2.0).updates(hands([], train=train))
    assert isinstance(loud, torch.Tensor)
    assert not torch.allclose(loud[:, 0], loud[:, 1])
    weights = torch.tensor([0.6, 0.4])[None, :, None]
    assert torch.allclose((loud * weights).sum(dim=1), torch.full((2, 36), 2 * 1.4), atol=1e-5)
    cosine = torch.cosine_similarity(loud[:, 0], loud[:, 1], dim=-1)
    assert float(cosine.max()) < 0


def test_the_replacement_makes_the_mean_the_adversarys_model(hands: MakeHands) -> None:
    """Two of ten equal clients, whose own update is u; the honest ones have converged: the model moves by u."""
    for rate in (1.0, 0.5):
        training = FederationConfig(n_clients=10, server_learning_rate=rate)
        sent = ModelReplacement().updates(hands([], training=training))
        assert isinstance(sent, torch.Tensor)
        mean = torch.cat([sent, torch.zeros(2, 8, 36)], dim=1).mean(dim=1)
        assert torch.allclose(rate * mean, torch.ones(2, 36))
    held = hands([])
    assert ModelReplacement(round=3).updates(held) is held.honest
    assert torch.equal(ModelReplacement(boost=2.0, round=0).updates(held), torch.full((2, 2, 36), 2.0))  # type: ignore[arg-type]


def test_random_flips_of_a_fraction(hands: MakeHands) -> None:
    three = build_model({"name": "vqc", "n_qubits": 4, "layers": 3, "n_classes": 3})
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen, model=three, n_records=600)
    held.mask[:, 1, 4:] = 1
    LabelFlip(rule="random").updates(held)
    wrong = seen[0][1]
    assert bool((wrong != held.labels).all())
    shifts = (wrong - held.labels) % 3
    assert float((shifts == 1).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_half_of_the_labels(hands: MakeHands) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen)
    LabelFlip(fraction=0.5).updates(held)
    changed = seen[0][1] != held.labels
    assert changed.sum(dim=-1).tolist() == [[3, 2], [3, 2]]  # half of six, half of four records
    assert not bool(changed[:, 1, 4:].any()), "padding is no record"


def test_a_targeted_flip_mislabels_one_class_and_is_judged_by_it(hands: MakeHands) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    held = hands(seen)
    attack = TargetedLabelFlip(source_class=1, target_class=0, boost=2.0)
    assert torch.equal(attack.updates(held), torch.full((2, 2, 36), 2.0))  # type: ignore[arg-type]
    assert not bool(seen[0][1].any())
    records = Records(features=torch.rand(4, 4), labels=torch.tensor([0, 1, 2, 1]))
    assert attack.victims(records).tolist() == [False, True, False, True]
    assert torch.equal(attack.trigger(records.features, torch.Generator()), records.features)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Mimic(warm_up=0),
        lambda: FreeRider(kind="lazy"),  # type: ignore[arg-type]
        lambda: FreeRider(noise=-1.0),
        lambda: Gaussian(sigma=0.0),
        lambda: Sybil(noise=-1.0),
        lambda: Sybil(boost=0.0),
        lambda: ModelReplacement(boost=0.0),
        lambda: ModelReplacement(round=-1),
        lambda: LabelFlip(fraction=0.0),
        lambda: TargetedLabelFlip(source_class=1, target_class=1),
        lambda: TargetedLabelFlip(boost=-1.0),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_a_class_that_the_model_lacks(pipeline: Callable[..., Pipeline]) -> None:
    with pytest.raises(IncompatibleAttack, match="source_class"):
        TargetedLabelFlip(source_class=2).check(pipeline(members=20, rounds=1), corrupted_clients(n=1))
