"""Erasing a client: a replay written out, what of the client is left, and what stands beside it as oracle and control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import Erasure
from qflsec.federation import FederationConfig, Pipeline, RoundUpdates, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor
from qflsec.models import build_model
from qflsec.threat import corrupted_clients

N, D, AFTER, STEPS, ROUNDS = 4, 5, 7, 3, 13
GONE = 2


def sent(seed: int) -> list[dict[int, np.ndarray[Any, Any]]]:
    """Updates by round and client; some clients are missing in some rounds, and one sends zeros."""
    rng = np.random.default_rng(seed)
    rounds = [
        {one: rng.normal(size=D) for one in range(N) if rng.uniform() < 0.8 or one == 0}
        for _ in range(ROUNDS)
    ]
    rounds[AFTER + 1][0] = np.zeros(D)
    return rounds


def replayed(rounds: list[dict[int, np.ndarray[Any, Any]]], *, scaled: bool) -> np.ndarray[Any, Any]:
    """The final model, with weights 1, 2, 3, ... of the clients."""
    model = np.zeros(D)
    cuts = [0, 2, 4, 7]  # of seven rounds in three parts
    for index in range(AFTER + 1, ROUNDS):
        rows, weights = [], []
        for one, update in rounds[index].items():
            if one == GONE:
                continue
            old = []
            if scaled and index <= AFTER + STEPS:
                part = index - AFTER - 1
                old = [r[one] for r in rounds[cuts[part] : cuts[part + 1]] if one in r]
            norm = np.linalg.norm(update)
            rows.append(update * np.linalg.norm(sum(old)) / norm if old and norm else update)
            weights.append(one + 1.0)
        model = model + np.average(rows, axis=0, weights=weights)
    return model


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_the_history_is_replayed_without_the_client(
    seed: int, scaled: bool, round_updates: Callable[..., RoundUpdates]
) -> None:
    layer, rounds = Erasure(client=GONE, after=AFTER, steps=STEPS, calibrated=scaled), sent(seed)
    model, state = torch.zeros(D, dtype=torch.float64), layer.start(D)
    for index, updates in enumerate(rounds):
        ids = tuple(updates)
        batch = round_updates(
            torch.from_numpy(np.array(list(updates.values()))),
            [one + 1.0 for one in ids],
            ids=ids,
            round=index,
            broadcast=model,
        )
        step, state = layer.aggregate(batch, state)
        model = model + step
        if index == AFTER - 1:
            means = [
                np.average(list(r.values()), axis=0, weights=[one + 1.0 for one in r]) for r in rounds[:AFTER]
            ]
            assert np.allclose(model, sum(means)), "until then an ordinary mean"
        if index == AFTER:
            assert np.allclose(model, 0.0, atol=1e-12), "back to where it began"
    assert np.allclose(model, replayed(rounds, scaled=scaled), atol=1e-12)


def test_a_round_of_nobody_else_leaves_the_model(round_updates: Callable[..., RoundUpdates]) -> None:
    layer = Erasure(client=3, after=0)
    step, _ = layer.aggregate(round_updates(torch.ones(1, 2), ids=(3,)), layer.start(2))
    assert not step.any()


PIPELINE = Pipeline(
    data=DataSpec(name="breast-cancer", n_features=4, members=100, nonmembers=0, auxiliary=50, test=150),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    federation=FederationConfig(n_clients=10, rounds=20, local_steps=2, learning_rate=0.5),
)


def test_a_liars_trigger_is_forgotten_with_it() -> None:
    """Retrained, nothing depends on the client, to the last bit; replayed, lengths do, and the trigger is gone all the same."""
    attack = FeatureTrigger(target_class=0, features=(1,), boost=10.0)
    specs = [
        RunSpec(seed=0, evaluate="last"),
        RunSpec(seed=0, evaluate="last", adversary=attack, threat=corrupted_clients(n=1)),
    ]
    made = {
        name: run_batch(PIPELINE, Stack.from_layers(name, layers), specs)
        for name, layers in {
            "none": [],
            "retrained": [Erasure(after=0)],
            "erased": [Erasure()],
            "restarted": [Erasure(calibrated=False)],
        }.items()
    }
    advantage = {
        name: score_backdoor(attack, lied, honest, seed=0).advantage for name, (honest, lied) in made.items()
    }
    assert advantage["none"] > 0.9
    assert all(abs(advantage[name]) < 0.1 for name in ("retrained", "erased", "restarted"))
    for name, equal in (("none", False), ("retrained", True), ("erased", False), ("restarted", True)):
        honest, lied = made[name]
        assert torch.allclose(honest.params, lied.params, atol=1e-5) is equal, name
    assert torch.equal(made["retrained"][0].params, made["retrained"][1].params)
    moved = {name: float((honest.params - honest.initial).norm()) for name, (honest, _) in made.items()}
    assert moved["restarted"] < 0.8 * moved["retrained"], "the control: so few rounds do not get as far"
    assert abs(moved["erased"] - moved["retrained"]) < abs(moved["restarted"] - moved["retrained"])


def test_what_it_refuses() -> None:
    for bad in ({"client": -1}, {"after": -1}, {"steps": 0}, {"after": 3, "steps": 4}):
        with pytest.raises(ConfigError):
            Erasure(**bad)
    Erasure(after=0).check(PIPELINE)
    Erasure(after=14, steps=5).check(PIPELINE)
    for layer, match in ((Erasure(after=15, steps=5), "20 rounds"), (Erasure(client=10), "there is not")):
        with pytest.raises(IncompatibleStack, match=match):
            layer.check(PIPELINE)
    slow = replace(PIPELINE, federation=replace(PIPELINE.federation, server_learning_rate=0.5))
    with pytest.raises(IncompatibleStack, match="one step"):
        Erasure().check(slow)
