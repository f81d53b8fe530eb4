"""Losses: against torch's own, the conventions of networks with one output, and through training and attacks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from qflsec.base import ConfigError
from qflsec.base.randomness import stream
from qflsec.models import CROSS_ENTROPY, LOSSES, Model, build_model, per_sample_gradients

LABELS = torch.tensor([0, 1, 1, 0, 1])
OUTPUTS = torch.linspace(-1.7, 2.3, 5, dtype=torch.float64)
SIGNS = 2.0 * LABELS - 1

ONE_OUTPUT: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "cross-entropy": (
        lambda z: functional.binary_cross_entropy_with_logits(z, LABELS.double(), reduction="none"),
        0.0,
    ),
    "mse": (lambda z: (z - LABELS).square(), 0.5),
    "mse-plus-minus": (lambda z: (z - SIGNS).square(), 0.0),
    "hinge": (lambda z: (1 - SIGNS * z).clamp_min(0), 0.0),
}


@pytest.mark.parametrize("name", LOSSES)
def test_one_output_has_the_loss_and_the_threshold_of_its_convention(name: str) -> None:
    """For mean squared error on labels 0 and 1, an output of .4 is nearer to class 0."""
    expected, threshold = ONE_OUTPUT[name]
    loss = LOSSES[name]
    logits = loss.two_logits(OUTPUTS[:, None])
    assert torch.allclose(loss.per_sample(logits, LABELS), expected(OUTPUTS), atol=1e-12)
    assert torch.equal(logits.argmax(dim=-1), (threshold < OUTPUTS).long())


def test_several_outputs_are_compared_with_one_hot_labels() -> None:
    logits = torch.randn(2, 4, 3, generator=stream(0, "logits"), dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 2])
    hot = functional.one_hot(labels, 3).double().expand(2, 4, 3)
    expected = {
        "cross-entropy": functional.cross_entropy(logits.flatten(0, 1), labels.repeat(2), reduction="none"),
        "mse": functional.mse_loss(logits, hot, reduction="none").mean(-1),
        "mse-plus-minus": functional.mse_loss(logits, 2 * hot - 1, reduction="none").mean(-1),
        "hinge": functional.relu(1 - (2 * hot - 1) * logits).mean(-1),
    }
    for name, loss in LOSSES.items():
        assert torch.allclose(loss.per_sample(logits, labels), expected[name].reshape(2, 4)), name


@pytest.mark.parametrize("name", LOSSES)
def test_confidence_falls_with_the_distance_from_the_target(name: str) -> None:
    """Of a squared error both sides of the target count; of the others, more of the label is always better."""
    loss = LOSSES[name]
    outputs = torch.tensor([[-2.0], [0.0], [1.0], [4.5]])
    order = loss.confidence(loss.two_logits(outputs), torch.ones(4, dtype=torch.long)).argsort().tolist()
    assert order == ([3, 0, 1, 2] if name.startswith("mse") else [0, 1, 2, 3])


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"labels do not fit the logits; got labels \(3,\)"):
        CROSS_ENTROPY.per_sample(torch.zeros(2, 2), torch.zeros(3, dtype=torch.long))


MODELS = [
    {"name": "vqc", "n_qubits": 2, "layers": 1},
    {"name": "hybrid", "n_features": 2, "n_qubits": 2, "layers": 1, "n_classes": 3},
    {"name": "classical", "n_features": 2},
]


@pytest.mark.parametrize("config", MODELS, ids=lambda config: str(config["name"]))
@pytest.mark.parametrize("name", LOSSES)
def test_a_model_is_trained_by_the_loss_of_its_configuration(config: dict[str, object], name: str) -> None:
    model = build_model({**config, "loss": name})
    assert model.loss == LOSSES[name]
    assert build_model(model.to_config()) == model
    params = model.initial(stream(0, "initial"))
    x, y = torch.rand(4, 2, generator=stream(0, "x")), torch.tensor([0, 1, 1, 0])
    found = per_sample_gradients(model, params, x, y)
    for i in range(4):
        assert torch.allclose(found[i], gradient(model, params, x[i], y[i]), atol=1e-6)


def gradient(model: Model, params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    leaf = params.clone().requires_grad_()
    (found,) = torch.autograd.grad(model.loss.per_sample(model(leaf, x), y), leaf)
    return found


def test_expectation_values_are_scaled_for_cross_entropy_alone() -> None:
    scales = [build_model({**MODELS[0], "loss": name}).to_config()["scale"] for name in LOSSES]
    assert scales == [3.0, 1.0, 1.0, 1.0]


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="'loss' of model 'vqc' is wrong; got 'mae'; expected one of cross-entropy, mse"
    ):
        build_model({**MODELS[0], "loss": "mae"})
