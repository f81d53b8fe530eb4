"""P2: convolutions and six qubits in six layers, whose updates go to the server under CKKS."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS = 6, 6


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(N_QUBITS), rotation="Y")
    qml.BasicEntanglerLayers(weights, wires=range(N_QUBITS), rotation=qml.RY)
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(N_QUBITS),
        qml.qnn.TorchLayer(circuit, {"weights": (N_LAYERS, N_QUBITS)}),
        nn.Linear(N_QUBITS, 2),
    )
