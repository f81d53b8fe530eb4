"""What a QNode costs that the reader cannot read whole: as a multiple of the kernel's cost for a like circuit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.bench import BATCH, LAYERS, bench_data, bench_step, least_costs, one_thread
from qflsec.circuits.from_pennylane import read_qnode, roles_of
from qflsec.models.qnode_call import QNodeCall

__all__ = ["TARGET", "FallbackRow", "bench_fallback"]

TARGET = 5.0
"""The largest multiple of the kernel's cost that is accepted."""


@dataclass(frozen=True, kw_only=True)
class FallbackRow:
    """One comparison.

    Attributes:
        n_qubits: Number of qubits.
        ratio: The cost of a step with an angle that the reader does not know, over that of the same circuit with
            one that it knows.
    """

    n_qubits: int
    ratio: float

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= TARGET

    def __str__(self) -> str:
        """The row in a sentence."""
        word = "met" if self.met else "MISSED"
        return (
            f"A QNode of {self.n_qubits} qubits whose angles are unknown functions costs {self.ratio:.2f} times the "
            f"kernel's step for a like circuit (target: at most {TARGET:g}, {word})."
        )


def bench_fallback(*, n_qubits: int = 4, repeats: int = 12) -> FallbackRow:
    """Measure value and gradient of a batch, with ``erf`` (unknown) and ``tanh`` (known) around the features."""
    import pennylane as qml

    device = qml.device("default.qubit", wires=n_qubits)
    features, labels = bench_data(n_qubits, BATCH)
    generator = torch.Generator().manual_seed(n_qubits)
    weights = (2 * math.pi * torch.rand(BATCH, 3 * LAYERS * n_qubits, generator=generator)).requires_grad_()

    def step(function: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
        def circuit(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
            qml.AngleEmbedding(function(inputs), wires=range(n_qubits))
            qml.StronglyEntanglingLayers(weights, wires=range(n_qubits))
            return qml.expval(qml.PauliZ(0))

        node = qml.QNode(circuit, device)
        roles = roles_of(node, weight_shape=(LAYERS, n_qubits, 3))
        call = QNodeCall(node, roles, read_qnode(node, roles, n_qubits, partly=True))
        return bench_step(lambda: call.rows(weights, features, "angles")[:, 0], weights, labels)

    with one_thread():
        costs = least_costs({"unknown": step(torch.erf), "known": step(torch.tanh)}, repeats)
    return FallbackRow(n_qubits=n_qubits, ratio=costs["unknown"] / costs["known"])
