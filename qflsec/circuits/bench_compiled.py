"""The compiled kernel against the torch kernel, which stays as the reference: ratios of cost and of memory.

The circuit and the batch are those of :mod:`qflsec.circuits.bench`. Both kernels are called by name, in turn, several
times over, in one process, and keep their best. Memory is what a gradient adds to a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.circuits.bench import (
    BATCH,
    LAYERS,
    MODELS,
    bench_data,
    bench_step,
    bench_weights,
    fraction,
    least_costs,
    one_thread,
)
from qflsec.circuits.build import build_circuit
from qflsec.circuits.executors import executor_name
from qflsec.circuits.kernel import expectations

__all__ = [
    "COMPILE_SECONDS",
    "GOALS",
    "CompileCost",
    "KernelRow",
    "bench_compiled",
    "first_compile",
    "gradient_memory",
    "kernel_row",
    "print_compile",
    "print_memory",
    "render_kernels",
]

Evaluate = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[], Any]
KERNELS = ("compiled", "torch")

GOALS: dict[str, float] = {
    "one model": 1 / 3,
    f"{MODELS} models": 1 / 5,
    "per-sample gradients": 1 / 6,
    "forward": 1 / 2.5,
    "memory of a gradient": 1 / 4,
    "local training": 1 / 8,
    "local training, DP-SGD": 1 / 8,
}
"""The largest ratio to the torch kernel that is accepted, by case."""


COMPILE_SECONDS = 20.0
"""The most processor time, in seconds, that the first compile of both precisions is to take on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class CompileCost:
    """What a user waits for once: the first compile of the kernel that takes no noise.

    Attributes:
        single: Of single precision, with local training.
        double: Of double precision.

    Units:
        single, double: seconds of processor time.
    """

    single: float
    double: float

    @property
    def met(self) -> bool:
        """Whether both together stay within :data:`COMPILE_SECONDS`."""
        return self.single + self.double <= COMPILE_SECONDS

    def to_json(self) -> dict[str, Any]:
        """The costs as a JSON object."""
        return {
            "single_cpu_seconds": self.single,
            "double_cpu_seconds": self.double,
            "target_cpu_seconds": COMPILE_SECONDS,
            "met": self.met,
        }

    def __str__(self) -> str:
        found = f"{self.single + self.double:.1f} s of processor time"
        parts = f"{self.single:.1f} s in single precision, {self.double:.1f} s in double"
        return f"First compile: {found} ({parts}), target {COMPILE_SECONDS:.0f} s ({'met' if self.met else 'MISSED'})."


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One case.

    Attributes:
        name: The case.
        n_qubits: Number of qubits.
        unit: ``"us"``, microseconds of processor time for one step, or ``"mib"``, mebibytes.
        compiled: The compiled kernel's cost.
        torch: The torch kernel's.
        target: The largest ratio that is accepted.
    """

    name: str
    n_qubits: int
    unit: str
    compiled: float
    torch: float
    target: float

    @property
    def ratio(self) -> float:
        """The compiled kernel's cost over the torch kernel's."""
        return self.compiled / self.torch

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object, with the unit in the names of the costs."""
        return {
            "name": self.name,
            "n_qubits": self.n_qubits,
            f"compiled_{self.unit}": self.compiled,
            f"torch_{self.unit}": self.torch,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
        }


def bench_compiled(*, qubits: Iterable[int] = (4, 6, 8, 10, 12), repeats: int = 12) -> tuple[KernelRow, ...]:
    """Measure the cases at each number of qubits; 64 models up to 8 only.

    Args:
        qubits: Numbers of qubits.
        repeats: How often each kernel is measured.

    Returns:
        A row for each case; none where numba is missing.
    """
    if executor_name("auto") == "torch":
        return ()
    rows = []
    with one_thread():
        for n in qubits:
            for name, case in _cases(n).items():
                costs = least_costs({kernel: case(_evaluate(kernel, n)) for kernel in KERNELS}, repeats)
                rows.append(kernel_row(name, n, "us", {kernel: 1e6 * cost for kernel, cost in costs.items()}))
    return tuple(rows)


def kernel_row(name: str, n_qubits: int, unit: str, costs: dict[str, float]) -> KernelRow:
    """The row of a case, with its target."""
    return KernelRow(name=name, n_qubits=n_qubits, unit=unit, target=GOALS[name], **costs)


def _evaluate(kernel: str, n: int) -> Evaluate:
    """Values of wire 0, ``(..., P)`` and ``(..., F)`` to ``(...)``."""
    from qflsec.circuits.compiled import compiled_expectations

    circuit = build_circuit(n_qubits=n, layers=LAYERS)
    run = compiled_expectations if kernel == "compiled" else expectations
    return lambda weights, features: run(circuit, weights, features)[..., 0]


