"""deepquantum: a circuit in torch, records as a batch of encoded data, torch autograd."""

from __future__ import annotations

import deepquantum as dq
import numpy as np
import torch
from step import Gradient, compare, pairs
from torch.nn.functional import binary_cross_entropy_with_logits


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    circuit = dq.QubitCircuit(n)
    for wire in range(n):
        circuit.rx(wire, encode=True)
    for _, wire, target in pairs(n):
        if wire == 0:
            for rotated in range(n):
                for add in (circuit.rz, circuit.ry, circuit.rz):
                    add(rotated)
        circuit.cnot(wire, target)
    circuit.observable(0)
    parameters = list(circuit.parameters())  # in the order of the gates
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights.reshape(-1), strict=True):
            parameter.fill_(float(weight))
    x, y = torch.from_numpy(features), torch.from_numpy(labels)

    def gradient() -> np.ndarray:
        circuit(data=x)
        loss = binary_cross_entropy_with_logits(3 * circuit.expectation().reshape(-1), y, reduction="sum")
        return np.array([float(part) for part in torch.autograd.grad(loss, parameters)])

    return gradient


compare("deepquantum", make)
