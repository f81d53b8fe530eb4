"""What parts that clients keep are worth, beside each client alone and sharing everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qflsec.cli.grids import federation_grid
from qflsec.data import PartitionSpec
from qflsec.defenses.robust import NormBound
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab import assemble, build, from_json, parse_spec, run_matrix, to_json
from qflsec.lab.worlds.federation import own
from qflsec.lab.worlds.federation.own import alone, own_mix, own_mixes
from qflsec.models import Execution, build_model
from qflsec.report import render_report
from qflsec.threat import ThreatModel, client
from tests.federation.claims import BREAST_CANCER, told

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
SPEC = """
name = "own"
seeds = [0, 1]
[pipelines.kept]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 24, nonmembers = 0, auxiliary = 4, test = 20 }
model = { name = "layered", n_qubits = 2, layers = 2 }
federation = { n_clients = 2, rounds = 2, local_steps = 2 }
personal = ["layer.2"]
[pipelines.shared]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 24, nonmembers = 0, auxiliary = 4, test = 20 }
model = { name = "layered", n_qubits = 2, layers = 2 }
federation = { n_clients = 2, rounds = 2, local_steps = 2 }
[stacks]
none = []
[threats.first]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "sign-flip"
label = "kept"
pipeline = "kept"
threat = "first"
[[attacks]]
name = "sign-flip"
label = "shared"
pipeline = "shared"
threat = "first"
"""


def kept(make_pipeline: Maker) -> Pipeline:
    pipeline = make_pipeline(
        members=24,
        n_qubits=2,
        local_steps=2,
        partition=PartitionSpec(kind="dirichlet", alpha=0.5, min_records=2),
    )
    model = build_model({"name": "layered", "n_qubits": 2, "layers": 2})
    return replace(pipeline, model=model, personal=("layer.2",))


def test_alone_is_gradient_descent_from_the_same_model_and_nothing_is_sent(make_pipeline: Maker) -> None:
    pipeline = alone(kept(make_pipeline))
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    config = pipeline.federation
    for index in range(3):
        records, params = run.client_records(index), run.initial.double()
        for _ in range(config.rounds * config.local_steps):
            leaf = params.clone().requires_grad_()
            logits = pipeline.model(leaf, records.features.double(), execution=Execution(dtype="complex128"))
            (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, records.labels), leaf)
            params = params - config.learning_rate * gradient
        assert torch.allclose(run.model_of(index).double(), params, atol=3e-6)
        neighbour = ThreatModel(name="peer", corrupted=frozenset({client((index + 1) % 3)}))
        assert not [item for item in run.view(neighbour).readable("update") if index in item.named]


def test_the_own_mix_weighs_classes_as_each_client_has_them(make_pipeline: Maker) -> None:
    pipeline = kept(make_pipeline)
    run = run_batch(pipeline, NONE, [RunSpec(seed=1)])[0]
    test, found = run.records("test"), []
    for index in range(3):
        labels = run.client_records(index).labels.tolist()
        answers = pipeline.model(run.models[index], test.features).argmax(dim=-1)
        # every training record stands for the test records of its class
        each = [float((answers == label)[test.labels == label].double().mean()) for label in labels]
        found.append(sum(each) / len(each))
    assert own_mix(run) == pytest.approx(sum(found) / 3)
    mixes = own_mixes(run)
    assert set(mixes) == {"personal", "alone", "shared"}
    assert mixes["personal"] == own_mix(run)
    shared = replace(pipeline, personal=())
    assert mixes["shared"] == own_mix(run_batch(shared, NONE, [RunSpec(seed=1)])[0])
    assert own_mixes(run_batch(shared, NONE, [RunSpec(seed=1)])[0]) == {}


def test_what_is_compared_with_is_trained_once_for_all_stacks(
    make_pipeline: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for all parts that clients may keep; another seed or learning rate is another training."""
    pipeline, trained = kept(make_pipeline), []

    def counted(which: Pipeline, *rest: Any) -> list[RunResult]:
        trained.append(which)
        return run_batch(which, *rest)

    monkeypatch.setattr(own, "run_batch", counted)
    bounded = Stack.from_layers("bounded", [NormBound()])
    spec = RunSpec(seed=7)
    runs = [run_batch(pipeline, stack, [spec])[0] for stack in (NONE, bounded)]
    runs.append(run_batch(replace(pipeline, personal=("layer.1",)), NONE, [spec])[0])
    mixes = [own_mixes(run) for run in runs]
    assert len(trained) == 2
    assert len({(each["alone"], each["shared"]) for each in mixes}) == 1
    faster = replace(pipeline, federation=replace(pipeline.federation, learning_rate=0.9))
    own_mixes(run_batch(faster, NONE, [spec])[0])
    own_mixes(run_batch(pipeline, NONE, [RunSpec(seed=8)])[0])
    assert len(trained) == 6


def test_local_training_stands_beside_a_personal_pipeline(tmp_path: Path) -> None:
    world = build(parse_spec(SPEC, base=tmp_path))
    list(run_matrix(world, tmp_path / "s.sqlite", jobs=1))
    result = assemble(world, tmp_path / "s.sqlite")
    summary = result.summaries["none"].by_pipeline
    assert set(summary["kept"].own) == {"personal", "alone", "shared"}
    assert not summary["shared"].own
    again = from_json(to_json(result))
    assert again.summaries["none"].by_pipeline["kept"].own == summary["kept"].own
    heads = [row.head[0].text for row in federation_grid(result).rows]
    assert heads.count("the same, each client alone") == 1
    assert "the same, each client alone" in render_report(result)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "personal"),
    [
        ({"name": "layered", "n_qubits": 4, "layers": 3}, "layer.3"),
        ({"name": "hybrid", "n_qubits": 4, "layers": 2}, "after"),
    ],
)
def test_what_a_part_of_ones_own_gains(model: dict[str, object], personal: str) -> None:
    """Shi et al. (2024), arXiv:2410.02547: a personal layer gains over none. What each client alone reaches is not stated there.

    Ten clients, Dirichlet 0.2, twenty records each, 24 seeds; differences seed by seed.
    """
    pipeline = Pipeline(
        data=BREAST_CANCER,
        partition=PartitionSpec(kind="dirichlet", alpha=0.2, min_records=4),
        model=build_model({**model, "n_features": 4}),
        federation=FederationConfig(n_clients=10, rounds=25, local_steps=5, learning_rate=0.5),
        personal=(personal,),
    )
    runs = run_batch(pipeline, NONE, [RunSpec(seed=seed, evaluate="never") for seed in range(24)])
    found = torch.tensor([list(own_mixes(run).values()) for run in runs])  # personal, alone, shared
    gains = torch.stack([found[:, 0] - found[:, 2], found[:, 0] - found[:, 1]], dim=1)
    told(f"{personal}: kept part, each alone, all shared:", found)
    told(f"{personal}: kept less shared, kept less alone:", gains)
    assert abs(gains[:, 1].mean()) < 0.04
