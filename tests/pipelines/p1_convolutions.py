"""P1: convolutions, a linear layer, four qubits, and a linear layer to ten classes."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS = 4, 6


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(N_QUBITS))
    qml.BasicEntanglerLayers(weights, wires=range(N_QUBITS))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 8, 3, padding=1)
        self.fc1 = nn.Linear(32, N_QUBITS)
        self.quantum = qml.qnn.TorchLayer(circuit, {"weights": (N_LAYERS, N_QUBITS)})
        self.fc2 = nn.Linear(N_QUBITS, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc2(self.quantum(self.fc1(x.flatten(1))))


def make_model() -> nn.Module:
    return Net()
