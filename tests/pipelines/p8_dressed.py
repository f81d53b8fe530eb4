"""P8: a linear layer, eight qubits, and a linear layer."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS = 8, 2


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(N_QUBITS))
    qml.StronglyEntanglingLayers(weights, wires=range(N_QUBITS))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, N_QUBITS),
        qml.qnn.TorchLayer(circuit, {"weights": (N_LAYERS, N_QUBITS, 3)}),
        nn.Linear(N_QUBITS, 2),
    )
