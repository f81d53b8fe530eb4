"""P6: four circuits of eight qubits, each on a group of features of its own, and a linear layer on top."""

from __future__ import annotations

from typing import Any

import pennylane as qml
import torch
from torch import nn

N_GROUPS, N_QUBITS = 4, 8


@qml.qnode(qml.device("default.qubit", wires=N_QUBITS))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(N_QUBITS))
    qml.BasicEntanglerLayers(weights, wires=range(N_QUBITS))
    return qml.expval(qml.PauliZ(0)), qml.expval(qml.PauliZ(1))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList([2 * torch.pi * torch.rand(1, N_QUBITS) for _ in range(N_GROUPS)])
        self.head = nn.Linear(2 * N_GROUPS, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        groups = x.reshape(-1, N_GROUPS, 2, N_QUBITS).mean(dim=2)
        values = [
            torch.stack(circuit(groups[:, i], weights), dim=-1) for i, weights in enumerate(self.weights)
        ]
        return self.head(torch.cat(values, dim=-1).float())


def make_model() -> nn.Module:
    return Net()
