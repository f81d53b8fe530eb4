"""pyqtorch: a circuit in torch, records as a batch."""

from __future__ import annotations

import numpy as np
import pyqtorch as pyq
import torch
from step import Gradient, compare, pairs
from torch.nn.functional import binary_cross_entropy_with_logits


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    gates = [pyq.RX(wire, f"x{wire}") for wire in range(n)]
    for layer, wire, target in pairs(n):
        if wire == 0:
            for rotated in range(n):
                names = [f"w{layer}_{rotated}_{place}" for place in range(3)]
                gates += [pyq.RZ(rotated, names[0]), pyq.RY(rotated, names[1]), pyq.RZ(rotated, names[2])]
        gates.append(pyq.CNOT(wire, target))
    circuit = pyq.QuantumCircuit(n, gates)
    observable = pyq.Observable(pyq.Z(0))
    angles = {
        f"w{layer}_{wire}_{place}": torch.tensor(float(weights[layer, wire, place]), requires_grad=True)
        for layer, wire, place in np.ndindex(weights.shape)
    }
    records = {f"x{wire}": torch.from_numpy(features[:, wire]) for wire in range(n)}
    y = torch.from_numpy(labels)

    def gradient() -> np.ndarray:
        values = pyq.expectation(circuit, pyq.zero_state(n), {**records, **angles}, observable)
        loss = binary_cross_entropy_with_logits(3 * values.float().reshape(-1), y, reduction="sum")
        return np.array([float(part) for part in torch.autograd.grad(loss, list(angles.values()))])

    return gradient


compare("pyqtorch", make)
