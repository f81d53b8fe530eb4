"""The noisy kernels' benchmark: a training step under noise, as a ratio to the torch kernel and to ``default.mixed``.

A step is the loss and the gradient of all weights for a batch of 32 records of each model: RX angle embedding, three
strongly entangling layers, a channel on the wires of every gate behind it, Z on wire 0. The kernel is the one that
executions use, compiled where numba is installed. The baselines are the torch noisy kernel and, for one model,
PennyLane's ``default.mixed`` with parameter broadcasting and backpropagation. Costs are measured as in
:mod:`qflsec.circuits.bench`, and gradients are compared first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.bench import BATCH, LAYERS, bench_data, bench_step, least_costs, one_thread
from qflsec.circuits.build import build_circuit
from qflsec.circuits.circuit import Circuit
from qflsec.circuits.executors import exact_noisy_expectations
from qflsec.circuits.noise import NoiseModel
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.to_pennylane import OPERATIONS

__all__ = ["NOISE_TARGETS", "NoiseRow", "bench_noise", "render_noise"]

KERNEL, TORCH, MIXED = "kernel", "torch kernel", "default.mixed"
MODELS = 16
NOISE_TARGETS: dict[str, dict[int, float]] = {MIXED: {4: 1 / 10}, TORCH: {4: 1 / 3, 6: 1 / 3}}
"""The largest ratio to each baseline that is accepted, by qubits; that to ``default.mixed`` for one model."""
NOISES = (
    NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate"),
    NoiseModel(kind="amplitude-damping", p=0.1, where="every-gate"),
)


@dataclass(frozen=True, kw_only=True)
class NoiseRow:
    """One case.

    Attributes:
        noise: The kind of the channel.
        n_qubits: Number of qubits.
        models: Models that are trained at once.
        ratios: The kernel's cost over each baseline's, by the baseline's name.
        microseconds_per_sample: The kernel's cost over the number of records and models.
        gradient_difference: The largest difference to a baseline's gradient of the mean loss.
        targets: The largest ratios that are accepted, by the baseline's name.
    """

    noise: str
    n_qubits: int
    models: int
    ratios: dict[str, float]
    microseconds_per_sample: float
    gradient_difference: float
    targets: dict[str, float]

    @property
    def met(self) -> bool:
        """Whether all targets are met."""
        return all(self.ratios[name] <= target for name, target in self.targets.items())


def bench_noise(*, qubits: Iterable[int] = (2, 4, 6), repeats: int = 5) -> tuple[NoiseRow, ...]:
    """Measure a noisy training step of one model and of many at each number of qubits.

    Args:
        qubits: Numbers of qubits.
        repeats: How often each engine is measured.
    """
    with one_thread():
        return tuple(
            _row(noise, n, models, repeats) for n in qubits for models in (1, MODELS) for noise in NOISES
        )


def render_noise(rows: Iterable[NoiseRow]) -> str:
    """The rows as a Markdown table; a larger speed-up is better."""
    names = (TORCH, MIXED)
    head = ["noise", "qubits", "models", *(f"speed-up over {name}" for name in names)]
    head += ["µs per sample", "gradient difference"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        micro, difference = f"{row.microseconds_per_sample:.3g}", f"{row.gradient_difference:.1e}"
        cells = [_speed_up(row, name) for name in names]
        lines.append([row.noise, str(row.n_qubits), str(row.models), *cells, micro, difference])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _speed_up(row: NoiseRow, name: str) -> str:
    """How many times faster than a baseline, with its target."""
    if name not in row.ratios:
        return ""
    found, target = f"{1 / row.ratios[name]:.1f}", row.targets.get(name)
    if target is None:
        return found
    return f"{found} (at least {1 / target:.0f}: {'met' if row.ratios[name] <= target else 'MISSED'})"


def _row(noise: NoiseModel, n: int, models: int, repeats: int) -> NoiseRow:
    circuit, axes = build_circuit(n_qubits=n, layers=LAYERS), () if models == 1 else (models,)
    features, labels = bench_data(n, *axes, BATCH)
    generator = torch.Generator().manual_seed(n + 1)
    own = (*axes, 1) if axes else ()
    weights = torch.randn(*own, circuit.n_weights, generator=generator).requires_grad_()
    kernels: dict[str, Callable[..., Tensor]] = {KERNEL: exact_noisy_expectations, TORCH: noisy_expectations}
    steps = {
        name: bench_step(partial(_first_value, kernel, circuit, weights, features, noise), weights, labels)
        for name, kernel in kernels.items()
    }
    if models == 1:
        mixed = _mixed(n, noise)
        steps[MIXED] = bench_step(lambda: mixed(features, weights), weights, labels)
    gradients = {name: step()[0] for name, step in steps.items()}
    ours = gradients.pop(KERNEL)
    costs = least_costs(steps, repeats)
    cost = costs.pop(KERNEL)
    return NoiseRow(
        noise=noise.kind,
        n_qubits=n,
        models=models,
        ratios={name: cost / other for name, other in costs.items()},
        microseconds_per_sample=cost * 1e6 / (BATCH * models),
        gradient_difference=max(float((ours - theirs).abs().max()) for theirs in gradients.values()) / BATCH,
        targets={name: table[n] for name, table in NOISE_TARGETS.items() if name in costs and n in table},
    )


def _first_value(
    kernel: Callable[..., Tensor], circuit: Circuit, weights: Tensor, features: Tensor, noise: NoiseModel
) -> Tensor:
    return kernel(circuit, weights, features, noise=noise)[..., 0]


def _mixed(n: int, noise: NoiseModel) -> Callable[..., Any]:
    """The same circuit and channels on ``default.mixed``, all records in one call."""
    import pennylane as qml

    circuit = build_circuit(n_qubits=n, layers=LAYERS)

    def channel(wire: int) -> None:
        if noise.kind == "local-depolarizing":
            qml.DepolarizingChannel(0.75 * noise.p, wires=wire)  # PennyLane's q is 3 p / 4
        else:
            qml.AmplitudeDamping(noise.p, wires=wire)

    def values(features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        for gate in circuit.gates:
            angles = [(weights if a.kind == "weight" else features)[..., a.index] for a in gate.angles]
            getattr(qml, OPERATIONS.get(gate.name, gate.name))(*angles, wires=list(gate.wires))
            for wire in gate.wires:
                channel(wire)
        return qml.expval(qml.PauliZ(0))

    node: Callable[..., Any] = qml.QNode(
        values, qml.device("default.mixed", wires=n), interface="torch", diff_method="backprop"
    )
    return node
