"""A pipeline over Flower's messages gives what the training loop gives: to the last bit where no secrets enter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qflsec.attacks.poisoning import ScaledSignFlip
from qflsec.defenses.compression import UpdateQuantization
from qflsec.defenses.privacy import ClientClip, DpFedAvg, LocalDp
from qflsec.defenses.robust import Krum, Median, NormBound
from qflsec.federation import FedAvg, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.flower.client import ClientSide
from qflsec.flower.grid import InProcessGrid
from qflsec.flower.pipeline_app import PipelineApp
from qflsec.flower.plan import Plan
from qflsec.flower.strategy import ServerSide
from qflsec.protocols.secagg import HeBfv, HeMasked, HeThreshold, Masked, SecAgg
from qflsec.threat import corrupted_clients

SEED = 3
PLAIN = {
    "none": (),
    "clip + krum": (ClientClip(clip_norm=0.05), Krum()),
    "local-dp": (LocalDp(clip_norm=0.1, noise_multiplier=0.3),),
    "quantised + median": (UpdateQuantization(), Median()),
    "norm bound + dp-fedavg": (
        NormBound(max_norm=0.2),
        DpFedAvg(clip_norm=0.1, noise_multiplier=0.5, large_delta=True),
    ),
}
SEALED = {
    "masked": (Masked(),),
    "secagg": (SecAgg(),),
    "he-bfv": (HeBfv(),),
    "he-masked": (HeMasked(),),
    "he-threshold": (HeThreshold(),),
}


def over_flower(pipeline: Pipeline, layers: tuple[Any, ...], **more: Any) -> tuple[torch.Tensor, ServerSide]:
    config = pipeline.federation
    plan = Plan(
        stack=Stack.from_layers("test", layers),
        n_clients=config.n_clients,
        rounds=config.rounds,
        participants=config.n_participants,
        declared_corrupted=config.declared_corrupted,
        replies="update",
        seed=SEED,
    )
    app = PipelineApp(pipeline=pipeline, seed=SEED)
    liar = more.get("adversary")
    sides = [ClientSide(plan, adversary=liar if index == 0 else None) for index in range(config.n_clients)]
    apps = [app.client(side) for side in sides]
    grid = InProcessGrid(lambda message, context: apps[context.node_id - 1000](message, context), len(apps))
    side = ServerSide(plan, ledger=more.get("ledger"))
    result = side.start(grid, app.arrays, num_rounds=config.rounds)
    return torch.from_numpy(result.arrays["params"].numpy().copy()), side


def in_the_loop(pipeline: Pipeline, layers: tuple[Any, ...], **more: Any) -> RunResult:
    spec = RunSpec(seed=SEED, evaluate="never", **more)
    return run_batch(pipeline, Stack.from_layers("test", layers), [spec])[0]


@pytest.mark.parametrize("layers", PLAIN.values(), ids=PLAIN)
def test_without_secrets_the_models_are_equal(make_pipeline: Callable[..., Pipeline], layers: Any) -> None:
    pipeline = make_pipeline(n_clients=5, rounds=2, declared_corrupted=1, participation=0.8)
    params, side = over_flower(pipeline, layers)
    assert side.outcome == "completed"
    assert [len(record.ids) for record in side.records] == [4, 4]
    assert torch.equal(params, in_the_loop(pipeline, layers).params)


@pytest.mark.parametrize("layers", SEALED.values(), ids=SEALED)
def test_with_secrets_they_differ_by_the_grid_of_fixed_point(
    make_pipeline: Callable[..., Pipeline], layers: Any
) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    config = pipeline.federation
    params, side = over_flower(pipeline, layers)
    assert side.outcome == "completed"
    found = in_the_loop(pipeline, layers).params
    assert not torch.equal(found, torch.zeros_like(found))
    # each of the roundings of either run is off by less than a step of the grid, times its client's weight
    roundings = 2 * config.rounds * config.n_clients
    assert float((params - found).abs().max()) < roundings * layers[0].grid / 30 + 1e-6


def test_a_corrupted_client_is_that_of_the_catalogue(make_pipeline: Callable[..., Pipeline]) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    attack = ScaledSignFlip(scale=10.0)
    params, _ = over_flower(pipeline, (FedAvg(),), adversary=attack)
    attacked = in_the_loop(pipeline, (FedAvg(),), adversary=attack, threat=corrupted_clients(n=1))
    assert torch.equal(params, attacked.params)
    assert not torch.equal(params, in_the_loop(pipeline, (FedAvg(),)).params)
