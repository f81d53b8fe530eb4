"""The classical baseline against torch.nn."""

from __future__ import annotations

import pytest
import torch

from qflsec.base.randomness import stream
from qflsec.models import Classical, Model, build_model, classical_like


def test_equals_torch_nn() -> None:
    model = Classical(n_features=5, n_classes=3, hidden=(4,))
    params = model.initial(stream(0, "initial"))
    network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    torch.nn.utils.vector_to_parameters(params, network.parameters())
    x = torch.randn(6, 5, generator=stream(0, "x"))
    assert torch.allclose(model(params, x), network(x), atol=1e-6)


def test_a_network_without_hidden_layers_is_linear() -> None:
    model = Classical(n_features=3)
    params = model.initial(stream(0, "initial"))
    x = torch.randn(4, 3, generator=stream(0, "x"))
    zero = model(params, torch.zeros(3))
    assert torch.allclose(model(params, x) + model(params, -x), 2 * zero.expand(4, -1), atol=1e-6)


def test_initial_values_are_those_of_torch_linear() -> None:
    model = Classical(n_features=100, n_classes=50)
    params = model.initial(stream(0, "initial"))
    assert params.abs().max() <= 0.1
    # The standard deviation of U(-0.1, 0.1) from 5050 draws; 6 standard errors: false alarm < 1e-8.
    assert params.std().item() == pytest.approx(0.1 / 3**0.5, rel=6 * 0.45 / 5050**0.5)


@pytest.mark.parametrize(
    "model",
    [
        build_model({"name": "vqc", "n_qubits": 4, "layers": 3}),
        build_model({"name": "vqc", "n_qubits": 4, "layers": 1, "ansatz": "ry-cz"}),
        build_model({"name": "hybrid", "n_qubits": 3, "layers": 2, "n_features": 8, "n_classes": 3}),
    ],
    ids=lambda m: f"{m.name}-{m.n_params}",
)
def test_classical_like_is_the_nearest_in_parameters(model: Model) -> None:
    lines: list[str] = []
    baseline = classical_like(model, report=lines.append)
    assert (baseline.n_features, baseline.n_classes) == (model.n_features, model.n_classes)
    others = [
        Classical(n_features=model.n_features, n_classes=model.n_classes, hidden=hidden).n_params
        for hidden in [(), *((h,) for h in range(1, 200))]
    ]
    assert abs(baseline.n_params - model.n_params) == min(abs(n - model.n_params) for n in others)
    assert len(lines) == 1
    assert str(model.n_params) in lines[0]
    assert str(baseline.n_params) in lines[0]


def test_classical_like_prints_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    classical_like(build_model({"name": "vqc", "n_qubits": 4}))
    assert capsys.readouterr().out == "vqc: 36 parameters; classical baseline: 37, hidden (5,)\n"
