"""The engine's benchmark: what a training step costs, as a ratio to PennyLane's cost for the same step.

The kernel is the one that :func:`qflsec.circuits.executors.exact_expectations` takes by itself: the compiled one where
numba is installed. :mod:`qflsec.circuits.bench_compiled` compares it with the torch kernel.

A step is the loss and the gradient of all weights for a batch of 32 records: RX angle embedding, three
strongly entangling layers, Z on wire 0. Costs are CPU time of this process with one torch thread. Every
engine of a case is measured in turn, several times over, and keeps its best, so that other load on the
machine strikes all of them. Absolute times differ between machines; the ratios are the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from qflsec.circuits.build import build_circuit
from qflsec.circuits.executors import exact_expectations

__all__ = [
    "BATCH",
    "LAYERS",
    "TARGETS",
    "BenchRow",
    "bench",
    "bench_data",
    "bench_step",
    "bench_weights",
    "fraction",
    "least_costs",
    "one_thread",
    "render",
]

BATCH = 32
LAYERS = 3
MODELS = 64
BROADCAST = "PennyLane broadcasting"
LOOP = "PennyLane sample by sample"
LIGHTNING = "lightning.qubit adjoint"

TARGETS: dict[tuple[str, int], float] = {
    ("one model", 4): 1 / 10,
    ("one model", 6): 1 / 10,
    ("one model", 8): 1 / 8,
    ("one model", 10): 1 / 8,
    ("64 models", 4): 1 / 6,
    ("per-sample gradients", 4): 1 / 6,
    ("per-sample gradients", 6): 1 / 6,
    ("per-sample gradients", 8): 1 / 6,
    ("per-sample gradients", 10): 1 / 6,
}
"""The largest ratio to PennyLane's broadcasting that is accepted, by case and qubits."""

