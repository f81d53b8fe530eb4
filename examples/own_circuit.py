"""A circuit of your own: read once, checked against PennyLane, and trained by the batched kernel.

Run it: python examples/own_circuit.py
"""

from __future__ import annotations

import pennylane as qml
import torch

from qflsec import DataSpec, FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.models import QNodeModel, QuantumLayer, check_per_sample_gradients


@qml.qnode(qml.device("default.qubit", wires=2))
def circuit(inputs, weights):
    """Two qubits, two layers of re-uploaded features."""
    for layer in weights:
        qml.AngleEmbedding(inputs, wires=range(2))
        qml.BasicEntanglerLayers(layer[None], wires=range(2), rotation=qml.RY)
    return qml.expval(qml.Z(0))


model = QNodeModel(qnode=circuit, weight_shape=(2, 2), n_features=2)
print("runs in the kernel:", model.circuit is not None, "- parameters:", model.n_params)

pipeline = Pipeline(
    data=DataSpec(
        name="iris", n_features=2, classes=(0, 1), members=40, nonmembers=10, auxiliary=20, test=20
    ),
    model=model,
    federation=FederationConfig(n_clients=4, rounds=10, learning_rate=0.5),
)
print("accuracy:", run_batch(pipeline, Stack(name="none"), [RunSpec(seed=0)])[0].accuracy[-1])
records, targets = torch.rand(8, 2), torch.rand(8, 1)
layer = QuantumLayer(model.circuit)
print(check_per_sample_gradients(layer, records, targets, loss=torch.nn.MSELoss()))