def _cases(n: int) -> dict[str, Callable[[Evaluate], Step]]:
    """What makes a step of each case."""

    def one(evaluate: Evaluate) -> Step:
        weights, (features, labels) = bench_weights(n), bench_data(n, BATCH)
        return bench_step(lambda: evaluate(weights, features), weights, labels)

    def many(evaluate: Evaluate) -> Step:
        weights, (features, labels) = bench_weights(n, MODELS, 1), bench_data(n, MODELS, BATCH)
        return bench_step(lambda: evaluate(weights, features), weights, labels)

    def per_sample(evaluate: Evaluate) -> Step:
        features, labels = bench_data(n, BATCH)
        # expanded, as the library's own per-sample gradients have them: a gradient for each record
        weights = bench_weights(n).detach().expand(BATCH, -1).requires_grad_()
        return bench_step(lambda: evaluate(weights, features), weights, labels)

    def forward(evaluate: Evaluate) -> Step:
        weights, (features, _) = bench_weights(n).detach(), bench_data(n, BATCH)
        return lambda: evaluate(weights, features)

    cases: dict[str, Callable[[Evaluate], Step]] = {
        "one model": one,
        "per-sample gradients": per_sample,
        "forward": forward,
    }
    return {**cases, f"{MODELS} models": many} if n <= 8 else cases


def gradient_memory(*, n_qubits: int = 14, records: int = 256) -> KernelRow | None:
    """What a gradient of all weights adds to the memory of a process, for each kernel in a process of its own.

    Args:
        n_qubits: Number of qubits.
        records: Size of the batch.

    Returns:
        The row; None where numba is missing.

    Raises:
        ConfigError: A process fails, as where the machine has too little memory.
    """
    if executor_name("auto") == "torch":
        return None
    found = {
        kernel: _printed(
            f"print_memory({kernel!r}, {n_qubits}, {records})",
            f"the memory of a gradient by the {kernel} kernel",
        )[0]
        for kernel in KERNELS
    }
    return kernel_row("memory of a gradient", n_qubits, "mib", found)


def first_compile() -> CompileCost | None:
    """Compile the kernel in a process that finds nothing of earlier ones.

    Returns:
        The cost; None where numba is missing.

    Raises:
        ConfigError: The process fails.
    """
    if executor_name("auto") == "torch":
        return None
    with TemporaryDirectory() as folder:
        single, double = _printed("print_compile()", "the first compile", NUMBA_CACHE_DIR=folder)
    return CompileCost(single=single, double=double)


def _printed(call: str, what: str, **variables: str) -> list[float]:
    """The numbers that a function of this module prints in a process of its own."""
    done = subprocess.run(  # noqa: S603 - this module's own code
        [sys.executable, "-c", f"import {__name__} as bench; bench.{call}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        got = done.stderr.strip()[-500:] or f"exit status {done.returncode}"
        raise ConfigError(f"{what} could not be measured", got=got)
    return [float(word) for word in done.stdout.split()]


def print_compile() -> None:
    """Print the processor time that each precision takes to compile or load in this process, in seconds."""
    from qflsec.circuits.compiled import compile_kernel

    with one_thread():
        for dtype in (torch.complex64, torch.complex128):
            start = time.process_time()
            compile_kernel(dtype)
            print(time.process_time() - start)  # noqa: T201 - the parent reads it


def print_memory(kernel: str, n_qubits: int, records: int) -> None:
    """Print by how many MiB one gradient raises this process's peak; imports and compiling come before."""

    def gradient(n: int, count: int) -> None:
        weights, (features, labels) = bench_weights(n), bench_data(n, count)
        evaluate = _evaluate(kernel, n)
        bench_step(lambda: evaluate(weights, features), weights, labels)()

    with one_thread():
        gradient(2, 2)
        before = _peak_mib()
        gradient(n_qubits, records)
    print(_peak_mib() - before)  # noqa: T201 - the parent reads it


def _peak_mib() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the parent held when it started this process
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def render_kernels(rows: Iterable[KernelRow]) -> str:
    """The rows as a Markdown table of ratios; smaller is less."""
    lines = [["case", "qubits", "compiled / torch kernel", "target", "compiled", "torch kernel"]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        target = f"{fraction(row.target)} ({'met' if row.met else 'MISSED'})"
        costs = [_amount(value, row.unit) for value in (row.compiled, row.torch)]
        lines.append([row.name, str(row.n_qubits), fraction(row.ratio), target, *costs])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _amount(value: float, unit: str) -> str:
    if unit == "mib":
        return f"{value:.0f} MiB"
    return f"{value:.3g} µs" if value < 1000 else f"{value / 1000:.3g} ms"
