"""Fourteen circuits of the shapes that public QFL pipelines have: which run in the kernel, exactly."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any

import pennylane as qml
import pytest
import torch
from torch import Tensor

from qflsec.base.randomness import stream
from qflsec.models import Execution, QNodeModel
from qflsec.models.execute import measure


def on(n: int, device: str = "default.qubit") -> Any:
    """A QNode of n wires."""
    return lambda function: qml.QNode(function, qml.device(device, wires=n))


def zs(n: int) -> list[Any]:
    return [qml.expval(qml.PauliZ(wire)) for wire in range(n)]


def ring(weights: Tensor, n: int) -> None:
    for layer in weights:
        for wire in range(n):
            qml.RY(layer[wire, 0], wires=wire)
            qml.RZ(layer[wire, 1], wires=wire)
        for wire in range(n):
            qml.CNOT(wires=[wire, (wire + 1) % n])


@on(4)
def basic(inputs: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(4))
    qml.BasicEntanglerLayers(weights, wires=range(4))
    return zs(4)


@on(6)
def deep(inputs: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(6), rotation="Y")
    qml.BasicEntanglerLayers(weights, wires=range(6), rotation=qml.RZ)
    return zs(6)


@on(3)
def one_against_the_rest(weights: Tensor, feat: Tensor) -> Any:
    qml.AmplitudeEmbedding(feat, wires=range(3), normalize=True)
    qml.StronglyEntanglingLayers(weights, wires=range(3))
    return qml.expval(qml.PauliZ(0))


@on(10)
def ten_qubits(inputs: Tensor, weights: Tensor) -> Any:
    qml.AmplitudeEmbedding(inputs, wires=range(10), normalize=True, pad_with=0.0)
    for layer in weights:
        for wire in range(10):
            qml.RY(layer[wire], wires=wire)
        for wire in range(9):
            qml.CNOT(wires=[wire, wire + 1])
    return qml.probs(wires=range(4))


@on(4)
def rotation_ring(inputs: Tensor, weights: Tensor) -> Any:
    for wire in range(4):
        qml.RY(math.pi * inputs[wire], wires=wire)
    ring(weights, 4)
    return zs(4)


@on(8)
def feature_group(inputs: Tensor, weights: Tensor, bias: Tensor) -> Any:
    for wire in range(8):
        qml.Hadamard(wire)
        qml.RZ(inputs[wire], wires=wire)
    qml.StronglyEntanglingLayers(weights, wires=range(8))
    for wire in range(8):
        qml.RX(bias[wire], wires=wire)
    return zs(8)


@on(4)
def mean_of_z(x: Tensor, params: Tensor) -> Any:
    qml.AngleEmbedding(x, wires=range(4))
    ring(params, 4)
    return qml.expval(qml.Hamiltonian([0.25] * 4, [qml.PauliZ(wire) for wire in range(4)]))


@on(4, "default.mixed")
def noisy_twin(x: Tensor, params: Tensor) -> Any:
    qml.AngleEmbedding(x, wires=range(4))
    ring(params, 4)
    for wire in range(4):
        qml.DepolarizingChannel(0.05, wires=wire)
    return qml.expval(qml.Hamiltonian([0.25] * 4, [qml.PauliZ(wire) for wire in range(4)]))


@on(2)
def re_uploading(x: Tensor, theta: Tensor) -> Any:
    for layer in theta:
        qml.AngleEmbedding(math.pi * torch.tanh(x), wires=range(2))
        for wire in range(2):
            qml.Rot(*layer[wire], wires=wire)
        qml.CNOT(wires=[0, 1])
    return qml.probs(wires=0)


@on(2)
def projected(sample: Tensor, var: Tensor) -> Any:
    qml.AngleEmbedding(sample, wires=range(2))
    qml.BasicEntanglerLayers(var, wires=range(2))
    return [qml.expval(qml.Projector([bit, bit], wires=[0, 1])) for bit in (0, 1)]


@on(3)
def shared_angles(x: Tensor, w: Tensor) -> Any:
    qml.AngleEmbedding(x, wires=range(3))
    for wire in range(3):
        qml.RY(w[wire] + w[(wire + 1) % 3], wires=wire)
    qml.CNOT(wires=[0, 1])
    qml.CRZ(w[0] - 2 * w[2], wires=[1, 2])
    return zs(3)


@on(3)
def trainable_scaling(data: Tensor, phi: Tensor) -> Any:
    for layer in phi:
        for wire in range(3):
            qml.RX(layer[wire, 0] * data[wire] + layer[wire, 1], wires=wire)
        qml.CZ(wires=[0, 1])
        qml.CZ(wires=[1, 2])
    return zs(3)


@on(3)
def zz_map(x: Tensor, theta: Tensor) -> Any:
    for _ in range(2):
        for wire in range(3):
            qml.Hadamard(wire)
            qml.PhaseShift(2 * x[wire], wires=wire)
        for wire in range(2):
            qml.CNOT(wires=[wire, wire + 1])
            qml.PhaseShift(2 * (math.pi - x[wire]) * (math.pi - x[wire + 1]), wires=wire + 1)
            qml.CNOT(wires=[wire, wire + 1])
    for layer in theta:
        for wire in range(3):
            qml.RY(layer[wire], wires=wire)
        qml.CNOT(wires=[0, 1])
        qml.CNOT(wires=[1, 2])
    return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1) @ qml.PauliZ(2))


@on(4)
def switching(x: Tensor, w: Tensor) -> Any:
    """A gate that is there for some records only: no list of gates is this circuit."""
    qml.AngleEmbedding(x, wires=range(4))
    if float(x[0].detach()) > 0:
        qml.PauliX(wires=1)
    qml.BasicEntanglerLayers(w, wires=range(4))
    return zs(4)


@dataclass(frozen=True)
class Shape:
    """A circuit, its sizes and whether the kernel runs it."""

    qnode: Any
    n_features: int
    shapes: dict[str, tuple[int, ...]]
    options: dict[str, Any] = field(default_factory=dict)
    kernel: bool = True


SHAPES = [
    Shape(basic, 4, {"weights": (6, 4)}),
    Shape(deep, 6, {"weights": (6, 6)}),
    Shape(one_against_the_rest, 8, {"weights": (2, 3, 3)}, {"features_argument": "feat"}),
    Shape(ten_qubits, 784, {"weights": (2, 10)}),
    Shape(rotation_ring, 4, {"weights": (2, 4, 2)}),
    Shape(feature_group, 8, {"weights": (1, 8, 3), "bias": (8,)}),
    Shape(mean_of_z, 4, {"params": (2, 4, 2)}),
    Shape(noisy_twin, 4, {"params": (1, 4, 2)}),
    Shape(re_uploading, 2, {"theta": (2, 2, 3)}),
    Shape(projected, 2, {"var": (2, 2)}),
    Shape(shared_angles, 3, {"w": (3,)}),
    Shape(trainable_scaling, 3, {"phi": (2, 3, 2)}),
    Shape(zz_map, 3, {"theta": (2, 3)}),
    Shape(switching, 4, {"w": (1, 4)}, kernel=False),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.qnode.func.__name__)
def test_values_and_gradients_are_pennylanes(shape: Shape) -> None:
    """Of two records, in weights and features; 13 of 14 in the kernel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = QNodeModel(
            qnode=shape.qnode,
            n_features=shape.n_features,
            weight_shapes=tuple(shape.shapes.items()),
            **shape.options,
        )
    assert (model.circuit is not None) == shape.kernel
    if model.circuit is None:
        return
    weights = model.initial(stream(0, "initial")).double().requires_grad_()
    x = (2 * torch.rand(2, shape.n_features, generator=stream(0, "x")).double() - 1).requires_grad_()
    execution = Execution(dtype="complex128", noise=model.noise)
    ours = measure(model.circuit, weights, x, execution, None)
    theirs = torch.stack([model.call.one(weights, row) for row in x])
    exact = 1e-10 if model.noise is None else 1e-7  # default.mixed rounds to single precision from 4 wires on
    torch.testing.assert_close(ours, theirs, atol=exact, rtol=0)
    slopes = torch.linspace(0.5, 1.5, ours.numel(), dtype=torch.float64).reshape(ours.shape)
    gradients = [torch.autograd.grad((v * slopes).sum(), (weights, x)) for v in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=10 * exact, rtol=0)


def test_at_least_twelve_of_fourteen_run_in_the_kernel() -> None:
    assert len(SHAPES) == 14
    assert sum(shape.kernel for shape in SHAPES) >= 12
