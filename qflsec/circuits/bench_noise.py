"""The noisy kernel's benchmark: a training step under noise, as a ratio to PennyLane's ``default.mixed``.

A step is the loss and the gradient of all weights for a batch of 32 records: RX angle embedding, three
strongly entangling layers, a channel on the wires of every gate behind it, Z on wire 0. The baseline is
``default.mixed`` with parameter broadcasting and backpropagation. Costs are measured as in
:mod:`qflsec.circuits.bench`, and both gradients are compared first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.bench import BATCH, LAYERS, bench_data, bench_step, least_costs, one_thread
from qflsec.circuits.build import build_circuit
from qflsec.circuits.noise import NoiseModel
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.to_pennylane import OPERATIONS

__all__ = ["NOISE_TARGETS", "NoiseRow", "bench_noise", "render_noise"]

MIXED = "default.mixed"
NOISE_TARGETS: dict[int, float] = {4: 1 / 10}
"""The largest ratio to ``default.mixed`` that is accepted, by qubits."""
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
        ratio: The kernel's cost over that of ``default.mixed``.
        microseconds_per_sample: The kernel's cost over the number of records.
        gradient_difference: The largest difference between the two gradients of the mean loss.
        target: The largest ratio that is accepted, if there is one.
    """

    noise: str
    n_qubits: int
    ratio: float
    microseconds_per_sample: float
    gradient_difference: float
    target: float | None = None

    @property
    def met(self) -> bool:
        """Whether the target, if there is one, is met."""
        return self.target is None or self.ratio <= self.target


def bench_noise(*, qubits: Iterable[int] = (2, 4, 6), repeats: int = 5) -> tuple[NoiseRow, ...]:
    """Measure a noisy training step at each number of qubits.

    Args:
        qubits: Numbers of qubits.
        repeats: How often each engine is measured.
    """
    with one_thread():
        return tuple(_row(noise, n, repeats) for n in qubits for noise in NOISES)


def render_noise(rows: Iterable[NoiseRow]) -> str:
    """The rows as a Markdown table; a larger speed-up is better."""
    head = [
        "noise",
        "qubits",
        "speed-up over default.mixed",
        "target",
        "µs per sample",
        "gradient difference",
    ]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        target = "" if row.target is None else f"{1 / row.target:.0f} ({'met' if row.met else 'MISSED'})"
        micro, difference = f"{row.microseconds_per_sample:.3g}", f"{row.gradient_difference:.1e}"
        lines.append([row.noise, str(row.n_qubits), f"{1 / row.ratio:.1f}", target, micro, difference])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(noise: NoiseModel, n: int, repeats: int) -> NoiseRow:
    circuit = build_circuit(n_qubits=n, layers=LAYERS)
    features, labels = bench_data(n, BATCH)
    generator = torch.Generator().manual_seed(n + 1)
    weights = torch.randn(circuit.n_weights, generator=generator).requires_grad_()
    mixed = _mixed(n, noise)
    steps = {
        "kernel": bench_step(
            lambda: noisy_expectations(circuit, weights, features, noise=noise)[:, 0], weights, labels
        ),
        MIXED: bench_step(lambda: mixed(features, weights), weights, labels),
    }
    (ours,), (theirs,) = steps["kernel"](), steps[MIXED]()
    costs = least_costs(steps, repeats)
    return NoiseRow(
        noise=noise.kind,
        n_qubits=n,
        ratio=costs["kernel"] / costs[MIXED],
        microseconds_per_sample=costs["kernel"] * 1e6 / BATCH,
        gradient_difference=float((ours - theirs).abs().max()) / BATCH,
        target=NOISE_TARGETS.get(n),
    )


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
