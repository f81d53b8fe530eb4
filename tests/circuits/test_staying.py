"""QNodes whose functions take values out of torch: read all the same, with the derivative of what they compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import atan, pi
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp
from torch import Tensor

from qflsec.circuits import Circuit, NotAffine
from qflsec.circuits.from_pennylane import from_qnode
from qflsec.circuits.kernel import expectations

WIRES = 3


def halved(value: float) -> float:
    return math.sin(float(value)) / 2


def listed(x: Tensor, weights: Tensor) -> None:
    own, rest = weights.tolist(), x.tolist()
    for wire in range(WIRES):
        qml.RX(rest[wire] * own[wire], wire)
        qml.RY(max(own[3:4]) + own[4 + wire], wire)


def arrays(x: Tensor, weights: Tensor) -> None:
    z = np.clip(np.asarray(x, dtype=float), -0.9, 0.9)
    w = weights.detach().cpu().numpy().astype(float)
    qml.AngleEmbedding(np.arccos(z) + np.pi * np.tanh(np.array(w[:3])), wires=range(WIRES))
    qml.RY(np.dot(w[3:6], z) / np.linalg.norm(w), 1)
    qml.RX(np.float64(w[6]) + np.maximum(-5.0, w[3]).item(), 2)


def numbers(x: Tensor, weights: Tensor) -> None:
    for wire in range(WIRES):
        qml.RX(pi * halved(x[wire]) + atan(weights[wire]), wire)
        qml.RZ(2 * (math.pi - float(x[wire])) * weights[3 + wire].item(), wire)
    qml.RY(math.pow(x[0], 2) + math.fabs(weights[6]), 0)


def pennylanes(x: Tensor, weights: Tensor) -> None:
    z = pnp.array(x, requires_grad=False)
    qml.AngleEmbedding(pnp.tanh(z) * np.exp(-weights[:3].numpy()), wires=range(WIRES), rotation="Y")
    qml.RX(torch.tensor(x.tolist(), dtype=torch.float64)[0] * torch.as_tensor(weights.numpy())[4], 1)


def node_of(gates: Callable[..., None]) -> Any:
    @qml.qnode(qml.device("default.qubit", wires=WIRES))
    def node(x: Tensor, weights: Tensor) -> Any:
        gates(x, weights)
        for wire in range(WIRES):
            qml.CNOT([wire, (wire + 1) % WIRES])
        return [qml.expval(qml.Z(0)), qml.expval(qml.X(1) @ qml.Z(2))]

    return node


def circuit_of(gates: Callable[..., None]) -> tuple[Any, Circuit]:
    node = node_of(gates)
    return node, from_qnode(node, n_weights=7, n_features=WIRES)


@pytest.mark.parametrize("gates", [listed, arrays, numbers, pennylanes])
def test_values_and_slopes_are_the_qnodes(gates: Callable[..., None]) -> None:
    """Against calls of the QNode, whose slopes are differences: torch has none of what has left it."""
    node, circuit = circuit_of(gates)

    @settings(max_examples=3, deadline=None)
    @given(st.integers(0, 10**6))
    def check(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        w, direction = torch.randn(2, 7, generator=generator, dtype=torch.float64)
        x = torch.randn(WIRES, generator=generator, dtype=torch.float64)

        def called(weights: Tensor) -> Tensor:
            return torch.stack([torch.as_tensor(value) for value in node(x, weights)]).double()

        leaf = w.clone().requires_grad_()
        values = expectations(circuit, leaf, x, dtype=torch.complex128)
        assert torch.allclose(values.detach(), called(w), atol=1e-9)
        (slope,) = torch.autograd.grad(values[0] + 2 * values[1], leaf)
        change = (called(w + 1e-5 * direction) - called(w - 1e-5 * direction)) / 2e-5
        assert float(slope @ direction) == pytest.approx(float(change[0] + 2 * change[1]), abs=1e-6)

    check()


def test_a_function_that_tells_numbers_from_tensors_is_not_read_wrong() -> None:
    """The twin is a guess: what it gives is compared with the QNode."""

    def told(x: Tensor, weights: Tensor) -> None:
        (first, *_) = x.tolist()
        qml.RX(first if type(first) is float else 0.0, 0)
        qml.RY(weights[0], 1)

    with pytest.raises(NotAffine):
        circuit_of(told)
