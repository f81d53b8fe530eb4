"""Modules that the tests of the model 'torch' load from this file: what works, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pennylane as qml
import torch
from torch import Tensor, nn

from qflsec.base.randomness import stream
from qflsec.circuits import build_circuit, pauli_z
from qflsec.models import Execution, QuantumLayer

WIRES = 2
DEVICE = qml.device("default.qubit", wires=WIRES)


@qml.qnode(DEVICE)
def affine(inputs: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.BasicEntanglerLayers(weights, wires=range(WIRES))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(WIRES)]


@qml.qnode(DEVICE)
def two_arguments(inputs: Tensor, bias: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(WIRES), rotation="Y")
    for wire in range(WIRES):
        qml.RX(bias[wire], wires=wire)
    qml.StronglyEntanglingLayers(weights, wires=range(WIRES))
    return qml.expval(qml.PauliZ(0) @ qml.PauliZ(1))


@qml.qnode(DEVICE)
def unreadable(inputs: Tensor, weights: Tensor) -> Any:
    """A matrix of a weight, and a variance, are in no circuit of the kernel."""
    qml.RY(inputs[..., 0], wires=0)
    cosine, sine = torch.cos(weights[0]), torch.sin(weights[0])
    qml.QubitUnitary(torch.stack([torch.stack([cosine, -sine]), torch.stack([sine, cosine])]), wires=0)
    qml.RX(weights[1], wires=1)
    qml.CNOT([0, 1])
    return [qml.var(qml.PauliZ(0)), qml.expval(qml.PauliZ(1))]


def classical() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def one_output() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1), nn.Flatten(0))


def images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 2), nn.GroupNorm(1, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(3)
    )


def hybrid() -> nn.Module:
    layer = qml.qnn.TorchLayer(affine, {"weights": (2, WIRES)})
    return nn.Sequential(nn.Linear(4, WIRES), nn.Tanh(), layer, nn.Linear(WIRES, 3))


class Several(nn.Module):
    """Three circuits per sample, one of them with two weight arguments and one value; and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([qml.qnn.TorchLayer(affine, {"weights": (1, WIRES)}) for _ in range(2)])
        # in another order than the QNode's
        self.single = qml.qnn.TorchLayer(two_arguments, {"weights": (1, WIRES, 3), "bias": (WIRES,)})
        self.frozen = nn.Linear(5, 5).requires_grad_(requires_grad=False)
        self.register_buffer("scale", torch.tensor(2.0))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        values = [
            *(part(x[:, 2 * i : 2 * i + 2]) for i, part in enumerate(self.parts)),
            self.single(x[:, 1:3])[:, None],
        ]
        return self.head(self.frozen(self.scale * torch.cat(values, dim=1)))


def own_layer() -> nn.Module:
    circuit = build_circuit(n_qubits=2, layers=1, observables=[pauli_z(wire, 2) for wire in range(2)])
    return nn.Sequential(nn.Linear(4, 2), QuantumLayer(circuit))


@qml.qnode(qml.device("default.mixed", wires=WIRES))
def with_channels(inputs: Tensor, weights: Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(WIRES))
    qml.BasicEntanglerLayers(weights, wires=range(WIRES))
    for wire in range(WIRES):
        qml.DepolarizingChannel(0.2, wires=wire)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(WIRES)]


def channels() -> nn.Module:
    return nn.Sequential(nn.Linear(4, WIRES), qml.qnn.TorchLayer(with_channels, {"weights": (1, WIRES)}))


def only_a_layer() -> nn.Module:
    return qml.qnn.TorchLayer(affine, {"weights": (1, WIRES)})


@qml.qnode(qml.device("default.mixed", wires=WIRES))
def damped(inputs: Tensor, weights: Tensor) -> Any:
    """Channels that are no noise model, and too many for a pure state: PennyLane alone runs them."""
    qml.RY(inputs[..., 0], wires=0)
    for _ in range(3):
        qml.AmplitudeDamping(0.1, wires=0)
    qml.PhaseDamping(0.2, wires=1)
    qml.CNOT([0, 1])
    qml.RX(weights[0], wires=0)
    return [qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliX(1))]


def tape_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 2), qml.qnn.TorchLayer(unreadable, {"weights": (2,)}))


