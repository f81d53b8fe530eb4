"""Local training in one compiled call against the loop over its steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qflsec.data import DataSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.federation import FederationConfig, Pipeline, Schedule
from qflsec.federation.round import local
from qflsec.federation.round.batches import ClientData, plan_batches
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.round.optimiser import OptimiserState
from qflsec.federation.round.whole import is_plain
from qflsec.federation.streams import RoundStreams
from qflsec.models import Execution, build_model

LANES, CLIENTS, RECORDS = 2, 3, 21
RULES: dict[str, dict[str, Any]] = {
    "sgd": {"local_steps": 3},
    "momentum": {"local_steps": 3, "momentum": 0.9},
    "adam": {"local_steps": 3, "optimizer": "adam", "learning_rate": 0.05},
    "proximal": {"local_steps": 3, "proximal": 0.5},
    "fixed": {"local_steps": 2, "batch_size": 7},
    "poisson": {"local_steps": 3, "batch_size": 4, "sampling": "poisson"},
    "epochs": {"epochs": 2, "batch_size": 8, "schedule": Schedule(kind="cosine")},
}
MODELS: dict[str, dict[str, Any]] = {
    "one output": {"name": "vqc", "n_qubits": 3, "layers": 1},
    "classes": {"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 3},
    "amplitudes": {"name": "vqc", "n_qubits": 2, "layers": 1, "encoder": "amplitude", "n_features": 3},
    "squares": {"name": "vqc", "n_qubits": 2, "layers": 1, "loss": "mse"},
    "squares, minus one": {
        "name": "vqc",
        "n_qubits": 3,
        "layers": 1,
        "loss": "mse-plus-minus",
        "n_classes": 3,
    },
    "hinge": {"name": "vqc", "n_qubits": 2, "layers": 1, "loss": "hinge"},
    "hinge, classes": {"name": "vqc", "n_qubits": 3, "layers": 1, "loss": "hinge", "n_classes": 3},
}


def pipeline_of(model: dict[str, Any], **parts: Any) -> Pipeline:
    built = build_model(model)
    return Pipeline(data=DataSpec(name="iris", n_features=built.n_features), model=built, **parts)


def case(
    model: dict[str, Any], rule: dict[str, Any], layer: DpSgd | None
) -> tuple[LocalTraining, tuple[Any, ...]]:
    config = FederationConfig(n_clients=CLIENTS, **{"learning_rate": 0.3, **rule})
    pipeline = pipeline_of(model, federation=config)
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(LANES, CLIENTS, RECORDS, pipeline.model.n_features, generator=generator)
    labels = torch.randint(0, pipeline.model.n_classes, features.shape[:-1], generator=generator)
    mask = torch.ones(features.shape[:-1])
    mask[0, 1, 9:] = 0
    mask[1, 2] = 0  # a client without records
    data = ClientData(features=features, labels=labels, mask=mask)
    params = torch.randn(LANES, CLIENTS, pipeline.model.n_params, generator=generator)
    streams = RoundStreams([5, 6], 1)
    plan = plan_batches(data, config, streams)
    return LocalTraining(pipeline=pipeline, layer=layer), (params, data, plan, streams, range(CLIENTS))


def both(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], rule: dict[str, Any], layer: DpSgd | None
) -> list[tuple[torch.Tensor, torch.Tensor, OptimiserState]]:
    """In one call, and step by step."""
    training, arguments = case(model, rule, layer)
    assert is_plain(training.pipeline, layer, range(CLIENTS)) is not None
    found = [training(*arguments)]
    monkeypatch.setattr(local, "is_plain", lambda *_: None)
    training, arguments = case(model, rule, layer)
    return [*found, training(*arguments)]


def check_alike(found: list[tuple[torch.Tensor, torch.Tensor, OptimiserState]]) -> None:
    """Adam turns the rounding of a gradient of zero into a whole step, of parameters that change nothing."""
    training, (params, data, *_) = case(MODELS["one output"], RULES["adam"], None)
    logits = [
        training.pipeline.model((params + updates)[..., None, :], data.features) for updates, _, _ in found
    ]
    before = training.pipeline.model(params[..., None, :], data.features)
    assert (logits[0] - before)[0].abs().max() > 0.1
    assert torch.allclose(*logits, rtol=0, atol=1e-4)
    assert torch.equal(found[0][2].steps, found[1][2].steps)


def check_equal(found: list[tuple[torch.Tensor, torch.Tensor, OptimiserState]]) -> None:
    (updates, losses, state), (expected, mean, after) = found
    assert updates.abs().max() > 0.01
    assert torch.allclose(updates, expected, rtol=1e-4, atol=2e-6)
    assert torch.allclose(losses, mean, rtol=1e-5, atol=1e-6)
    assert torch.equal(state.steps, after.steps)
    assert len(state.moments) == len(after.moments)
    for own, other in zip(state.moments, after.moments, strict=True):
        assert torch.allclose(own, other, rtol=1e-4, atol=1e-6)
    assert not updates[1, 2].any()


@pytest.mark.parametrize("rule", RULES)
def test_rules_of_training(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = both(monkeypatch, MODELS["one output"], RULES[rule], None)
    (check_alike if rule == "adam" else check_equal)(found)


@pytest.mark.parametrize("model", MODELS)
def test_models_and_losses(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_equal(both(monkeypatch, MODELS[model], RULES["sgd"], None))


@pytest.mark.parametrize("rule", ["sgd", "poisson", "epochs", "adam"])
def test_clipping_and_noise(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = DpSgd(clip_norm=0.1, noise_multiplier=0.5)
    check_equal(both(monkeypatch, MODELS["one output"], RULES[rule], layer))


def test_a_clipped_gradient_never_exceeds_the_norm() -> None:
    layer = DpSgd(clip_norm=0.05, noise_multiplier=0.0)
    training, (params, data, _, streams, clients) = case(MODELS["one output"], {"local_steps": 1}, layer)
    alone = torch.zeros_like(data.mask)
    alone[..., 0] = data.mask[..., 0]
    data = ClientData(features=data.features, labels=data.labels, mask=alone)
    plan = plan_batches(data, training.pipeline.federation, streams)
    updates, _, _ = training(params, data, plan, streams, clients)
    norms = (updates / 0.3).double().norm(dim=-1)
    assert (norms <= 0.05 * (1 + 1e-5)).all()  # the update itself is a rounded difference
    assert norms[0].max() > 0.049


def test_a_record_that_is_not_finite_counts_nothing_under_clipping() -> None:
    layer = DpSgd(clip_norm=0.1, noise_multiplier=0.0)
    training, (params, data, plan, streams, clients) = case(MODELS["one output"], {"local_steps": 1}, layer)
    data.features[0, 0, 3] = torch.inf
    updates, _, _ = training(params, data, plan, streams, clients)
    assert torch.isfinite(updates).all()
    assert updates[0, 0].any()


def test_lanes_have_the_same_bits_alone() -> None:
    training, (params, data, plan, _, clients) = case(MODELS["one output"], RULES["adam"], None)
    updates, losses, _ = training(params, data, plan, RoundStreams([5, 6], 1), clients)
    for lane in range(LANES):
        part = data.at([lane], range(CLIENTS))
        steps = [step.at([lane], range(CLIENTS)) for step in plan]
        alone = training(params[lane : lane + 1], part, steps, RoundStreams([5 + lane], 1), clients)
        assert torch.equal(alone[0][0], updates[lane])
        assert torch.equal(alone[1][0], losses[lane])


class Halved(DpSgd):
    """Changes the gradient, and not what is said of it."""

    def gradient(self, *arguments: Any) -> torch.Tensor:
        return super().gradient(*arguments) / 2


def test_a_layer_that_changes_only_the_gradient_is_called() -> None:
    halved = Halved(clip_norm=0.1, noise_multiplier=0.0)
    training, arguments = case(MODELS["one output"], {"local_steps": 1}, halved)
    assert is_plain(training.pipeline, halved, range(CLIENTS)) is None
    plain, same = case(MODELS["one output"], {"local_steps": 1}, DpSgd(clip_norm=0.1, noise_multiplier=0.0))
    assert torch.allclose(2 * training(*arguments)[0], plain(*same)[0], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize(
    "execution",
    [
        Execution(executor="torch"),
        Execution(shots=10),
        Execution(dtype="complex128"),
        Execution(gradient="parameter-shift"),
    ],
    ids=["torch", "shots", "double", "shift"],
)
def test_other_executions_take_the_loop(execution: Execution) -> None:
    assert is_plain(pipeline_of(MODELS["squares"], execution=execution), None, [0]) is None
    assert is_plain(pipeline_of(MODELS["squares"]), None, [0]) is not None


def test_models_that_are_more_than_a_circuit_take_the_loop() -> None:
    hybrid = {"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 3}
    assert is_plain(pipeline_of(hybrid), None, [0]) is None
