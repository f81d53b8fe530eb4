"""Two qubits that take pi tanh(x) again in every layer."""

from __future__ import annotations

import pennylane as qml
import torch

N_QUBITS, N_LAYERS = 2, 3


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(x: torch.Tensor, theta: torch.Tensor) -> list[object]:
    for layer in range(N_LAYERS):
        for wire in range(N_QUBITS):
            qml.RX(torch.pi * torch.tanh(x[wire]), wires=wire)
            qml.Rot(*theta[layer, wire], wires=wire)
        qml.CNOT(wires=[0, 1])
    return [qml.expval(qml.PauliZ(wire)) for wire in range(N_QUBITS)]
