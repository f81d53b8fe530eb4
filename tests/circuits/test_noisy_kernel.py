"""The noisy kernel against PennyLane's density matrices and against the statevector kernel."""

from __future__ import annotations

import numpy as np
import pennylane as qml
import pytest
import torch

from qflsec.circuits import Angle, Circuit, CircuitError, Gate, Observable, expectations, probabilities
from qflsec.circuits.gates import GATES
from qflsec.circuits.noise import KINDS, PLACES, NoiseModel
from qflsec.circuits.noisy_kernel import noisy_expectations, noisy_probabilities
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


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_lane_is_computed_as_alone_bit_for_bit(dtype: torch.dtype) -> None:
    noise = NoiseModel(kind="amplitude-damping", p=0.1, where="every-gate")
    together = noisy_expectations(CIRCUIT, WEIGHTS, FEATURES, noise=noise, dtype=dtype)
    for lane in range(4):
        alone = noisy_expectations(CIRCUIT, WEIGHTS[lane], FEATURES, noise=noise, dtype=dtype)
        assert torch.equal(together[lane], alone)


def test_values_out_of_range_are_refused() -> None:
    for bad in ({"kind": "x"}, {"p": 1.1}, {"where": "x"}, {"ground": 0.5}):
        with pytest.raises(CircuitError):
            NoiseModel(**({"kind": "bit-flip", "p": 0.1} | bad))
