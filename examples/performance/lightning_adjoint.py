"""PennyLane's `lightning.qubit`: C++, adjoint differentiation, a tape for each record."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import torch
from step import Gradient, compare
from torch.nn.functional import binary_cross_entropy_with_logits


def make(n: int, weights: np.ndarray, features: np.ndarray, labels: np.ndarray) -> Gradient:
    @qml.qnode(qml.device("lightning.qubit", wires=n), interface="torch", diff_method="adjoint")
    def node(w, x):
        qml.AngleEmbedding(x, wires=range(n))
        qml.StronglyEntanglingLayers(w, wires=range(n))
        return qml.expval(qml.PauliZ(0))

    w = torch.from_numpy(weights.copy()).requires_grad_()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)

    def gradient() -> np.ndarray:
        values = node(w, x)
        loss = binary_cross_entropy_with_logits(3 * values.to(y.dtype), y, reduction="sum")
        return torch.autograd.grad(loss, w)[0].numpy()

    return gradient


compare("PennyLane's lightning.qubit", make)
