"""The model and the records."""

from __future__ import annotations

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from qflsec.models import QuantumLayer, build_model

RECORDS, TEST = 200, 200
FEATURES = [0, 1, 4, 7]  # mean radius, texture, smoothness, concave points
LARGEST = torch.tensor([30.0, 40.0, 0.2, 0.25])  # fixed beforehand, and not by anybody's records


class Net(nn.Module):
    """A circuit of four qubits, and a linear layer on its expectation values."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            circuit = build_model({"name": "vqc", "n_qubits": 4, "layers": 2}).circuit
            self.quantum = QuantumLayer(circuit)
            self.head = nn.Linear(len(circuit.observables), 2)

    def forward(self, x):
        """Logits ``(n, 2)``."""
        return self.head(self.quantum(torch.pi * x))


def fit(net, x, y, *, steps, rate):
    """Steps of Adam on all records."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def records(index, n):
    """The records of one of ``n`` clinics."""
    x, y = _all()
    return x[index:RECORDS:n], y[index:RECORDS:n]


def accuracy(net):
    """On records that no clinic has."""
    x, y = _all()
    with torch.no_grad():
        guessed = net(x[RECORDS : RECORDS + TEST]).argmax(dim=1)
    return float((guessed == y[RECORDS : RECORDS + TEST]).double().mean())


def _all():
    data = load_breast_cancer()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x = torch.tensor(data.data, dtype=torch.float32)[order][:, FEATURES] / LARGEST
    return x, torch.tensor(data.target)[order]
