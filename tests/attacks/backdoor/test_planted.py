"""Backdoors that are planted in parts, in quiet parameters, in the tail, or under right labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.backdoor import (
    CleanLabel,
    DistributedTrigger,
    EdgeCase,
    FeatureTrigger,
    Neurotoxin,
    PoisonedBackdoor,
)
from qflsec.attacks.backdoor.edge_case import in_the_tail
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.circuits import NoiseModel
from qflsec.federation import FederationConfig, Hands, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor, trigger_success
from qflsec.models import Execution
from qflsec.threat import Records, corrupted_clients

MakeHands = Callable[..., Hands]
Seen = list[tuple[torch.Tensor, torch.Tensor]]


def test_outside_its_rounds_a_client_is_honest(hands: MakeHands) -> None:
    attack = FeatureTrigger(first_round=2, last_round=3)
    for round_index, acts in enumerate((False, False, True, True, False)):
        held = hands([], round=round_index)
        assert (attack.updates(held) is held.honest) == (not acts)
    assert all(FeatureTrigger(first_round=1).acts(round_index) for round_index in (1, 9))


def test_the_boost_counts_the_servers_rate_and_who_is_drawn(hands: MakeHands) -> None:
    for training, expected in (
        (FederationConfig(n_clients=10), 5.0),
        (FederationConfig(n_clients=10, server_learning_rate=0.5), 10.0),
        (FederationConfig(n_clients=10, participation=0.5), 5.0),
        (FederationConfig(n_clients=10, participation=0.2), 2.0),
    ):
        sent = FeatureTrigger().updates(hands([], training=training))
        assert torch.equal(sent, torch.full((2, 2, 36), expected))  # type: ignore[arg-type]


def test_each_client_plants_its_own_part(hands: MakeHands) -> None:
    seen: Seen = []
    held = hands(seen)
    attack = DistributedTrigger(features=(0, 2, 3), value=2.5, target_class=1, poison_fraction=1.0)
    attack.updates(held)
    features, _ = seen[0]
    for place, own in enumerate(((0, 3), (2,))):
        present = held.mask[:, place] > 0
        marked = (features[:, place] == 2.5)[present]
        assert bool(marked[:, list(own)].all())
        others = [index for index in range(4) if index not in own]
        assert not bool(marked[:, others].any())
    whole = attack.trigger(torch.rand(3, 4), torch.Generator())
    assert bool((whole[:, [0, 2, 3]] == 2.5).all())


def test_neurotoxin_leaves_alone_what_moved_most_by_magnitude(hands: MakeHands) -> None:
    """The largest steps are negative: by the signed value they would be the smallest."""
    attack = Neurotoxin(ratio=0.25)
    first = hands([], states=(None, None))
    moved = attack.updates(first)
    assert isinstance(moved, tuple)
    assert torch.equal(moved[0], torch.full((2, 2, 36), 5.0)), "no step is known yet"  # type: ignore[arg-type]
    step = torch.zeros(36)
    step[:9] = -torch.linspace(1.0, 2.0, 9)
    step[9:] = 0.1
    second = hands([], states=tuple(moved[1]), base=first.base + step)
    sent, _ = attack.updates(second)  # type: ignore[misc]
    assert isinstance(sent, torch.Tensor)
    assert not bool(sent[..., :9].any())
    assert bool((sent[..., 9:] == 5.0).all())
    assert bool(Neurotoxin(ratio=0.0).quiet(step[None]).all())
    idle = hands([], states=tuple(moved[1]), base=first.base + step, round=5)
    late, _ = Neurotoxin(last_round=4).updates(idle)  # type: ignore[misc]
    assert torch.equal(late, idle.honest)  # type: ignore[arg-type]


def test_the_tail_by_counting() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 3)) * [1.0, 5.0, 0.2]
    labels = np.array([0] * 14 + [1] * 10 + [2] * 6)
    found = in_the_tail(torch.from_numpy(features), torch.from_numpy(labels), 2, 0.2).numpy()
    for value, count in ((0, 3), (1, 2)):
        own = features[labels == value]
        away = np.linalg.norm((own - own.mean(axis=0)) / own.std(axis=0), axis=1)
        expected = np.zeros(len(own), dtype=bool)
        expected[np.argsort(-away)[:count]] = True
        assert np.array_equal(found[labels == value], expected)
    assert not found[labels == 2].any()
    same = torch.ones(4, 2)
    assert int(in_the_tail(same, torch.zeros(4, dtype=torch.long), 1, 0.2).sum()) == 1, "nothing spreads"


def test_edge_cases_are_copies_of_the_pooled_tail(hands: MakeHands) -> None:
    seen: Seen = []
    held = hands(seen)
    attack = EdgeCase(target_class=1, noise=0.0, poison_fraction=0.5, max_norm=2.0)
    sent = attack.updates(held)
    assert isinstance(sent, torch.Tensor)
    assert torch.allclose(sent.norm(dim=-1), torch.full((2, 2), 2.0))
    features, labels = seen[0]
    for lane in range(2):
        present = held.mask[lane] > 0
        own, classes = held.features[lane][present], held.labels[lane][present]
        pool = own[in_the_tail(own, classes, 1, 0.2)]
        changed = (features[lane] != held.features[lane]).any(dim=-1)
        assert int(changed.sum()) >= 1
        for row in features[lane][changed]:
            assert any(torch.equal(row, other) for other in pool)
        assert bool((labels[lane][changed] == 1).all())
        assert not bool(changed[~present].any())
    records = Records(features=torch.rand(20, 4), labels=torch.arange(20) % 2)
    assert torch.equal(attack.victims(records), in_the_tail(records.features, records.labels, 1, 0.2))


def test_without_a_tail_nothing_is_replaced(hands: MakeHands) -> None:
    seen: Seen = []
    held = hands(seen, labels=torch.ones(2, 2, 6, dtype=torch.long))
    EdgeCase(target_class=1).updates(held)
    assert torch.equal(seen[0][0], held.features)


def test_a_clean_label_is_never_wrong(hands: MakeHands) -> None:
    seen: Seen = []
    held = hands(seen, received=torch.rand(2, 2, 36, generator=torch.Generator().manual_seed(1)))
    attack = CleanLabel(target_class=1, features=(1,), value=2.5, epsilon=0.5, poison_fraction=1.0)
    attack.updates(held)
    features, labels = seen[0]
    assert torch.equal(labels, held.labels)
    changed = (features != held.features).any(dim=-1)
    eligible = (held.labels == 1) & (held.mask > 0)
    assert torch.equal(changed, eligible)
    assert bool((features[changed][:, 1] == 2.5).all())
    others = [0, 2, 3]
    moved = (features - held.features)[changed][:, others].abs()
    assert 0 < float(moved.max()) <= 0.5 + 1e-5
    # the received model is less sure of what was moved, before the trigger is on it
    away = attack._moved(held)
    loss = [
        held.model.loss.per_sample(held.model(held.received[..., None, :], one), held.labels)
        for one in (held.features, away)
    ]
    assert float((loss[1] - loss[0])[eligible].mean()) > 0
    CleanLabel(target_class=1, features=(1,), epsilon=0.0).updates(hands(seen))
    assert bool(((seen[1][0] != held.features).sum(dim=-1) <= 1).all())


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureTrigger(first_round=-1),
        lambda: FeatureTrigger(first_round=3, last_round=2),
        lambda: DistributedTrigger(features=(1,)),
        lambda: Neurotoxin(ratio=1.0),
        lambda: EdgeCase(tail=0.0),
        lambda: EdgeCase(noise=-1.0),
        lambda: EdgeCase(max_norm=0.0),
        lambda: CleanLabel(epsilon=-1.0),
        lambda: CleanLabel(steps=0),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()


def test_one_client_divides_no_trigger(pipeline: Callable[..., Pipeline]) -> None:
    small = pipeline(members=20, rounds=1)
    with pytest.raises(IncompatibleAttack, match="divides"):
        DistributedTrigger().check(small, corrupted_clients(n=1))
    DistributedTrigger().check(small, corrupted_clients(n=2))


SEEDS = 6


def advantages(pipeline: Pipeline, attack: PoisonedBackdoor, layers: Stack) -> list[float]:
    seeds, threat = range(SEEDS), corrupted_clients(n=2)
    honest = [RunSpec(seed=seed, evaluate="never") for seed in seeds]
    attacked = [RunSpec(seed=seed, adversary=attack, threat=threat, evaluate="never") for seed in seeds]
    runs = run_batch(pipeline, layers, [*honest, *attacked])
    assert {run.outcome for run in runs} == {"completed"}
    return [score_backdoor(attack, runs[i + SEEDS], runs[i], seed=i).advantage for i in seeds]


@pytest.mark.parametrize(
    "attack",
    [
        DistributedTrigger(target_class=0, features=(1, 3)),
        Neurotoxin(target_class=0, features=(1,)),
        EdgeCase(target_class=0),
        CleanLabel(target_class=0, features=(1,)),
    ],
    ids=lambda attack: attack.card.name,
)
def test_the_undefended_mean_learns_it(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack], attack: PoisonedBackdoor
) -> None:
    made = pipeline(members=100, rounds=20, local_steps=2)
    assert mean_over_seeds(advantages(made, attack, stack())).low > 0


def test_one_round_is_enough_against_the_mean_and_a_norm_bound_stops_it(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    made = pipeline(members=100, rounds=20, local_steps=2)
    shot = FeatureTrigger(target_class=0, features=(1,), first_round=19, last_round=19, boost=10.0)
    assert mean_over_seeds(advantages(made, shot, stack())).low > 0
    assert max(advantages(made, shot, stack("norm-bound"))) < 0.15
    assert replace(shot, first_round=0) != shot


def test_what_survives_noise_and_shots(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    """Exact execution gives the score's own figure; noise that leaves nothing leaves chance, trigger or not."""
    attack = FeatureTrigger(target_class=0, features=(1,))
    made = pipeline(members=100, rounds=20, local_steps=2)
    specs = [
        RunSpec(seed=1, evaluate="never"),
        RunSpec(seed=1, adversary=attack, threat=corrupted_clients(n=2), evaluate="never"),
    ]
    honest, attacked = run_batch(made, stack(), specs)
    score = score_backdoor(attack, attacked, honest, seed=1).metrics["success"]
    exact = trigger_success(attack, attacked)
    assert exact.value == score.value > 0.9
    assert exact.baseline < 0.4
    shots = trigger_success(attack, attacked, execution=Execution(shots=100))
    assert shots.value > 0.8
    one = trigger_success(attack, attacked, execution=Execution(shots=1))
    assert one.value < shots.value
    faint = NoiseModel(kind="global-depolarizing", p=0.3, where="measurement")
    assert trigger_success(attack, attacked, execution=Execution(noise=faint)).value == exact.value
