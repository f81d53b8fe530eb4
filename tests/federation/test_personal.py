"""Clients that keep a part of the model: a local head against a loop written out, and who sees it (nobody)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.attacks import attack_from_config
from qflsec.base import ConfigError
from qflsec.federation import Pipeline, Ring, RunSpec, Stack, Tree, run_batch
from qflsec.models import Execution, build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import PUBLIC, SERVER, WIRE, ThreatModel, client, corrupted_clients

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
HYBRID = {"name": "hybrid", "n_qubits": 4, "layers": 1, "n_features": 4, "n_classes": 2}


def with_head(make_pipeline: Maker, **federation: object) -> Pipeline:
    pipeline = make_pipeline(members=24, n_clients=3, local_steps=2, rounds=3, **federation)
    return replace(pipeline, model=build_model(HYBRID), personal=("after",))


def local(
    pipeline: Pipeline, params: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    for _ in range(pipeline.federation.local_steps):
        leaf = params.clone().requires_grad_()
        logits = pipeline.model(leaf, features.double(), execution=Execution(dtype="complex128"))
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), leaf)
        params = params - pipeline.federation.learning_rate * gradient
    return params


def test_local_heads_equal_a_loop_written_out(make_pipeline: Maker) -> None:
    """FedPer (Arivazhagan et al. 2019): shared base averaged, heads never."""
    pipeline = with_head(make_pipeline)
    run = run_batch(pipeline, NONE, [RunSpec(seed=3)])[0]
    names = [name for name, shape in pipeline.model.layout for _ in range(math.prod(shape))]
    head = torch.tensor([name.startswith("after") for name in names])
    models = [run.initial.double() for _ in range(3)]
    for _ in range(3):
        trained = [
            local(pipeline, m, run.dataset.features[rows], run.dataset.labels[rows])
            for m, rows in zip(models, run.clients, strict=True)
        ]
        weights = torch.tensor([float(len(rows)) for rows in run.clients], dtype=torch.float64)
        mean = (torch.stack(trained) * weights[:, None]).sum(dim=0) / weights.sum()
        models = [torch.where(head, own, mean) for own in trained]
    assert torch.allclose(run.models.double(), torch.stack(models), atol=3e-6)
    assert torch.allclose(run.params.double(), models[0][~head], atol=3e-6)
    assert not torch.allclose(run.models[0][head], run.models[1][head], atol=1e-3), "heads must differ"
    own = [
        float(
            (pipeline.model(m, run.records("test").features).argmax(-1) == run.records("test").labels)
            .double()
            .mean()
        )
        for m in run.models
    ]
    assert run.accuracy[-1] == pytest.approx(sum(own) / 3)
    assert run.worst_accuracy[-1] == pytest.approx(min(own))


def test_a_client_that_stays_away_keeps_its_head_as_it_is(make_pipeline: Maker) -> None:
    """One of three clients in a round, three rounds: a head moves with its own client's rounds and no others."""
    pipeline = with_head(make_pipeline, participation=0.34)
    head = torch.tensor(
        [n.startswith("after") for n, shape in pipeline.model.layout for _ in range(math.prod(shape))]
    )
    for run in run_batch(pipeline, NONE, [RunSpec(seed=seed) for seed in range(3)]):
        took_part = set().union(*run.transcript.facts[run.lane].participants.values())
        moved = {i for i in range(3) if not torch.equal(run.models[i][head], run.initial[head])}
        assert moved == took_part
        assert all(torch.equal(model[~head], run.params) for model in run.models)


def test_no_coalition_holds_the_head_of_another_client(make_pipeline: Maker) -> None:
    run = run_batch(with_head(make_pipeline), NONE, [RunSpec(seed=0)])[0]
    n_shared = len(run.params)
    everybody_else = frozenset({SERVER, WIRE, PUBLIC, client(1), client(2)})
    view = run.view(ThreatModel(name="x", corrupted=everybody_else))
    assert {item.vector.shape[-1] for item in view.readable("model", "update", "aggregate")} == {n_shared}
    assert n_shared < len(run.initial)
    assert view.granted.model is None


@pytest.mark.parametrize("topology", [Ring(), Tree(edges=2)])
def test_heads_go_with_any_topology_and_batches_equal_single_runs(
    make_pipeline: Maker, topology: object
) -> None:
    pipeline = replace(with_head(make_pipeline, batch_size=4, participation=0.7), topology=topology)
    flip = attack_from_config({"name": "sign-flip"})
    specs = [
        RunSpec(seed=0),
        RunSpec(seed=1),
        RunSpec(seed=0, adversary=flip, threat=corrupted_clients(n=1)),  # type: ignore[arg-type]
    ]
    single = [run_batch(pipeline, NONE, [spec])[0] for spec in specs]
    for one, other in zip(single, run_batch(pipeline, NONE, specs), strict=True):
        assert torch.equal(one.models, other.models)
        assert one.outcome == "completed"


def test_a_corrupted_client_trains_its_own_whole_model_and_sends_the_shared_part(
    make_pipeline: Maker,
) -> None:
    """Its training of flipped labels starts from the model with its own head, and what it sends has the shared places."""
    pipeline = with_head(make_pipeline)
    flip = attack_from_config({"name": "label-flip"})
    spec = RunSpec(seed=0, adversary=flip, threat=corrupted_clients(n=1))  # type: ignore[arg-type]
    run = run_batch(pipeline, NONE, [spec])[0]
    assert run.outcome == "completed"
    honest = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    assert not torch.equal(run.params, honest.params)
    assert run.params.shape == honest.params.shape


def test_masks_cover_what_is_shared(make_pipeline: Maker) -> None:
    pipeline = with_head(make_pipeline)
    plain, masked = (
        run_batch(pipeline, stack, [RunSpec(seed=0)])[0]
        for stack in (NONE, Stack(name="m", client=(Masked(),)))
    )
    assert torch.allclose(plain.params, masked.params, atol=1e-4)


def test_what_cannot_be_shared_is_refused(make_pipeline: Maker) -> None:
    pipeline = with_head(make_pipeline)
    with pytest.raises(ConfigError, match=r"no parameters of this name; got 'tail'"):
        replace(pipeline, personal=("tail",))
    with pytest.raises(ConfigError, match="share no parameter"):
        replace(pipeline, personal=tuple(name for name, _ in pipeline.model.layout))
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    with pytest.raises(ConfigError, match="no one model"):
        run.predict(run.records("test").features)
