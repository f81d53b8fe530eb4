"""A PennyLane layer trained under Opacus, as many write it: the circuit never learns, and the clip norm does not bind.

Audit it: qflsec audit examples/audit/broken_opacus.py --claims examples/audit/opacus_claims.toml
"""

from __future__ import annotations

import pennylane as qml
import torch
from opacus import PrivacyEngine
from sklearn.datasets import load_breast_cancer
from torch.utils.data import DataLoader, TensorDataset


def load_data():
    x, y = load_breast_cancer(return_X_y=True)
    x = torch.as_tensor(x[:, :4] / [30.0, 40.0, 190.0, 2600.0], dtype=torch.float32)
    y = torch.as_tensor(y)
    return x[:400], y[:400], x[400:], y[400:]


@qml.qnode(qml.device("default.qubit", wires=4))
def circuit(inputs, weights):
    qml.AngleEmbedding(3 * inputs, wires=range(4))
    qml.BasicEntanglerLayers(weights, wires=range(4))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]


def model():
    layer = qml.qnn.TorchLayer(circuit, {"weights": (2, 4)})
    return torch.nn.Sequential(layer, torch.nn.Linear(4, 2))


def make_private():
    x, y, _, _ = load_data()
    module = model()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    loader = DataLoader(TensorDataset(x, y), batch_size=20)
    module, optimizer, loader = PrivacyEngine().make_private(
        module=module, optimizer=optimizer, data_loader=loader, noise_multiplier=1.0, max_grad_norm=1.0
    )
    return module, optimizer, loader
