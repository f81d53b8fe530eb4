"""Ten qubits that take amplitudes, RY and CX, the probabilities of all outcomes, and a linear layer to ten classes."""

from __future__ import annotations

import pennylane as qml
import torch
from torch import nn

N_QUBITS, N_LAYERS = 10, 2


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> object:
    qml.AmplitudeEmbedding(inputs, wires=range(N_QUBITS), normalize=True, pad_with=0.1)
    for layer in range(N_LAYERS):
        for wire in range(N_QUBITS):
            qml.RY(weights[layer, wire], wires=wire)
        for wire in range(N_QUBITS - 1):
            qml.CNOT(wires=[wire, wire + 1])
    return qml.probs(wires=range(N_QUBITS))


def make_model() -> nn.Module:
    quantum = qml.qnn.TorchLayer(circuit, {"weights": (N_LAYERS, N_QUBITS)})
    return nn.Sequential(quantum, nn.Linear(2**N_QUBITS, 10))
