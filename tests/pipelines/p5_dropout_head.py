"""P5: a convolution, four qubits of RY and RZ in a ring, and a head of two layers with dropout."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS = 4, 2


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, theta: torch.Tensor, phi: torch.Tensor) -> Any:
    for wire in range(N_QUBITS):
        qml.RX(inputs[..., wire], wires=wire)
    for layer in range(N_LAYERS):
        for wire in range(N_QUBITS):
            qml.RY(theta[layer, wire], wires=wire)
            qml.RZ(phi[layer, wire], wires=wire)
        for wire in range(N_QUBITS):
            qml.CNOT(wires=[wire, (wire + 1) % N_QUBITS])
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(N_QUBITS)
        )
        self.quantum = qml.qnn.TorchLayer(
            circuit, {"theta": (N_LAYERS, N_QUBITS), "phi": (N_LAYERS, N_QUBITS)}
        )
        self.head = nn.Sequential(nn.Linear(N_QUBITS, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.quantum(torch.tanh(self.features(x))))


def make_model() -> nn.Module:
    return Net()
