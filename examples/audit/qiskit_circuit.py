"""A Qiskit circuit with parameters for features and weights.

Audit it: qflsec audit examples/audit/qiskit_circuit.py
"""

from __future__ import annotations

import numpy as np
from qiskit.circuit import ParameterVector, QuantumCircuit
from sklearn.datasets import load_wine

features, weights = ParameterVector("x", 3), ParameterVector("weights", 9)


def load_data():
    x, y = load_wine(return_X_y=True)
    kept = y < 2
    x = x[kept][:, :3] / [15.0, 6.0, 3.5]
    order = np.random.default_rng(0).permutation(len(x))
    x, y = np.pi * x[order], y[kept][order]
    return x[:90], y[:90], x[90:], y[90:]


circuit = QuantumCircuit(3)
for qubit in range(3):
    circuit.ry(features[qubit], qubit)
for layer in range(3):
    for qubit in range(3):
        circuit.rx(weights[3 * layer + qubit], qubit)
    for qubit in range(2):
        circuit.cx(qubit, qubit + 1)
