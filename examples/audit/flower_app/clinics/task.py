"""The model and the data."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from qflsec.models import QuantumLayer, build_model

RECORDS = 120
FEATURES = [0, 1, 4, 7]  # mean radius, texture, smoothness, concave points
LARGEST = torch.tensor([30.0, 40.0, 0.2, 0.25])  # fixed beforehand, and not by anybody's records


class Net(nn.Module):
    """A circuit of 4 qubits, and a linear layer on its expectation values."""

    def __init__(self):
        super().__init__()
        circuit = build_model({"name": "vqc", "n_qubits": 4, "layers": 2}).circuit
        self.quantum = QuantumLayer(circuit)
        self.head = nn.Linear(len(circuit.observables), 2)

    def forward(self, x):  # noqa: D102
        return self.head(self.quantum(x))


def load_data(partition, partitions):
    """Training and evaluation records of one clinic."""
    data = load_breast_cancer()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[:RECORDS]
    x = torch.tensor(data.data, dtype=torch.float32)[order][:, FEATURES] / LARGEST
    y = torch.tensor(data.target)[order]
    mine = torch.arange(partition, RECORDS, partitions)
    train, test = mine[: len(mine) // 2], mine[len(mine) // 2 :]
    return (x[train], y[train]), (x[test], y[test])
