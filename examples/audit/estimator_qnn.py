"""An EstimatorQNN of qiskit-machine-learning, as a torch module with a linear layer behind it.

Audit it: pip install 'qflsec[qiskit-ml]', then qflsec audit examples/audit/estimator_qnn.py
"""

from __future__ import annotations

import numpy as np
import torch
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN
from sklearn.datasets import load_iris

QUBITS = 2


def load_data():
    x, y = load_iris(return_X_y=True)
    x, y = x[y < 2][:, [1, 3]], y[y < 2]
    x = x + 0.01 * np.random.default_rng(1).normal(size=x.shape)  # no two flowers are alike
    order = np.random.default_rng(0).permutation(len(x))
    x = torch.tensor(x[order] / [2.0, 1.0], dtype=torch.float32)
    return x[:60], torch.tensor(y[order])[:60], x[60:], torch.tensor(y[order])[60:]


def ansatz():
    features, weights = ParameterVector("x", QUBITS), ParameterVector("weights", 3 * QUBITS)
    circuit = QuantumCircuit(QUBITS)
    for qubit in range(QUBITS):
        circuit.ry(features[qubit], qubit)
    for layer in range(3):
        for qubit in range(QUBITS):
            circuit.rx(weights[QUBITS * layer + qubit], qubit)
        circuit.cx(0, 1)
    return circuit, list(features), list(weights)


circuit, inputs, parameters = ansatz()
qnn = EstimatorQNN(
    circuit=circuit,
    observables=[SparsePauliOp("IZ"), SparsePauliOp("ZI")],
    input_params=inputs,
    weight_params=parameters,
)


def model():
    return torch.nn.Sequential(TorchConnector(qnn), torch.nn.Linear(QUBITS, 2))
