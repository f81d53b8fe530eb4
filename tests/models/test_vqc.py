"""The VQC and the hybrid against PennyLane."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pennylane as qml
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from qflsec.base.errors import ConfigError
from qflsec.base.randomness import stream
from qflsec.circuits import Angle, Circuit, Gate, build_circuit, pauli_z
from qflsec.models import Execution, Hybrid, Vqc, build_model

DOUBLE = Execution(dtype="complex128")
ANSATZE = {
    "strongly-entangling": (qml.StronglyEntanglingLayers, lambda layers, n: (layers, n, 3)),
    "basic-entangler": (qml.BasicEntanglerLayers, lambda layers, n: (layers, n)),
}


def pennylane_z(n: int, layers: int, ansatz: str, encoder: str, rotation: str, wires: int) -> Any:
    """Z on the first wires of a circuit written with PennyLane's templates."""
    template, shape = ANSATZE[ansatz]

    @qml.qnode(qml.device("default.qubit", wires=n), interface="torch", diff_method="backprop")
    def circuit(weights: Tensor, x: Tensor) -> Any:
        if encoder == "amplitude":
            qml.AmplitudeEmbedding(x, wires=range(n), pad_with=0.0, normalize=True)
        else:
            qml.AngleEmbedding(x, wires=range(n), rotation=rotation)
        template(weights.reshape(shape(layers, n)), wires=range(n))
        return [qml.expval(qml.PauliZ(wire)) for wire in range(wires)]

    return lambda weights, x: torch.stack(tuple(circuit(weights, x)), dim=-1)


@pytest.mark.parametrize(
    ("n", "layers", "ansatz", "encoder", "rotation", "n_classes"),
    [
        (4, 3, "strongly-entangling", "angle", "X", 2),
        (3, 2, "strongly-entangling", "angle", "Y", 3),
        (3, 2, "basic-entangler", "angle", "X", 3),
        (3, 1, "strongly-entangling", "amplitude", "X", 2),
    ],
)
def test_logits_and_gradients_equal_pennylane(
    n: int, layers: int, ansatz: str, encoder: str, rotation: str, n_classes: int
) -> None:
    model = build_model(
        {
            "name": "vqc",
            "n_qubits": n,
            "layers": layers,
            "ansatz": ansatz,
            "encoder": encoder,
            "rotation": rotation,
            "n_classes": n_classes,
            "scale": 2.5,
        }
    )
    reference = pennylane_z(n, layers, ansatz, encoder, rotation, 1 if n_classes == 2 else n_classes)
    params = model.initial(stream(0, "initial")).double().requires_grad_()
    x = (2 * torch.rand(5, model.n_features, generator=stream(0, "x"))).double()
    labels = torch.arange(5) % n_classes
    z = reference(params, x)
    if n_classes == 2:
        expected = torch.stack([-1.25 * z[:, 0], 1.25 * z[:, 0]], dim=-1)
        loss = binary_cross_entropy_with_logits(2.5 * z[:, 0], labels.double())
    else:
        expected = 2.5 * z
        loss = cross_entropy(2.5 * z, labels)
    logits = model(params, x, execution=DOUBLE)
    assert torch.allclose(logits, expected, atol=1e-9)
    (wanted,) = torch.autograd.grad(loss, params)
    (got,) = torch.autograd.grad(cross_entropy(logits, labels), params)
    assert wanted.abs().max() > 1e-2
    assert torch.allclose(got, wanted, atol=1e-9)


def test_hybrid_equals_torch_and_pennylane() -> None:
    model = build_model(
        {"name": "hybrid", "n_qubits": 3, "layers": 2, "n_features": 6, "n_classes": 3, "hidden": [5]}
    )
    assert isinstance(model, Hybrid)
    params = model.initial(stream(0, "initial")).double()
    x = torch.randn(4, 6, generator=stream(0, "x")).double()
    first, second, last = torch.nn.Linear(6, 5), torch.nn.Linear(5, 3), torch.nn.Linear(3, 3)
    sizes = [6 * 5 + 5 + 5 * 3 + 3, 18, 3 * 3 + 3]
    before, weights, after = params.split(sizes)
    torch.nn.utils.vector_to_parameters(before, [*first.parameters(), *second.parameters()])
    torch.nn.utils.vector_to_parameters(after, last.parameters())
    hidden = second(torch.tanh(first(x)))
    z = pennylane_z(3, 2, "strongly-entangling", "angle", "X", 3)(weights, math.pi / 2 * torch.tanh(hidden))
    assert torch.allclose(model(params, x, execution=DOUBLE), last(z), atol=1e-9)


