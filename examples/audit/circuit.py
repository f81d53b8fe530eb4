"""A QNode and its records: what does one update tell the server?

Audit it: qflsec audit examples/audit/circuit.py
"""

from __future__ import annotations

import numpy as np
import pennylane as qml
from sklearn.datasets import load_iris

weights = np.zeros((2, 4, 3))


def load_data():
    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 3, y[order]
    return x[:100], y[:100], x[100:], y[100:]


@qml.qnode(qml.device("default.qubit", wires=4))
def circuit(weights, features):
    qml.AngleEmbedding(features, wires=range(4))
    qml.StronglyEntanglingLayers(weights, wires=range(4))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(3)]