Step = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One case.

    Attributes:
        name: The case: one model, 64 models at once, or the gradient of every record.
        n_qubits: Number of qubits.
        models: Models that are trained at once.
        ratios: The kernel's cost over each baseline's, by the baseline's name.
        microseconds_per_sample: The kernel's cost over the number of records and models.
        target: The largest ratio to PennyLane's broadcasting that is accepted, if there is one.
    """

    name: str
    n_qubits: int
    models: int
    ratios: tuple[tuple[str, float], ...]
    microseconds_per_sample: float
    target: float | None = None

    @property
    def met(self) -> bool:
        """Whether the target, if there is one, is met."""
        return self.target is None or dict(self.ratios)[BROADCAST] <= self.target


def bench(
    *, qubits: Iterable[int] = (4, 6, 8, 10), repeats: int = 12, slow_baselines: bool = True
) -> tuple[BenchRow, ...]:
    """Measure the cases at each number of qubits; many models at 4 and 6 only.

    Args:
        qubits: Numbers of qubits.
        repeats: How often each engine is measured.
        slow_baselines: Whether to measure PennyLane's loop over records and lightning.qubit too.
    """
    rows = []
    with one_thread():
        for n in qubits:
            rows.append(_row("one model", n, 1, _one_model(n, slow=slow_baselines), repeats))
            if n <= 6:
                rows.append(_row(f"{MODELS} models", n, MODELS, _many_models(n), repeats))
            rows.append(_row("per-sample gradients", n, 1, _per_sample(n), repeats))
    return tuple(rows)


def render(rows: Iterable[BenchRow]) -> str:
    """The rows as a Markdown table of ratios; smaller is faster."""
    rows = tuple(rows)
    names = list(dict.fromkeys(name for row in rows for name, _ in row.ratios))
    head = ["case", "qubits", *(f"kernel / {name}" for name in names), "target", "µs per sample"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        ratios = dict(row.ratios)
        cells = [fraction(ratios.get(name)) for name in names]
        target = fraction(row.target) + ("" if row.target is None else " (met)" if row.met else " (MISSED)")
        micro = f"{row.microseconds_per_sample:.3g}"
        lines.append([row.name, str(row.n_qubits), *cells, target, micro])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fraction(ratio: float | None) -> str:
    """A ratio as text: what is below 1 as a fraction of 1."""
    return "" if ratio is None else f"1/{1 / ratio:.1f}" if ratio < 1 else f"{ratio:.2f}"


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread, and the caller's number again afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _row(name: str, n: int, models: int, engines: dict[str, Step], repeats: int) -> BenchRow:
    costs = least_costs(engines, repeats)
    own = costs.pop("kernel")
    return BenchRow(
        name=name,
        n_qubits=n,
        models=models,
        ratios=tuple((other, own / cost) for other, cost in costs.items()),
        microseconds_per_sample=own * 1e6 / (BATCH * models),
        target=TARGETS.get((name, n)),
    )


def least_costs(engines: dict[str, Step], repeats: int) -> dict[str, float]:
    """The least CPU seconds of one step of each engine, measured in turn.

    The kernel's steps are too short for the clock, so that several make one measurement, after a quarter as many that are not
    measured: the first ones find the caches full of another engine's data. Engines that take over 0.1 seconds are measured twice only.
    """
    counts = {}
    for name, step in engines.items():
        step()  # compiles what is compiled at the first call
        counts[name] = max(1, min(20, int(0.02 / max(_time(step, 1), 1e-4))))
    best = {name: float("inf") for name in engines}
    for turn in range(repeats):
        for name, step in engines.items():
            if turn < 2 or best[name] < 0.1:
                for _ in range(counts[name] // 4):
                    step()
                best[name] = min(best[name], _time(step, counts[name]))
    return best


def _time(step: Step, count: int) -> float:
    start = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - start) / count


def bench_data(n: int, *batch: int) -> tuple[Tensor, Tensor]:
    """Features ``(*batch, n)`` and labels ``(*batch)``, the same at every call."""
    generator = torch.Generator().manual_seed(n)
    features = torch.rand(*batch, n, generator=generator) * torch.pi
    return features, torch.randint(0, 2, batch, generator=generator).float()


def bench_weights(n: int, *batch: int) -> Tensor:
    """Weights ``(*batch, P)`` that require gradients, the same at every call."""
    generator = torch.Generator().manual_seed(n + 1)
    return torch.randn(*batch, 3 * LAYERS * n, generator=generator).requires_grad_()


def bench_step(values: Callable[[], Tensor], weights: Tensor, labels: Tensor) -> Step:
    """Loss and gradient; summed over records, so that per-sample gradients are those of single records."""

    def step() -> Any:  # noqa: ANN401
        loss = binary_cross_entropy_with_logits(3 * values().float(), labels, reduction="sum")
        return torch.autograd.grad(loss, weights)

    return step


def _qnode(n: int, device: str, method: str) -> Callable[..., Any]:
    import pennylane as qml

    def values(features: Tensor, weights: Tensor) -> Any:  # noqa: ANN401
        qml.AngleEmbedding(features, wires=range(n))
        qml.StronglyEntanglingLayers(weights.reshape(*weights.shape[:-1], LAYERS, n, 3), wires=range(n))
        return qml.expval(qml.PauliZ(0))

    node: Callable[..., Any] = qml.QNode(
        values, qml.device(device, wires=n), interface="torch", diff_method=method
    )
    return node


def _one_model(n: int, *, slow: bool) -> dict[str, Step]:
    circuit = build_circuit(n_qubits=n, layers=LAYERS)
    weights, (features, labels) = bench_weights(n), bench_data(n, BATCH)
    node, lightning = _qnode(n, "default.qubit", "backprop"), _qnode(n, "lightning.qubit", "adjoint")
    steps = {
        "kernel": bench_step(lambda: exact_expectations(circuit, weights, features)[:, 0], weights, labels),
        BROADCAST: bench_step(lambda: node(features, weights), weights, labels),
    }
    if slow:
        steps[LOOP] = bench_step(lambda: torch.stack([node(x, weights) for x in features]), weights, labels)
        steps[LIGHTNING] = bench_step(lambda: lightning(features, weights), weights, labels)
    return steps


def _many_models(n: int) -> dict[str, Step]:
    circuit = build_circuit(n_qubits=n, layers=LAYERS)
    weights, (features, labels) = bench_weights(n, MODELS, 1), bench_data(n, MODELS, BATCH)
    node = _qnode(n, "default.qubit", "backprop")

    def broadcast() -> Tensor:
        rows = weights.expand(-1, BATCH, -1).reshape(MODELS * BATCH, -1)
        values: Tensor = node(features.reshape(MODELS * BATCH, -1), rows)
        return values.reshape(MODELS, BATCH)

    return {
        "kernel": bench_step(lambda: exact_expectations(circuit, weights, features)[..., 0], weights, labels),
        BROADCAST: bench_step(broadcast, weights, labels),
    }


def _per_sample(n: int) -> dict[str, Step]:
    circuit = build_circuit(n_qubits=n, layers=LAYERS)
    features, labels = bench_data(n, BATCH)
    weights = bench_weights(n).detach().expand(BATCH, -1).requires_grad_()
    node = _qnode(n, "default.qubit", "backprop")
    return {
        "kernel": bench_step(lambda: exact_expectations(circuit, weights, features)[:, 0], weights, labels),
        BROADCAST: bench_step(lambda: node(features, weights), weights, labels),
    }
