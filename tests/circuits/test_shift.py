from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from qflsec.base import stream
from qflsec.circuits import (
    Angle,
    Circuit,
    CircuitError,
    Gate,
    build_circuit,
    expectations,
    parameter_shift,
    pauli_z,
    shift_count,
)
from qflsec.circuits.gates import GATES


def autograd(circuit: Circuit, weights: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """(B, K, P) for one weight vector and a batch of features."""
    rows = weights.expand(len(features), -1).clone().requires_grad_()
    values = expectations(circuit, rows, features, dtype=torch.complex128)
    parts = [
        torch.autograd.grad(values[:, k].sum(), rows, retain_graph=True)[0] for k in range(values.shape[1])
    ]
    return torch.stack(parts, dim=1)


@pytest.mark.parametrize("name", [name for name, kind in GATES.items() if kind.n_angles])
def test_each_gate_alone(random_circuit: Callable[..., Circuit], name: str) -> None:
    circuit = random_circuit(4, 2, 20, names=(name, "H", "CNOT", "S"), kinds=("weight", "weight", "feature"))
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(5, dtype=torch.float64, generator=generator)
    features = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    shifted = parameter_shift(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(shifted, autograd(circuit, weights, features), atol=1e-11, rtol=0)


@pytest.mark.parametrize("seed", range(6))
def test_scales_offsets_and_repeated_weights(random_circuit: Callable[..., Circuit], seed: int) -> None:
    """Far more gates than weights, so that each weight is used several times, with different scales."""
    circuit = random_circuit(seed, 4, 30)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(5, dtype=torch.float64, generator=generator)
    features = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    shifted = parameter_shift(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(shifted, autograd(circuit, weights, features), atol=1e-11, rtol=0)


def test_two_terms_would_be_wrong_for_controlled_rotations() -> None:
    """The negative control of the four-term rule."""
    circuit = Circuit(
        n_qubits=2,
        gates=(
            Gate("H", (0,)),
            Gate("H", (1,)),
            Gate("CRX", (0, 1), (Angle.weight(0),)),
            Gate("CRZ", (1, 0), (Angle.weight(0),)),
            Gate("H", (0,)),
        ),
        observables=(pauli_z(0, 2),),
        n_weights=1,
        n_features=0,
    )
    assert shift_count(circuit) == 8
    weights, features = torch.tensor([0.7], dtype=torch.float64), torch.zeros(1, 0, dtype=torch.float64)
    exact = autograd(circuit, weights, features)
    pair = [
        expectations(circuit, weights + s * torch.pi / 2, features, dtype=torch.complex128) for s in (1, -1)
    ]
    assert float(((pair[0] - pair[1]) / 2 - exact[:, :, 0]).abs().max()) > 1e-2
    four = parameter_shift(circuit, weights, features, dtype=torch.complex128)
    torch.testing.assert_close(four, exact, atol=1e-12, rtol=0)


def test_batch_axes_broadcast() -> None:
    circuit = build_circuit(n_qubits=3, layers=4)  # 72 terms: more than one call
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(2, 1, circuit.n_weights, dtype=torch.float64, generator=generator)
    features = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator)
    jacobian = parameter_shift(circuit, weights, features, dtype=torch.complex128)
    assert jacobian.shape == (2, 3, 1, circuit.n_weights)
    for lane in range(2):
        expected = autograd(circuit, weights[lane, 0], features[lane])
        torch.testing.assert_close(jacobian[lane], expected, atol=1e-12, rtol=0)


def test_shots_are_unbiased_and_lanes_draw_alone() -> None:
    """Mean of 400 estimates within 4.5 standard errors: false alarms in under 1e-5 for each of 18 entries."""
    circuit = build_circuit(n_qubits=2, layers=1)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(1, 6, dtype=torch.float64, generator=generator)
    features = torch.randn(3, 2, dtype=torch.float64, generator=generator)
    exact = autograd(circuit, weights[0], features)
    many = parameter_shift(
        circuit,
        weights.expand(400, 1, 6),
        features,
        shots=50,
        generator=stream(1, "shots"),
        dtype=torch.complex128,
    )
    error = many.mean(0) - exact
    assert bool((error.abs() <= 4.5 * many.std(0) / 20 + 1e-12).all())
    assert float(many.std(0).max()) > 0.01

    lanes = [stream(seed, "shots") for seed in (1, 2)]
    both = parameter_shift(
        circuit, weights.expand(2, 1, 6), features.expand(2, 3, 2), shots=50, generator=lanes
    )
    alone = parameter_shift(
        circuit, weights.expand(1, 1, 6), features[None], shots=50, generator=[stream(2, "shots")]
    )
    assert torch.equal(both[1:], alone)


def test_a_lane_does_not_see_the_others() -> None:
    """Bit for bit, exact and with shots, in batches of 1, 2, 3 and 7 lanes."""
    circuit = build_circuit(n_qubits=3, layers=2)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(7, 2, 1, circuit.n_weights, generator=generator)
    features = torch.randn(7, 2, 5, 3, generator=generator)

    def run(lanes: slice, shots: int | None) -> torch.Tensor:
        streams = [stream(seed, "shots") for seed in range(7)[lanes]] if shots else None
        return parameter_shift(circuit, weights[lanes], features[lanes], shots=shots, generator=streams)

    for shots in (None, 20):
        for count in (1, 2, 3, 7):
            whole = run(slice(0, count), shots)
            for lane in range(count):
                assert torch.equal(whole[lane], run(slice(lane, lane + 1), shots)[0])


def test_mistakes_are_refused() -> None:
    circuit = build_circuit(n_qubits=2)
    with pytest.raises(CircuitError, match="shots without a generator"):
        parameter_shift(circuit, torch.zeros(6), torch.zeros(2), shots=10)


def test_circuit_without_weights() -> None:
    circuit = Circuit(
        n_qubits=1, gates=(Gate("H", (0,)),), observables=(pauli_z(0, 1),), n_weights=2, n_features=0
    )
    assert parameter_shift(circuit, torch.zeros(3, 2), torch.zeros(0)).shape == (3, 1, 2)
