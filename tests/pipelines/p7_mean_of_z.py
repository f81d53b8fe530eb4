"""P7: the mean of Z over four qubits, fitted to labels 0 and 1; and its twin with channels in the circuit."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS, P = 4, 2, 0.05


def body(inputs: torch.Tensor, weights: torch.Tensor) -> None:
    qml.AngleEmbedding(inputs, wires=range(N_QUBITS))
    qml.StronglyEntanglingLayers(weights, wires=range(N_QUBITS))


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    body(inputs, weights)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


@qml.qnode(qml.device("default.mixed", wires=N_QUBITS))
def noisy_circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    body(inputs, weights)
    for wire in range(N_QUBITS):
        qml.DepolarizingChannel(P, wires=wire)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


class Net(nn.Module):
    def __init__(self, qnode: qml.QNode) -> None:
        super().__init__()
        self.quantum = qml.qnn.TorchLayer(qnode, {"weights": (N_LAYERS, N_QUBITS, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quantum(x).mean(dim=-1)


def make_model() -> nn.Module:
    return Net(circuit)


def make_noisy_model() -> nn.Module:
    return Net(noisy_circuit)
