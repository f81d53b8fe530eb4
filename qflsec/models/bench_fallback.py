"""What QNodes cost that the reader cannot read whole: as multiples of the torch kernel's cost for a like circuit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits.bench import BATCH, LAYERS, bench_data, bench_step, least_costs, one_thread
from qflsec.circuits.build import build_circuit
from qflsec.circuits.from_pennylane import roles_of
from qflsec.circuits.kernel import expectations
from qflsec.circuits.noise import NoiseModel
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.models.qnode_call import Mode, QNodeCall, qnode_call
from qflsec.models.torch_model import TorchModel

__all__ = ["TARGET", "FallbackRow", "bench_fallback"]

TARGET = 5.0
"""The largest multiple of the kernel's cost that is accepted where records are evaluated together."""
KERNEL, SHARED, NOISY = "kernel", "kernel, weights that all records share", "noisy kernel"
CHANNELS = "with channels that are no noise model"
LOOPING = "that a torch module calls for one record after the other"


@dataclass(frozen=True, kw_only=True)
class FallbackRow:
    """One comparison.

    Attributes:
        name: What the reader cannot read, or who calls it.
        mode: How rows are evaluated.
        n_qubits: Number of qubits.
        ratio: The cost of a step over that of the torch kernel, whose stages it takes, for the same gates, angles and number of measured values.
        kernel: Which kernel that is.
        target: The largest ratio that is accepted, if there is one: not where a function runs record by record.
    """

    name: str
    mode: str
    n_qubits: int
    ratio: float
    target: float | None = TARGET
    kernel: str = "torch kernel"

    @property
    def met(self) -> bool:
        """Whether the target, if there is one, is met."""
        return self.target is None or self.ratio <= self.target

    def __str__(self) -> str:
        """The row in a sentence."""
        word = "met" if self.met else "MISSED"
        aim = "no target" if self.target is None else f"target: at most {self.target:g}, {word}"
        return (
            f"A QNode of {self.n_qubits} qubits {self.name} ({self.mode}) costs {self.ratio:.2f} times the "
            f"{self.kernel}'s step for a like circuit ({aim})."
        )


def bench_fallback(*, n_qubits: int = 4, repeats: int = 12) -> tuple[FallbackRow, ...]:
    """Measure value and gradient of a batch of records, each with weights of its own; inside a module they share them."""
    features, labels = bench_data(n_qubits, BATCH)
    generator = torch.Generator().manual_seed(n_qubits)
    weights = (2 * math.pi * torch.rand(BATCH, 3 * LAYERS * n_qubits, generator=generator)).requires_grad_()
    circuit = build_circuit(n_qubits=n_qubits, layers=LAYERS)
    shared, noise = weights[0], NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate")
    steps = {
        KERNEL: bench_step(lambda: expectations(circuit, weights, features)[:, 0], weights, labels),
        NOISY: bench_step(
            lambda: noisy_expectations(circuit, weights, features, noise=noise)[:, 0], weights, labels
        ),
        SHARED: bench_step(lambda: expectations(circuit, shared, features)[:, 0], weights, labels),
    }
    cases = _cases(n_qubits)
    for name, (function, mode) in cases.items():
        values = partial(_call(function, n_qubits).rows, weights, features, mode)
        steps[name] = bench_step(partial(_first, values), weights, labels)
    model = _looping(n_qubits)
    steps[LOOPING] = bench_step(lambda: model(shared, features)[:, 1], weights, labels)
    with one_thread():
        costs = least_costs(steps, repeats)
    found = [(name, mode, NOISY if name == CHANNELS else KERNEL) for name, (_, mode) in cases.items()]
    return tuple(
        FallbackRow(
            name=name,
            mode=mode,
            n_qubits=n_qubits,
            ratio=costs[name] / costs[like],
            kernel="torch noisy kernel" if like == NOISY else "torch kernel",
            target=None if mode == "tapes-rows" else TARGET,
        )
        for name, mode, like in [*found, (LOOPING, model.call.mode, SHARED)]
    )


def _first(values: Callable[[], Tensor]) -> Tensor:
    return values()[:, 0]


def _looping(n: int) -> TorchModel:
    """A torch module that calls a QNode of the benchmark's gates for one record after the other."""
    import pennylane as qml

    def function(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(inputs, wires=range(n))
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.expval(qml.PauliZ(0))

    circuit = qml.QNode(function, qml.device("default.qubit", wires=n))

    class Looping(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.Parameter(torch.rand(LAYERS, n, 3))

        def forward(self, records: Tensor) -> Tensor:
            return torch.stack([circuit(record, self.weights) for record in records])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return TorchModel(make=Looping, n_features=n)


def _call(function: Callable[..., Any], n: int) -> QNodeCall:
    import pennylane as qml

    node = qml.QNode(function, qml.device("default.qubit", wires=n))
    return qnode_call(node, roles_of(node, weight_shape=(LAYERS, n, 3)), n)


def _cases(n: int) -> dict[str, tuple[Callable[..., Any], Mode]]:
    """Functions of the benchmark's gates that cannot be read, each for another reason."""
    import pennylane as qml

    def unknown(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(torch.erf(inputs), wires=range(n))
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.expval(qml.PauliZ(0))

    def variance(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(inputs, wires=range(n))
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.var(qml.PauliZ(0))

    def indexing(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        for wire in range(n):
            qml.RX(inputs[wire], wire)
        for layer in range(LAYERS):
            for wire in range(n):
                qml.Rot(*weights[layer, wire], wires=wire)
            for wire in range(n):
                qml.CNOT([wire, (wire + 1 + layer % (n - 1)) % n])
        return qml.var(qml.PauliZ(0))

    def damped(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(inputs, wires=range(n))
        qml.AmplitudeDamping(0.1, wires=0)
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        qml.PhaseDamping(0.2, wires=1)
        return qml.expval(qml.PauliZ(0))

    return {
        "with angles by unknown functions": (unknown, "angles"),
        "with a variance": (variance, "tapes"),
        "with a variance, and indices on records,": (indexing, "tapes-vmap"),
        CHANNELS: (damped, "tapes"),
        "with a branch on a feature": (_branching(n, lambda inputs: inputs[0]), "branches"),
        "with a variance of values that left torch": (_leaving(n), "tapes-kept"),
        "with a branch on what a library makes of a value": (
            _branching(n, lambda inputs: np.interp(inputs[0], [0.0, 9.0], [0.0, 9.0])),
            "tapes-rows",
        ),
    }


def _leaving(n: int) -> Callable[..., Any]:
    """A function that takes all its values out of torch."""
    import pennylane as qml

    def function(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(inputs.detach().numpy(), wires=range(n))
        qml.StronglyEntanglingLayers(np.array(weights.tolist()), wires=range(n))
        return qml.var(qml.PauliZ(0))

    return function


def _branching(n: int, value: Callable[[Tensor], Any]) -> Callable[..., Any]:
    """A function with a gate more where a value of a record is large."""
    import pennylane as qml

    def function(inputs: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        if value(inputs) > 1.5:
            qml.PauliX(1)
        qml.AngleEmbedding(inputs, wires=range(n))
        qml.StronglyEntanglingLayers(weights, wires=range(n))
        return qml.expval(qml.PauliZ(0))

    return function
