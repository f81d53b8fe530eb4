"""The compiled kernel against the torch kernel, whose own oracle is PennyLane, and against PennyLane itself."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Gate,
    Observable,
    build_circuit,
    expectations,
    pauli_z,
)
from qflsec.circuits.compiled import compiled_expectations
from qflsec.circuits.compiled.loaded import Loaded
from qflsec.circuits.executors import exact_expectations
from qflsec.circuits.gates import GATES

DOUBLE = torch.complex128
Kernel = Callable[..., Tensor]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def embedded(circuit: Circuit) -> Circuit:
    """The circuit on a state whose amplitudes are features."""
    size = 2**circuit.n_qubits
    angles = tuple(
        Angle.feature(k % circuit.n_features, scale=1 + 0.3 * k, offset=0.2) for k in range(size - size // 4)
    )
    wires = tuple(range(circuit.n_qubits))
    return replace(circuit, gates=(Gate("AmplitudeEmbedding", wires, angles), *circuit.gates))


def derivatives(
    kernel: Kernel, circuit: Circuit, weights: Tensor, features: Tensor, *, order: int
) -> list[Tensor]:
    """Values, and what differentiating functions of them gives, again and again."""
    inputs = (weights.detach().requires_grad_(), features.detach().requires_grad_())
    values = kernel(circuit, *inputs, dtype=DOUBLE if weights.dtype == torch.float64 else torch.complex64)
    found, level = [values], [values]
    for turn in range(order):
        waves = [
            torch.cos(torch.arange(part.numel(), dtype=part.dtype)).reshape(part.shape) for part in level
        ]
        total = sum(((part + part**2) * wave).sum() for part, wave in zip(level, waves, strict=True))
        assert isinstance(total, Tensor)
        pair: tuple[Tensor | None, ...] = (None, None)
        if total.requires_grad:
            pair = torch.autograd.grad(total, inputs, create_graph=turn + 1 < order, allow_unused=True)
        level = [
            torch.zeros_like(own) if part is None else part for part, own in zip(pair, inputs, strict=True)
        ]
        found += level
    return found


SHAPES = {
    "one": ((), ()),
    "samples": ((), (20,)),
    "models": ((3, 1), (3, 9)),
    "pairs": ((6,), (6,)),
    "few": ((3, 1), (3, 2)),
    "shared features": ((4, 1), (5,)),
    "axis between": ((1, 2, 1), (3, 1, 6)),
    "wide": ((2, 1, 1), (3, 5)),
}


@pytest.mark.parametrize("seed", range(24))
def test_equals_the_torch_kernel_up_to_third_derivatives(
    seed: int, random_circuit: Callable[..., Circuit]
) -> None:
    circuit = random_circuit(seed, 1 + seed % 4, 12, n_observables=1 + seed % 3)
    if seed % 5 == 4:
        circuit = embedded(circuit)
    w_axes, f_axes = list(SHAPES.values())[seed % len(SHAPES)]
    weights = normal(*w_axes, circuit.n_weights, seed=seed)
    features = normal(*f_axes, circuit.n_features, seed=seed + 99)
    found = derivatives(compiled_expectations, circuit, weights, features, order=3)
    expected = derivatives(expectations, circuit, weights, features, order=3)
    assert len(found) == len(expected) == 7
    for own, other in zip(found, expected, strict=True):
        assert torch.allclose(own, other, rtol=1e-9, atol=1e-10 * (1 + float(other.detach().abs().max())))


@pytest.mark.parametrize("name", sorted(GATES))
def test_every_gate_alone(name: str) -> None:
    kind = GATES[name]
    n = kind.n_wires + 1
    before = tuple(Gate("Rot", (w,), tuple(Angle.constant(0.3 + w + k) for k in range(3))) for w in range(n))
    for wires in itertools.permutations(range(n), kind.n_wires):
        for angle in (Angle.weight, Angle.feature):
            gate = Gate(name, wires, tuple(angle(k, scale=-1.5, offset=0.2) for k in range(kind.n_angles)))
            circuit = Circuit(
                n_qubits=n,
                gates=(*before, gate),
                observables=tuple(
                    Observable(((1.0, "".join(word)),)) for word in itertools.product("XYZ", repeat=n)
                ),
                n_weights=3,
                n_features=3,
            )
            weights, features = normal(3, seed=1), normal(2, 3, seed=2)
            found = derivatives(compiled_expectations, circuit, weights, features, order=1)
            expected = derivatives(expectations, circuit, weights, features, order=1)
            assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("n", [2, 5, 7])
@pytest.mark.parametrize("encoder", ["angle", "amplitude", "reuploading", "amplitude-angle"])
def test_single_precision(n: int, encoder: str) -> None:
    circuit = build_circuit(n_qubits=n, layers=2, encoder=encoder, observables=[pauli_z(0, n)])  # type: ignore[arg-type]
    weights, features = normal(2, 1, circuit.n_weights), normal(2, 18, circuit.n_features, seed=1)
    exact = derivatives(expectations, circuit, weights, features, order=2)
    found = derivatives(compiled_expectations, circuit, weights.float(), features.float(), order=2)
    assert torch.allclose(found[0].double(), exact[0], rtol=0, atol=1e-6)
    for own, other in zip(found[1:], exact[1:], strict=True):
        assert torch.allclose(own.double(), other, rtol=1e-4, atol=1e-5 * float(other.detach().abs().max()))


def test_equals_pennylane(pennylane_values: Callable[[Circuit, Tensor, Tensor], Tensor]) -> None:
    circuit = build_circuit(n_qubits=4, layers=2, observables=[pauli_z(wire, 4) for wire in range(4)])
    weights, features = normal(circuit.n_weights), normal(4, seed=1)
    found = compiled_expectations(circuit, weights, features, dtype=DOUBLE)
    assert torch.allclose(found, pennylane_values(circuit, weights, features), rtol=0, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 2, 5, 40])
def test_a_run_has_the_same_bits_alone_and_beside_others(samples: int) -> None:
    circuit = build_circuit(n_qubits=3, layers=2)
    weights = normal(7, 1, circuit.n_weights, dtype=torch.float32)
    features = normal(7, samples, 3, seed=1, dtype=torch.float32)

    def both(rows: slice) -> list[Tensor]:
        return derivatives(compiled_expectations, circuit, weights[rows], features[rows], order=2)

    # a loss of one value: the sums of `derivatives` weigh by position, so each run is compared with itself alone
    def one(rows: slice) -> tuple[Tensor, Tensor]:
        own = weights[rows].clone().requires_grad_()
        values = compiled_expectations(circuit, own, features[rows])
        (gradient,) = torch.autograd.grad(values.square().sum(), own)
        return values.detach(), gradient

    values, gradients = one(slice(None))
    for lane in range(7):
        alone = one(slice(lane, lane + 1))
        assert torch.equal(values[lane : lane + 1], alone[0])
        assert torch.equal(gradients[lane : lane + 1], alone[1])
    for first, last in ((0, 3), (3, 7)):
        chunk = one(slice(first, last))
        assert torch.equal(gradients[first:last], chunk[1])
    assert len(both(slice(0, 2))) == 5


def test_expanded_weights_give_the_gradient_of_each_sample() -> None:
    circuit = build_circuit(n_qubits=4, layers=2)
    weights, features = normal(circuit.n_weights), normal(2, 11, 4, seed=1)
    rows = weights.expand(2, 11, -1).detach().requires_grad_()
    values = compiled_expectations(circuit, rows, features, dtype=DOUBLE)
    (found,) = torch.autograd.grad(values.sum(), rows)
    apart = weights.repeat(2, 11, 1).requires_grad_()  # the same numbers, each with memory of its own
    (expected,) = torch.autograd.grad(expectations(circuit, apart, features, dtype=DOUBLE).sum(), apart)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(found[0, 0], found[0, 1])


@pytest.mark.parametrize("outputs", [1, 2])
def test_jacobians_take_no_second_derivatives_along_zero(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Jacobian by differentiating twice asks for products along a probe that is zero; only their graph is wanted."""
    circuit = build_circuit(n_qubits=2, layers=2, observables=[pauli_z(wire, 2) for wire in range(outputs)])
    calls = []

    def spy(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return products(*args, **options)

    products = Loaded.products
    monkeypatch.setattr(Loaded, "products", spy)
    weights = normal(circuit.n_weights).requires_grad_()
    features = normal(3, circuit.n_features).requires_grad_()

    def columns(kernel: Kernel) -> tuple[Tensor, int]:
        loss = kernel(circuit, weights, features, dtype=DOUBLE).square().sum()
        (slope,) = torch.autograd.grad(loss, weights, create_graph=True)
        probe = torch.zeros_like(slope, requires_grad=True)
        (pulled,) = torch.autograd.grad(slope, features, probe, create_graph=True)
        assert not pulled.any()
        before = len(calls)
        (column,) = torch.autograd.grad(pulled, probe, torch.ones_like(pulled))
        return column, before

    found, along_zero = columns(compiled_expectations)
    assert torch.allclose(found, columns(expectations)[0], atol=1e-12)
    assert along_zero == 0 < len(calls)


def test_angles_of_any_size_are_reduced() -> None:
    circuit = Circuit(
        n_qubits=1,
        gates=(Gate("RX", (0,), (Angle.feature(0),)),),
        observables=(pauli_z(0, 1),),
        n_weights=0,
        n_features=1,
    )
    angles = torch.linspace(-1e4, 1e4, 999, dtype=torch.float64)[:, None]
    found = compiled_expectations(circuit, torch.zeros(0, dtype=torch.float64), angles, dtype=DOUBLE)
    assert torch.allclose(found, torch.cos(angles), rtol=0, atol=1e-11)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_features_in_diagonals(n: int) -> None:
    gates = [Gate("H", (w,)) for w in range(n)]
    gates += [Gate("RZ", (w,), (Angle.feature(w),)) for w in range(n)]
    gates += [Gate("IsingZZ", (w, w + 1), (Angle.feature(w, scale=0.7),)) for w in range(n - 1)]
    gates += [Gate("RX", (w,), (Angle.weight(w),)) for w in range(n)]
    circuit = Circuit(n_qubits=n, gates=tuple(gates), observables=(pauli_z(0, n),), n_weights=n, n_features=n)
    for w_axes, f_axes in (((), (17,)), ((3,), (3,))):
        weights, features = normal(*w_axes, n), normal(*f_axes, n, seed=1)
        found = derivatives(compiled_expectations, circuit, weights, features, order=2)
        expected = derivatives(expectations, circuit, weights, features, order=2)
        assert all(torch.allclose(a, b, rtol=0, atol=1e-10) for a, b in zip(found, expected, strict=True))


def test_mistakes_are_told() -> None:
    circuit = build_circuit(n_qubits=2, layers=1)
    with pytest.raises(CircuitError, match="weights of the wrong shape"):
        compiled_expectations(circuit, torch.zeros(5), torch.zeros(2))
    with pytest.raises(CircuitError, match="do not broadcast"):
        compiled_expectations(circuit, torch.zeros(2, 6), torch.zeros(3, 2))
    with pytest.raises(CircuitError, match="empty batch"):
        compiled_expectations(circuit, torch.zeros(6), torch.zeros(0, 2))
    with pytest.raises(CircuitError, match="device"):
        compiled_expectations(circuit, torch.zeros(6, device="meta"), torch.zeros(2))
    with pytest.raises(CircuitError, match="dtype"):
        compiled_expectations(circuit, torch.zeros(6), torch.zeros(2), dtype=torch.float32)


def test_transforms_of_torch_take_the_torch_kernel() -> None:
    circuit = build_circuit(n_qubits=2, layers=1)
    weights, features = normal(4, 6), normal(4, 2, seed=1)

    def value(row: Tensor, record: Tensor) -> Tensor:
        return exact_expectations(circuit, row, record, dtype=DOUBLE)[0]

    found = torch.func.vmap(torch.func.grad(value))(weights, features)
    rows = weights.clone().requires_grad_()
    (expected,) = torch.autograd.grad(
        compiled_expectations(circuit, rows, features, dtype=DOUBLE).sum(), rows
    )
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


def test_the_named_executor_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    circuit, calls = build_circuit(n_qubits=2, layers=1), []

    def spy(*args: object, **options: object) -> Tensor:
        calls.append((args, options))
        return torch.zeros(1)

    monkeypatch.setattr("qflsec.circuits.executors.expectations", spy)
    for executor, times in (("auto", 0), ("compiled", 0), ("torch", 1)):
        exact_expectations(circuit, torch.zeros(6), torch.zeros(2), executor=executor)  # type: ignore[arg-type]
        assert len(calls) == times


def test_rotations_that_nothing_tells_have_no_derivative() -> None:
    circuit = build_circuit(n_qubits=3, layers=2, observables=[pauli_z(0, 3)])
    weights, features = normal(circuit.n_weights).requires_grad_(), normal(5, 3, seed=1)
    values = compiled_expectations(circuit, weights, features, dtype=DOUBLE)
    (found,) = torch.autograd.grad(values.sum(), weights)
    (expected,) = torch.autograd.grad(expectations(circuit, weights, features, dtype=DOUBLE).sum(), weights)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    assert torch.equal(found == 0, expected.abs() < 1e-12)
    assert 3 < (found == 0).sum() < 10


def test_absurd_angles_stay_finite() -> None:
    circuit = build_circuit(n_qubits=2, layers=1)
    for size in (1e8, 1e16, 1e30, 3e38):
        weights = torch.full((6,), size, requires_grad=True)
        values = compiled_expectations(circuit, weights, torch.rand(3, 2))
        (gradient,) = torch.autograd.grad(values.sum(), weights)
        assert (values.abs() <= 1 + 1e-5).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.slow
def test_the_kernel_is_compiled_once_for_each_user(tmp_path: Path) -> None:
    """A second process loads what the first one kept, and only the first says that it takes its time; the bits are the same."""
    program = (
        "import torch, warnings; from qflsec.circuits import build_circuit\n"
        "from qflsec.circuits.executors import exact_expectations, must_compile\n"
        "first = must_compile(); circuit = build_circuit(n_qubits=2, layers=1)\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    exact_expectations(circuit, torch.zeros(6), torch.zeros(3, 2))\n"
        "weights, features = torch.linspace(-2, 2, 6), torch.linspace(-1, 1, 66).reshape(33, 2)\n"
        "print(exact_expectations(circuit, weights, features).numpy().tobytes().hex())\n"
        "from qflsec.circuits.compiled.kernel import run\n"
        "print(first, must_compile(), len(told), sum(run.stats.cache_misses.values()))"
    )
    places = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", program], env=places, capture_output=True, text=True, check=True
        )
        for _ in range(2)
    ]
    bits, told = zip(*(part.stdout.splitlines() for part in found), strict=True)
    assert bits[0] == bits[1]
    assert [line.split() for line in told] == [
        ["True", "False", "1", "1"],
        ["False", "False", "0", "0"],
    ]
    assert next(tmp_path.glob("kernel-*")).stat().st_mode & 0o077 == 0