def test_one_value_speaks_for_class_one() -> None:
    """A circuit that does nothing leaves z = +1, which is class 1; a half turn gives class 0."""
    model = build_model({"name": "vqc", "n_qubits": 1, "layers": 1, "ansatz": "ry-cz"})
    logits = model(torch.zeros(1), torch.tensor([[0.0], [math.pi]]))
    assert logits.argmax(-1).tolist() == [1, 0]
    assert torch.allclose(logits, torch.tensor([[-1.5, 1.5], [1.5, -1.5]]), atol=1e-6)


@pytest.mark.parametrize(
    ("config", "angles"),
    [
        ({"n_qubits": 2, "encoder": "angle"}, True),
        ({"n_qubits": 2, "encoder": "reuploading", "rotation": "Z"}, True),
        ({"n_qubits": 2, "encoder": "amplitude"}, False),
    ],
    ids=str,
)
def test_angle_features(config: dict[str, object], angles: bool) -> None:
    model = build_model({"name": "vqc", **config})
    assert model.angle_features is angles
    params = model.initial(stream(0, "initial"))
    x = torch.rand(3, model.n_features, generator=stream(0, "x"))
    turned = model(params, x + 2 * math.pi)
    assert torch.allclose(turned, model(params, x), rtol=0, atol=2e-5) is angles


@pytest.mark.parametrize(
    ("gate", "angles"),
    [
        (Gate("RX", (0,), (Angle.feature(0),)), True),
        (Gate("RX", (0,), (Angle.feature(0, scale=0.5),)), False),
        (Gate("CRX", (0, 1), (Angle.feature(0),)), False),
    ],
    ids=["rotation", "scaled", "controlled"],
)
def test_angle_features_have_the_period_two_pi(gate: Gate, angles: bool) -> None:
    circuit = Circuit(
        n_qubits=2,
        gates=(Gate("H", (0,)), gate, Gate("H", (0,)), Gate("RX", (1,), (Angle.weight(0),))),
        observables=(pauli_z(0, 2),),
        n_weights=1,
        n_features=1,
    )
    assert Vqc(circuit=circuit).angle_features is angles


@pytest.mark.parametrize("name", ["vqc", "hybrid"])
def test_periods_hold_where_promised(name: str) -> None:
    model = build_model({"name": name, "n_qubits": 2, "layers": 2, "n_features": 2})
    params = model.initial(stream(0, "initial")).double()
    x = torch.rand(3, 2, generator=stream(0, "x")).double()
    reference = model(params, x, execution=DOUBLE)
    moved = 0
    for i, period in enumerate(model.periods):
        shifted = params.clone()
        shifted[i] += 2 * math.pi if period is None else period
        same = torch.allclose(model(shifted, x, execution=DOUBLE), reference, atol=1e-9)
        assert same or period is None
        moved += not same
    assert (moved > 0) is (name == "hybrid")


def test_observables_must_fit_the_classes() -> None:
    circuit = build_circuit(n_qubits=3, observables=[pauli_z(0, 3), pauli_z(1, 3)])
    assert Vqc(circuit=circuit).n_classes == 2
    with pytest.raises(ConfigError, match="need 1 observable"):
        Vqc(circuit=replace(circuit, observables=(*circuit.observables, pauli_z(2, 3))))
    with pytest.raises(ConfigError, match="need 3 observables"):
        Vqc(circuit=circuit, n_classes=3)


def test_a_model_of_a_circuit_round_trips() -> None:
    circuit = build_circuit(n_qubits=3, layers=1, ansatz="ry-cz")
    model = Vqc(circuit=circuit)
    assert "circuit" in model.to_config()
    assert build_model(model.to_config()) == model
    with pytest.raises(ConfigError, match="n_features does not fit"):
        build_model({**model.to_config(), "n_features": 2})
