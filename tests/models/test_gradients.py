"""Per-sample gradients against plain loops."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.models import EXACT, Execution, Model, build_model, per_sample_gradients

MODELS = [
    build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
    build_model({"name": "vqc", "n_qubits": 3, "layers": 1, "n_classes": 3, "encoder": "reuploading"}),
    build_model({"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 5, "n_classes": 3}),
    build_model({"name": "classical", "n_features": 4, "hidden": [3]}),
]


def data(model: Model, *lead: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(*lead, model.n_features, generator=stream(0, "x"))
    y = torch.randint(model.n_classes, lead, generator=stream(0, "y"))
    return x, y


def looped(
    model: Model, params: torch.Tensor, x: torch.Tensor, y: torch.Tensor, execution: Execution = EXACT
) -> torch.Tensor:
    rows = []
    for record, label in zip(x, y, strict=True):
        leaf = params.clone().requires_grad_()
        loss = cross_entropy(model(leaf, record, execution=execution), label)
        rows.append(torch.autograd.grad(loss, leaf)[0])
    return torch.stack(rows)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_equal_the_loop_and_average_to_the_batch_gradient(model: Model) -> None:
    params = model.initial(stream(0, "initial"))
    x, y = data(model, 8)
    gradients = per_sample_gradients(model, params, x, y)
    assert gradients.shape == (8, model.n_params)
    assert gradients.dtype == torch.float32
    assert (gradients - looped(model, params, x, y)).abs().max() < 1e-6
    leaf = params.clone().requires_grad_()
    (batch,) = torch.autograd.grad(cross_entropy(model(leaf, x), y), leaf)
    assert batch.abs().max() > 1e-2
    assert (gradients.mean(0) - batch).abs().max() < 1e-6


def test_equal_the_loop_in_double_precision() -> None:
    model = MODELS[0]
    double = Execution(dtype="complex128")
    params = model.initial(stream(0, "initial")).double()
    x, y = data(model, 6)
    gradients = per_sample_gradients(model, params, x, y, execution=double)
    assert (gradients - looped(model, params, x, y, double)).abs().max() < 1e-13


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_broadcast_over_runs_and_clients(model: Model) -> None:
    params = torch.stack([model.initial(stream(i, "initial")) for i in range(6)]).reshape(2, 3, 1, -1)
    x, y = data(model, 2, 3, 4)
    gradients = per_sample_gradients(model, params, x, y)
    assert gradients.shape == (2, 3, 4, model.n_params)
    for lane in range(2):
        for client in range(3):
            alone = looped(model, params[lane, client, 0], x[lane, client], y[lane, client])
            assert (gradients[lane, client] - alone).abs().max() < 1e-6


def test_can_be_differentiated_in_the_features() -> None:
    """Second derivatives, as gradient inversion needs them, against central differences."""
    model = MODELS[0]
    double = Execution(dtype="complex128")
    params = model.initial(stream(0, "initial")).double()
    x, y = data(model, 2)
    x = x.double()

    def mismatch(features: torch.Tensor, create_graph: bool = False) -> torch.Tensor:
        g = per_sample_gradients(model, params, features, y, execution=double, create_graph=create_graph)
        return g.square().sum()

    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mismatch(leaf, create_graph=True), leaf)
    step = 1e-5
    for i in range(2):
        for j in range(4):
            ahead, behind = x.clone(), x.clone()
            ahead[i, j] += step
            behind[i, j] -= step
            difference = (mismatch(ahead) - mismatch(behind)) / (2 * step)
            assert slope[i, j].item() == pytest.approx(difference.item(), abs=1e-7)


def test_leave_no_trace_on_the_parameters() -> None:
    model = MODELS[0]
    params = model.initial(stream(0, "initial")).requires_grad_()
    gradients = per_sample_gradients(model, params, *data(model, 3))
    assert not gradients.requires_grad
    assert params.grad is None


def test_work_where_gradients_are_off() -> None:
    model = MODELS[0]
    with torch.no_grad():
        gradients = per_sample_gradients(model, model.initial(stream(0, "initial")), *data(model, 3))
    assert gradients.abs().max() > 0


def test_labels_must_fit() -> None:
    model = MODELS[0]
    x, _ = data(model, 3)
    with pytest.raises(ConfigError, match="labels do not fit"):
        per_sample_gradients(model, model.initial(stream(0, "initial")), x, torch.zeros(2, dtype=torch.long))
