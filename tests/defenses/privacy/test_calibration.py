"""Noise for a target epsilon over the planned rounds: it meets the target, by not more than 2 % of slack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.base import ConfigError
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import DpFedAvg, DpSgd, LocalDp
from qflsec.federation import Pipeline, RunSpec, Stack, layer_from_config, run_batch
from qflsec.threat import corrupted_clients, honest_but_curious_server, public_final_model

Maker = Callable[..., Pipeline]
SKEWED = PartitionSpec(kind="dirichlet", alpha=0.5, min_records=2)


def spent(result: Any, layer: str, threat: Any, adjacency: str) -> float:
    """The tightest epsilon that the ledger prints for a layer."""
    return min(
        row.epsilon
        for row in result.ledger(threat)
        if row.layer == layer and row.adjacency == adjacency and row.epsilon is not None
    )


@pytest.mark.parametrize(
    ("layer", "threat", "adjacency", "federation", "target"),
    [
        (DpSgd, honest_but_curious_server(), "zero-out", {"local_steps": 2}, 0.5),
        (
            DpSgd,
            honest_but_curious_server(),
            "zero-out",
            {"batch_size": 2, "sampling": "poisson", "partition": SKEWED},
            4.0,
        ),
        (LocalDp, honest_but_curious_server(), "replace-one", {}, 8.0),
        (DpFedAvg, public_final_model(), "zero-out", {}, 3.0),
        (
            DpFedAvg,
            public_final_model(),
            "zero-out",
            {"participation": 0.4, "client_sampling": "poisson"},
            1.0,
        ),
        (
            DpFedAvg,
            corrupted_clients(n=1),
            "zero-out",
            {"participation": 0.4, "client_sampling": "fixed"},
            3.0,
        ),
    ],
    ids=[
        "dp-sgd full",
        "dp-sgd poisson",
        "local-dp",
        "dp-fedavg all",
        "dp-fedavg poisson",
        "dp-fedavg fixed",
    ],
)
def test_runs_meet_their_target_and_not_by_more_than_two_percent(
    make_pipeline: Maker, layer: Any, threat: Any, adjacency: str, federation: dict[str, Any], target: float
) -> None:
    pipeline = make_pipeline(n_clients=5, members=40, rounds=3, **federation)
    stack = Stack.from_layers("dp", [layer(target_epsilon=target, delta=1e-4)])
    result = run_batch(pipeline, stack, [RunSpec(seed=0)])[0]
    epsilon = spent(result, layer.card.name, threat, adjacency)
    assert 0.98 * target <= epsilon <= target


def test_each_run_is_calibrated_by_its_own_clients(make_pipeline: Maker) -> None:
    """Skewed clients and Poisson batches: the rate differs between seeds, and with it the noise."""
    pipeline = make_pipeline(
        n_clients=4, members=40, rounds=2, batch_size=2, sampling="poisson", partition=SKEWED
    )
    stack = Stack.from_layers("dp", [DpSgd(target_epsilon=2.0, delta=1e-4)])
    specs = [RunSpec(seed=seed) for seed in range(2)]
    together = run_batch(pipeline, stack, specs)
    noises = {result.stack.layers[0].to_config()["noise_multiplier"] for result in together}
    smallest = {min(len(rows) for rows in result.clients) for result in together}
    assert len(noises) == len(smallest) > 1
    for spec, beside in zip(specs, together, strict=True):
        assert torch.equal(run_batch(pipeline, stack, [spec])[0].params, beside.params)


def test_more_rounds_need_more_noise(make_pipeline: Maker) -> None:
    for layer in (DpSgd, LocalDp, DpFedAvg):
        noises = [
            layer(target_epsilon=1.0)
            .calibrated(make_pipeline(rounds=rounds), [10, 10, 10])
            .to_config()["noise_multiplier"]
            for rounds in (1, 4, 16)
        ]
        assert noises == sorted(set(noises))
        # composed Gaussians: the noise grows like the root of the rounds
        assert noises[2] / noises[1] == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("layer", [DpSgd, LocalDp, DpFedAvg])
def test_a_target_is_public_configuration(layer: Any) -> None:
    wanted = layer(target_epsilon=2.0)
    assert wanted.noise_multiplier is None
    assert layer_from_config(wanted.to_config()) == wanted
    assert layer().noise_multiplier == 1.0
    with pytest.raises(ConfigError, match="exclude each other"):
        layer(noise_multiplier=1.0, target_epsilon=2.0)