def pennylane_layer() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 2), qml.qnn.TorchLayer(damped, {"weights": (1,)}))


class Called(nn.Module):
    """A QNode that is called record by record, with weights that the module registers."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(2, WIRES))
        self.head = nn.Linear(WIRES, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = [torch.stack(affine(record[:WIRES], self.weights)) for record in x]
        return self.head(torch.stack(rows).float())


class Mapped(Called):
    """The same under a vmap of its own."""

    def forward(self, x: Tensor) -> Tensor:
        values = torch.func.vmap(affine, in_dims=(0, None))(x[:, :WIRES], self.weights)
        return self.head(torch.stack(values, dim=1).float())


class Deeper(Called):
    """The same QNode with more weights, for all records at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.rand(3, WIRES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack(affine(x[:, :WIRES], self.weights), dim=1).float())


@qml.qnode(DEVICE)
def varying(features: Tensor, angles: Tensor, *, layers: int, more: Tensor) -> Any:
    """A variance beside probabilities, named as no role is."""
    qml.RY(features[0] * more, wires=0)
    for layer in range(layers):
        qml.RX(angles[layer], wires=layer)
        qml.CNOT([0, 1])
    return qml.probs(wires=[0, 1]), qml.var(qml.PauliZ(1))


class Varying(Called):
    """A QNode that is no circuit, with a number, weights in two arguments, and values of two kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.more, self.head = nn.Parameter(torch.rand(())), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = [
            torch.cat(
                [value.reshape(-1) for value in varying(2 * row, self.weights[0], layers=2, more=self.more)]
            )
            for row in x
        ]
        return self.head(torch.stack(rows).float())


class Left(Called):
    """A QNode that stays with PennyLane, called record by record."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack([torch.stack(damped(row, self.weights[0])) for row in x]).float())


class Growing(Called):
    """It calls a QNode with more weights where a batch has other records than when it was tried."""

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.cat([self.weights, self.weights]) if bool((x > 1).all()) else self.weights
        return self.head(torch.stack(affine(x[:, :WIRES], weights), dim=1).float())


class Branching(nn.Module):
    """A branch on a value: torch.func.vmap cannot run it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)
        return torch.stack([2 * row if float(row.detach().sum()) > 0 else row for row in found])


class SinglePrecision(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


# What is refused.


def batch_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))


def embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(4, 3))


class Functional(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x), training=self.training)


class Mixing(Branching):
    def forward(self, x: Tensor) -> Tensor:
        found = self.layer(x)
        return found - found.mean(dim=0)


class Counting(Branching):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(x)


class Squeezing(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).squeeze()


class Rounding(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.round().detach())


class Detached(Branching):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.first(x).detach())


class NumpyWeights(Branching):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.Parameter(torch.from_numpy(np.random.default_rng().random(2)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.extra


def misfit() -> nn.Module:
    return nn.Linear(7, 2)


def no_module() -> int:
    return 3


def needs_arguments(n: int) -> nn.Module:
    return nn.Linear(n, 2)


def own_shots() -> nn.Module:
    circuit = build_circuit(n_qubits=2, layers=1, observables=[pauli_z(0, 2)])
    layer = QuantumLayer(circuit, execution=Execution(shots=10), shot_generator=stream(0, "shots"))
    return nn.Sequential(nn.Linear(4, 2), layer)


# Losses.


def focal(logits: Tensor, labels: Tensor) -> Tensor:
    cross = nn.functional.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-cross)) ** 2 * cross


def reduced(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def counted(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) != labels).float()


class Sharing(nn.Module):
    """A layer under two names, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.other = nn.Linear(4, 4)
        self.other.weight = self.first.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.again, self.other):
            x = torch.tanh(layer(x))
        return self.head(x)


def sharing() -> nn.Module:
    return Sharing()


def class_weighted(logits: Tensor, labels: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 3.0])
    return nn.functional.cross_entropy(logits, labels, weight=weights, reduction="none")


def batch_weighted(logits: Tensor, labels: Tensor) -> Tensor:
    cross = nn.functional.cross_entropy(logits, labels, reduction="none")
    return cross / cross.sum()


def noisy(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits + torch.randn_like(logits), labels, reduction="none")


def infinite(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.log(logits.sum(dim=-1) * 0) * labels
