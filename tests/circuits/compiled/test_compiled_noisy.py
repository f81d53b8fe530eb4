"""The compiled noisy kernel against the torch noisy kernel, whose own oracles are PennyLane and Qiskit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Gate,
    NoiseModel,
    Observable,
    build_circuit,
    noisy_expectations,
    pauli_z,
)
from qflsec.circuits.compiled.noisy import compiled_noisy_expectations
from qflsec.circuits.compiled.noisy.program import compile_noisy_program
from qflsec.circuits.executors import exact_noisy_expectations
from qflsec.circuits.gates import GATES
from qflsec.circuits.noise import KINDS, PLACES

DOUBLE = torch.complex128
CASES = [
    (k, w) for k in KINDS for w in PLACES if k != "global-depolarizing" or w in ("encoded", "measurement")
]
SHAPES = [
    ((), ()),
    ((), (20,)),
    ((3, 1), (3, 9)),
    ((6,), (6,)),
    ((3, 1), (3, 2)),
    ((4, 1), (5,)),
    ((1, 2, 1), (3, 1, 6)),
]
Kernel = Callable[..., Tensor]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def model(kind: str, where: str, p: float) -> NoiseModel:
    return NoiseModel(kind=kind, p=p, where=where, ground=0.7 if kind.startswith("generalized") else 1.0)


def derivatives(kernel: Kernel, circuit: Circuit, noise: NoiseModel, *inputs: Tensor) -> list[Tensor]:
    """Values, and the gradient of a function that weighs them differently."""
    weights, features = (tensor.detach().requires_grad_() for tensor in inputs)
    dtype = DOUBLE if weights.dtype == torch.float64 else torch.complex64
    values = kernel(circuit, weights, features, noise=noise, dtype=dtype)
    waves = torch.cos(torch.arange(values.numel(), dtype=values.dtype)).reshape(values.shape)
    total = ((values + values**2) * waves).sum()
    pair: tuple[Tensor | None, ...] = (None, None)
    if total.requires_grad:  # the torch kernel's do not where no gate reads them
        pair = torch.autograd.grad(total, (weights, features), allow_unused=True)
    zeros = (torch.zeros_like(own) for own in inputs)
    return [
        values.detach(),
        *(zero if part is None else part for part, zero in zip(pair, zeros, strict=True)),
    ]


def agree(circuit: Circuit, noise: NoiseModel, weights: Tensor, features: Tensor) -> None:
    found = derivatives(compiled_noisy_expectations, circuit, noise, weights, features)
    expected = derivatives(noisy_expectations, circuit, noise, weights, features)
    assert torch.allclose(found[0], expected[0], rtol=0, atol=1e-12)
    for own, other in zip(found[1:], expected[1:], strict=True):
        assert torch.allclose(own, other, rtol=0, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(case=st.sampled_from(CASES), p=st.sampled_from((0.0, 0.13, 0.6, 1.0)), seed=st.integers(0, 999))
def test_equals_the_torch_kernel(
    random_circuit: Callable[..., Circuit], case: tuple[str, str], p: float, seed: int
) -> None:
    circuit = random_circuit(seed, 1 + seed % 4, 12, n_observables=1 + seed % 3)
    w_axes, f_axes = SHAPES[seed % len(SHAPES)]
    weights = normal(*w_axes, circuit.n_weights, seed=seed)
    features = normal(*f_axes, circuit.n_features, seed=seed + 99)
    agree(circuit, model(*case, p), weights, features)


@pytest.mark.parametrize(("kind", "where"), CASES)
def test_every_gate_under_every_channel(kind: str, where: str) -> None:
    n, used = 3, 0
    gates = [Gate("RY", (w,), (Angle.feature(w),)) for w in range(n)]
    for k, (name, gate) in enumerate(GATES.items()):
        angles = tuple(Angle.weight(used + j, scale=0.7, offset=0.2) for j in range(gate.n_angles))
        gates.append(Gate(name, (k % n, (k + 1) % n)[: gate.n_wires], angles))
        used += gate.n_angles
    words = (Observable(((1.0, "ZII"),)), Observable(((0.5, "XYZ"), (-0.3, "IZX"), (0.1, "III"))))
    circuit = Circuit(n_qubits=n, gates=tuple(gates), observables=words, n_weights=used, n_features=n)
    agree(circuit, model(kind, where, 0.13), normal(2, 1, used), normal(5, n, seed=1))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "global-depolarizing"])
def test_single_precision(kind: str) -> None:
    circuit = build_circuit(n_qubits=4, layers=3, encoder="reuploading")
    noise = model(kind, "every-gate", 0.1)
    weights, features = normal(2, 1, circuit.n_weights), normal(2, 18, 4, seed=1)
    exact = derivatives(noisy_expectations, circuit, noise, weights, features)
    found = derivatives(compiled_noisy_expectations, circuit, noise, weights.float(), features.float())
    assert torch.allclose(found[0].double(), exact[0], rtol=0, atol=1e-6)
    for own, other in zip(found[1:], exact[1:], strict=True):
        assert torch.allclose(own.double(), other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 3, 40])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_run_has_the_same_bits_alone_and_beside_others(samples: int, outputs: int) -> None:
    circuit = build_circuit(n_qubits=3, layers=2, observables=[pauli_z(w, 3) for w in range(outputs)])
    noise = model("amplitude-damping", "every-gate", 0.1)
    weights = normal(7, 1, circuit.n_weights, dtype=torch.float32)
    features = normal(7, samples, 3, seed=1, dtype=torch.float32)

    def run(rows: slice) -> list[Tensor]:
        inputs = (weights[rows].clone().requires_grad_(), features[rows].clone().requires_grad_())
        values = compiled_noisy_expectations(circuit, *inputs, noise=noise)
        with torch.no_grad():
            assert torch.equal(compiled_noisy_expectations(circuit, *inputs, noise=noise), values)
        return [values.detach(), *torch.autograd.grad(values.square().sum(), inputs)]

    together = run(slice(None))
    for rows in [slice(k, k + 1) for k in range(7)] + [slice(0, 3), slice(3, 7)]:
        assert all(torch.equal(t[rows], a) for t, a in zip(together, run(rows), strict=True))


def test_gradients_of_gradients_are_the_torch_kernels() -> None:
    circuit = build_circuit(n_qubits=3, layers=1)
    noise = model("phase-damping", "every-gate", 0.2)
    inputs = (normal(2, 1, circuit.n_weights).requires_grad_(), normal(3, 3, seed=1).requires_grad_())

    def second(kernel: Kernel) -> tuple[Tensor, ...]:
        values = kernel(circuit, *inputs, noise=noise, dtype=DOUBLE)
        first = torch.autograd.grad(values.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), inputs)

    for own, other in zip(second(compiled_noisy_expectations), second(noisy_expectations), strict=True):
        assert torch.allclose(own, other, rtol=0, atol=1e-11)


def test_rows_that_do_not_matter_are_left_out() -> None:
    """The start has 2^n rows, one measured word one; without pruning each state would have 4^n."""
    noise = model("local-depolarizing", "every-gate", 0.1)
    program = compile_noisy_program(build_circuit(n_qubits=4, layers=2), noise)
    assert program.sizes.max() < 4**4
    assert program.sizes[0] <= 2**4 + 2
    assert program.sizes[-1] == 1 + 2


def test_the_named_executor_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    noise, calls = model("bit-flip", "measurement", 0.1), []

    def spy(*args: object, **options: object) -> Tensor:
        calls.append((args, options))
        return torch.zeros(1)

    monkeypatch.setattr("qflsec.circuits.executors.noisy_expectations", spy)
    small, large = (build_circuit(n_qubits=n, layers=1) for n in (2, 9))
    for circuit, executor, times in (
        (small, "auto", 0),
        (small, "compiled", 0),
        (small, "torch", 1),
        (large, "auto", 2),
    ):
        weights, features = torch.zeros(circuit.n_weights), torch.zeros(circuit.n_features)
        exact_noisy_expectations(circuit, weights, features, noise=noise, executor=executor)  # type: ignore[arg-type]
        assert len(calls) == times


def test_mistakes_are_told() -> None:
    noise, circuit = model("bit-flip", "measurement", 0.1), build_circuit(n_qubits=2, layers=1)
    embedding = Gate("AmplitudeEmbedding", (0, 1), tuple(Angle.feature(k) for k in range(2)))
    embedded = replace(circuit, gates=(embedding, *circuit.gates))
    for wrong, weights, features, message in (
        (circuit, 5, (2,), "weights of the wrong shape"),
        (circuit, 6, (0, 2), "empty batch"),
        (embedded, 6, (2,), "no amplitude embedding"),
        (build_circuit(n_qubits=9, layers=1), 27, (9,), "too many qubits"),
    ):
        with pytest.raises(CircuitError, match=message):
            compiled_noisy_expectations(wrong, torch.zeros(weights), torch.zeros(features), noise=noise)
