"""The noisy kernel against PennyLane's and Qiskit's density matrices and the statevector kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pennylane as qml
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.quantum_info import DensityMatrix, Kraus

from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Gate,
    NoiseModel,
    Observable,
    build_circuit,
    expectations,
    measurement_groups,
    noisy_expectations,
    noisy_probabilities,
    probabilities,
    qiskit_observables,
    to_qiskit,
)
from qflsec.circuits.gates import GATES
from qflsec.circuits.noise import KINDS, PLACES
from qflsec.circuits.noisy_plan import NoisyBlock, compile_noisy
from qflsec.circuits.to_pennylane import OPERATIONS

N = 3


def every_gate() -> Circuit:
    """Each gate of the set once, after an encoding of every wire, with weights of its own."""
    gates = [Gate("RY", (w,), (Angle.feature(w),)) for w in range(N)]
    used = 0
    for k, (name, kind) in enumerate(GATES.items()):
        wires = (k % N, (k + 1) % N)[: kind.n_wires]
        angles = tuple(Angle.weight(used + j, scale=0.7, offset=0.2) for j in range(kind.n_angles))
        used += kind.n_angles
        gates.append(Gate(name, wires, angles))
    words = (Observable(((1.0, "ZII"),)), Observable(((0.5, "XYZ"), (-0.3, "IZX"))))
    return Circuit(n_qubits=N, gates=tuple(gates), observables=words, n_weights=used, n_features=N)


CIRCUIT = every_gate()
RNG = torch.Generator().manual_seed(3)
WEIGHTS = torch.rand(4, 1, CIRCUIT.n_weights, dtype=torch.float64, generator=RNG) * 6
FEATURES = torch.rand(5, N, dtype=torch.float64, generator=RNG) * 6
WIDE = torch.complex128


def pennylane_noise(noise: NoiseModel, wires: tuple[int, ...]) -> None:
    if noise.kind == "global-depolarizing":
        words = list(qml.pauli.pauli_group(N))
        weights = [1 - noise.p + noise.p / 4**N] + [noise.p / 4**N] * (4**N - 1)
        kraus = [np.sqrt(w) * qml.matrix(p, wire_order=range(N)) for w, p in zip(weights, words, strict=True)]
        qml.QubitChannel(kraus, wires=range(N))
        return
    for w in wires:
        match noise.kind:
            case "local-depolarizing":
                qml.DepolarizingChannel(0.75 * noise.p, wires=w)
            case "amplitude-damping":
                qml.AmplitudeDamping(noise.p, wires=w)
            case "generalized-amplitude-damping":
                qml.GeneralizedAmplitudeDamping(noise.p, 1 - noise.ground, wires=w)  # its p: weight of |1>
            case "phase-damping":
                qml.PhaseDamping(noise.p, wires=w)
            case "bit-flip":
                qml.BitFlip(noise.p, wires=w)
            case _:
                qml.PhaseFlip(noise.p, wires=w)


def reference(noise: NoiseModel, weights: torch.Tensor, features: torch.Tensor) -> np.ndarray:
    @qml.qnode(qml.device("default.mixed", wires=N))
    def f():  # noqa: ANN202
        for k, gate in enumerate(CIRCUIT.gates):
            source = {"weight": weights, "feature": features}
            values = [float(source[a.kind][a.index]) * a.scale + a.offset for a in gate.angles]
            getattr(qml, OPERATIONS.get(gate.name, gate.name))(*values, wires=list(gate.wires))
            if noise.where == "every-gate" or (noise.where == "two-qubit-gates" and len(gate.wires) > 1):
                pennylane_noise(noise, gate.wires)
            if noise.where == "encoded" and k == N - 1:
                pennylane_noise(noise, tuple(range(N)))
        if noise.where == "measurement":
            pennylane_noise(noise, tuple(range(N)))
        x, y, z = qml.PauliX, qml.PauliY, qml.PauliZ
        both = qml.dot([0.5, -0.3], [x(0) @ y(1) @ z(2), z(1) @ x(2)])
        return qml.expval(z(0)), qml.expval(both), qml.probs(wires=range(N))

    return np.concatenate([np.atleast_1d(v) for v in f()])


CASES = [
    (k, w) for k in KINDS for w in PLACES if k != "global-depolarizing" or w in ("encoded", "measurement")
]


@pytest.mark.parametrize(("kind", "where"), CASES)
def test_every_gate_channel_and_place_against_default_mixed(kind: str, where: str) -> None:
    ground = 0.7 if kind.startswith("generalized") else 1.0
    noise = NoiseModel(kind=kind, p=0.13, where=where, ground=ground)
    values = noisy_expectations(CIRCUIT, WEIGHTS[1, 0], FEATURES[2], noise=noise, dtype=WIDE)
    table = noisy_probabilities(CIRCUIT, WEIGHTS[1, 0], FEATURES[2], noise=noise, dtype=WIDE)
    expected = reference(noise, WEIGHTS[1, 0], FEATURES[2])
    np.testing.assert_allclose(torch.cat([values, table]).numpy(), expected, atol=1e-10, rtol=0)


def test_zero_noise_is_the_statevector_kernel_with_its_gradient() -> None:
    noise = NoiseModel(kind="local-depolarizing", p=0.0, where="every-gate")
    w = WEIGHTS.clone().requires_grad_()
    noisy, exact = (
        noisy_expectations(CIRCUIT, w, FEATURES, noise=noise, dtype=WIDE),
        expectations(CIRCUIT, w, FEATURES, dtype=WIDE),
    )
    torch.testing.assert_close(noisy, exact, atol=1e-12, rtol=0)
    a, b = (torch.autograd.grad(v.square().sum(), w)[0] for v in (noisy, exact))
    torch.testing.assert_close(a, b, atol=1e-11, rtol=0)
    table = noisy_probabilities(CIRCUIT, WEIGHTS, FEATURES, noise=noise, dtype=WIDE)
    torch.testing.assert_close(
        table, probabilities(CIRCUIT, WEIGHTS, FEATURES, dtype=WIDE), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("seed", range(16))
def test_random_circuits_have_qiskits_density_matrix(
    random_circuit: Callable[..., Circuit], seed: int
) -> None:
    """Values and probabilities; the channels are Aer's, with Aer's conventions."""
    n, kind = 1 + seed % 5, [k for k in KINDS if k != "global-depolarizing"][seed % 6]
    where = PLACES[1 + seed % 3]
    circuit = random_circuit(seed, n, 24)
    noise = NoiseModel(kind=kind, p=0.2, where=where, ground=0.6 if kind.startswith("generalized") else 1.0)
    weights, features = (
        torch.randn(k, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for k in (circuit.n_weights, circuit.n_features)
    )
    qc = QuantumCircuit(n)
    for gate in circuit.gates:
        single = Circuit(
            n_qubits=n,
            gates=(gate,),
            observables=circuit.observables,
            n_weights=circuit.n_weights,
            n_features=circuit.n_features,
        )
        qc.compose(to_qiskit(single, weights, features), inplace=True)
        if where == "every-gate" or (where == "two-qubit-gates" and len(gate.wires) > 1):
            for wire in gate.wires:
                qc.append(aer_channel(noise), [wire])
    if where == "measurement":
        for wire in range(n):
            qc.append(aer_channel(noise), [wire])
    rho = DensityMatrix(qc)
    values = noisy_expectations(circuit, weights, features, noise=noise, dtype=WIDE)
    theirs = [rho.expectation_value(o).real for o in qiskit_observables(circuit)]
    np.testing.assert_allclose(values.numpy(), theirs, atol=1e-11, rtol=0)
    table = noisy_probabilities(circuit, weights, features, noise=noise, dtype=WIDE)
    reordered = rho.reverse_qargs().probabilities() if n > 1 else rho.probabilities()
    np.testing.assert_allclose(table.numpy(), reordered, atol=1e-11, rtol=0)


def aer_channel(noise: NoiseModel) -> Kraus:
    aer = pytest.importorskip("qiskit_aer.noise", reason="the extra aer")
    p = noise.p
    match noise.kind:
        case "local-depolarizing":
            error = aer.depolarizing_error(p, 1)
        case "amplitude-damping":
            error = aer.amplitude_damping_error(p)
        case "generalized-amplitude-damping":
            error = aer.amplitude_damping_error(p, excited_state_population=1 - noise.ground)
        case "phase-damping":
            error = aer.phase_damping_error(p)
        case "bit-flip":
            error = aer.pauli_error([("X", p), ("I", 1 - p)])
        case _:
            error = aer.pauli_error([("Z", p), ("I", 1 - p)])
    return Kraus(error)


@pytest.mark.parametrize("where", ["every-gate", "measurement"])
@pytest.mark.parametrize("kind", ["local-depolarizing", "amplitude-damping", "global-depolarizing"])
def test_a_turn_into_the_basis_of_measurement_is_free_of_noise(kind: str, where: str) -> None:
    where = "encoded" if kind == "global-depolarizing" and where == "every-gate" else where
    noise = NoiseModel(kind=kind, p=0.15, where=where)
    word = Observable(((1.0, "XYZ"),))
    circuit = replace(CIRCUIT, observables=(word,))
    (group,) = measurement_groups(circuit)
    value = noisy_expectations(circuit, WEIGHTS, FEATURES, noise=noise, dtype=WIDE)[..., 0]
    parity = torch.tensor([(-1.0) ** k.bit_count() for k in range(2**N)], dtype=torch.float64)

    def measured(noisy_gates: int | None) -> torch.Tensor:
        table = noisy_probabilities(
            group.circuit, WEIGHTS, FEATURES, noise=noise, dtype=WIDE, noisy_gates=noisy_gates
        )
        return (table * parity).sum(-1)

    torch.testing.assert_close(measured(len(circuit.gates)), value, atol=1e-12, rtol=0)
    if where == "every-gate" or kind == "amplitude-damping":  # the noise then does see the turn
        assert (measured(None) - value).abs().max() > 1e-3


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_lane_is_computed_as_alone_bit_for_bit(dtype: torch.dtype, n: int) -> None:
    """Values, probabilities and gradients, with shared and with own features, one record or several."""
    circuit = build_circuit(n_qubits=n, encoder="reuploading", layers=2)
    noise = NoiseModel(kind="amplitude-damping", p=0.1, where="every-gate")
    generator = torch.Generator().manual_seed(n)
    weights = torch.randn(5, 1, circuit.n_weights, generator=generator)
    for shape in ((1, n), (6, n), (5, 1, n), (5, 6, n)):
        features = torch.randn(shape, generator=generator)
        for function in (noisy_expectations, noisy_probabilities):

            def both(w: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                w = w.clone().requires_grad_()
                values = function(circuit, w, x, noise=noise, dtype=dtype)  # noqa: B023
                return values, torch.autograd.grad(values.square().sum(), w)[0]

            together = both(weights, features)
            for lane in range(5):
                alone = both(weights[lane], features[lane] if len(shape) == 3 else features)
                assert all(torch.equal(t[lane], a) for t, a in zip(together, alone, strict=True))


def test_channels_are_folded_into_two_blocks_of_each_layer() -> None:
    """Also with noise behind every gate: the plan is that of the noiseless circuit, with other numbers."""
    circuit = build_circuit(n_qubits=4, layers=3)
    noisy = NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate")
    for noise in (None, noisy, NoiseModel(kind="global-depolarizing", p=0.1)):
        plan = compile_noisy(circuit, noise, len(circuit.gates))
        assert len(plan.stages) == 2 * 3
        assert all(isinstance(stage, NoisyBlock) for stage in plan.stages)


def test_the_fully_mixed_state_is_reached_and_has_no_gradient() -> None:
    circuit = build_circuit(n_qubits=3, layers=2)
    weights = torch.ones(circuit.n_weights, requires_grad=True)
    for kind in ("global-depolarizing", "local-depolarizing"):
        noise = NoiseModel(kind=kind, p=1.0, where="encoded")
        table = noisy_probabilities(circuit, weights, FEATURES[0].float(), noise=noise)
        assert torch.equal(table, torch.full((8,), 0.125))
        assert not torch.autograd.grad(table[0], weights)[0].any()


def test_per_sample_and_second_gradients() -> None:
    circuit = build_circuit(n_qubits=3, encoder="reuploading", layers=2)
    noise = NoiseModel(kind="local-depolarizing", p=0.1, where="every-gate")
    weights = torch.linspace(-1, 1, circuit.n_weights, dtype=torch.float64)

    def loss(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return noisy_expectations(circuit, w, x, noise=noise, dtype=WIDE).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, FEATURES)
    loop = torch.stack([torch.func.grad(loss)(weights, x) for x in FEATURES])
    torch.testing.assert_close(each, loop, atol=1e-13, rtol=0)
    assert torch.autograd.gradgradcheck(
        lambda w, x: noisy_expectations(circuit, w, x, noise=noise, dtype=WIDE),
        (weights.clone().requires_grad_(), FEATURES[:1].clone().requires_grad_()),
    )


def test_values_out_of_range_are_refused() -> None:
    for bad in ({"kind": "x"}, {"p": 1.1}, {"where": "x"}, {"ground": 0.5}):
        with pytest.raises(CircuitError):
            NoiseModel(**({"kind": "bit-flip", "p": 0.1} | bad))


@pytest.mark.parametrize("angle", [1e-3, 1e-6, 1e-9])
def test_a_small_turn_is_no_clifford_gate(angle: float) -> None:
    from qflsec.circuits.transfer import clifford

    turn = np.diag(np.exp([-0.5j * angle, 0.5j * angle]))
    assert clifford(np.diag([1, 1j]), [0], 1).index.shape == (4,)
    with pytest.raises(ValueError, match="not a Clifford gate"):
        clifford(turn, [0], 1)
