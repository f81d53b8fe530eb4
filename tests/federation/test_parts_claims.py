"""What is published of clients with shallow circuits and poor channels, over many seeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qflsec.data import PartitionSpec
from qflsec.federation import Depths, FederationConfig, Parts, Pipeline, RunSpec, Slimmable, Stack, run_batch
from qflsec.models import Layered, build_model
from tests.federation.claims import BREAST_CANCER, told

NONE = Stack(name="none")


def accuracies(pipeline: Pipeline, models: list[Layered], seeds: int) -> torch.Tensor:
    """Test accuracy of the final parameters in each model.

    Shapes:
        returns: ``(seed, model)``
    """
    runs = run_batch(pipeline, NONE, [RunSpec(seed=seed, evaluate="never") for seed in range(seeds)])
    rows = []
    for run in runs:
        test = run.records("test")
        answers = [model(run.models[0], test.features).argmax(dim=-1) for model in models]
        rows.append([float((answer == test.labels).double().mean()) for answer in answers])
    return torch.tensor(rows)


def layered(**keys: object) -> Layered:
    model = build_model({"name": "layered", "n_qubits": 4, "layers": 3, **keys})
    assert isinstance(model, Layered)
    return model


@pytest.mark.slow
def test_losses_of_all_exits_help_the_first_and_cost_the_last() -> None:
    """After Han et al. (Quorus), arXiv:2510.06228, and Park et al. (2025): three clients each of one, two, three layers."""
    model = layered()
    pipeline = Pipeline(
        data=BREAST_CANCER,
        model=model,
        federation=FederationConfig(n_clients=9, rounds=25, local_steps=5, learning_rate=0.5),
    )
    exits = [model.at(depth) for depth in (1, 2, 3)]
    depths = (3, 3, 3, 2, 2, 2, 1, 1, 1)
    every = accuracies(replace(pipeline, parts=Depths(depths=depths)), exits, 48)
    last = accuracies(replace(pipeline, parts=Depths(depths=depths, layerwise=False)), exits, 48)
    alone = replace(
        pipeline,
        data=replace(pipeline.data, members=66),
        federation=replace(pipeline.federation, n_clients=3),
    )
    three = accuracies(alone, exits[2:], 48)
    told("losses of all exits:", every)
    told("last loss alone:", last)
    told("the three deep clients without the others:", three)
    first, _, deepest = told("difference:", every - last)
    assert first[0] > 0
    assert deepest[1] < 0
    assert three.mean() > last[:, 2].mean() > every[:, 2].mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["breast-cancer", "digits"])
def test_parts_that_arrive_pay_where_channels_are_poor(name: str) -> None:
    """Yun et al. (SlimQFL), arXiv:2207.10221: more accurate than all or nothing, mostly in poor channels."""
    model = layered(poles=True)
    pipeline = Pipeline(
        data=replace(
            BREAST_CANCER,
            name=name,
            auxiliary=20,
            test=100,
            classes=("3", "6") if name == "digits" else None,
        ),
        partition=PartitionSpec(kind="dirichlet", alpha=0.5, min_records=4),
        model=model,
        federation=FederationConfig(n_clients=10, rounds=20, local_steps=6, learning_rate=0.5),
    )
    narrow = replace(model, axes="z")

    def run(parts: Parts, trained: Layered = model) -> torch.Tensor:
        return accuracies(replace(pipeline, model=trained, parts=parts), [trained, narrow], 32)

    told(f"{name}, perfect channels:", run(Slimmable(whole=1.0, angles=0.0)))
    gains = {}
    for whole, angles in ((0.5, 0.35), (0.2, 0.7), (0.1, 0.6)):
        slim, nothing = run(Slimmable(whole=whole, angles=angles)), run(Slimmable(whole=whole, angles=0.0))
        told(f"{name}, {whole} whole, {angles} angles alone:", slim)
        told(f"{name}, {whole} whole, else nothing:", nothing)
        # no poles at all: whatever arrives of the angles
        plain = run(Slimmable(whole=whole + angles, angles=0.0), narrow)
        told(f"{name}, a circuit without poles that arrives with {whole + angles}:", plain)
        gains[whole], _ = told(f"{name}, gain of parts:", slim - nothing)
    if name == "breast-cancer":
        assert gains[0.2][0] > 0
        assert gains[0.1][0] > 0
    else:
        assert max(high for _, high in gains.values()) < 0.02
