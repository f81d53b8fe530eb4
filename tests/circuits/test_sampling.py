from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from scipy.stats import chisquare

from qflsec.base import stream
from qflsec.circuits import (
    Circuit,
    CircuitError,
    Gate,
    Observable,
    build_circuit,
    expectations,
    measurement_groups,
    pauli_z,
    probabilities,
    sample_expectations,
)
from qflsec.circuits.sampling import _frequencies


def test_counts_follow_the_distribution() -> None:
    """Chi-square at 1e-6: one false alarm in a million runs for each of four tables; a wrong table fails."""
    circuit = build_circuit(n_qubits=3, layers=2)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(4, 1, circuit.n_weights, generator=generator)
    table = probabilities(circuit, weights, torch.zeros(1, 3), dtype=torch.complex128)[:, 0]
    scaled = _frequencies(table, 200_000, stream(0, "shots")) * 200_000
    counts = scaled.round()
    torch.testing.assert_close(scaled, counts, atol=1e-6, rtol=0)
    assert counts.sum(-1).tolist() == [200_000.0] * 4
    for row, expected in zip(counts, table, strict=True):
        kept = expected > 1e-4
        observed = row[kept].numpy()
        scaled = (expected[kept] / expected[kept].sum() * observed.sum()).numpy()
        assert chisquare(observed, scaled).pvalue > 1e-6
        assert chisquare(observed, scaled[::-1].copy()).pvalue < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_estimates_are_unbiased_with_the_right_variance(
    random_circuit: Callable[..., Circuit], seed: int
) -> None:
    """Mean of 4000 estimates within 5 standard errors (6e-7 per entry), variance of one word within 20 %."""
    circuit = random_circuit(seed, 3, 15)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(1, 5, dtype=torch.float64, generator=generator)
    features = torch.randn(3, dtype=torch.float64, generator=generator)
    exact = expectations(circuit, weights[0], features, dtype=torch.complex128)
    drawn = sample_expectations(
        circuit,
        weights.expand(4000, 5),
        features,
        shots=20,
        generator=stream(seed, "shots"),
        dtype=torch.complex128,
    )
    error = (drawn.mean(0) - exact).abs()
    assert bool((error <= 5 * drawn.std(0) / 4000**0.5 + 1e-12).all())


def test_variance_of_one_word_is_binomial() -> None:
    """(1 - z^2) / shots, within 8 % of 20,000 draws (8 standard deviations of a sample variance)."""
    circuit = build_circuit(n_qubits=1, ansatz="ry-cz")
    features = torch.tensor([1.2])
    z = float(expectations(circuit, torch.zeros(1), features))
    assert z == pytest.approx(float(features.cos()), abs=1e-6)
    drawn = sample_expectations(
        circuit, torch.zeros(20_000, 1), features, shots=10, generator=stream(0, "shots")
    )
    assert float(drawn.var()) == pytest.approx((1 - z * z) / 10, rel=0.08)


def test_groups_share_a_basis() -> None:
    words = ("ZZI", "ZII", "IXY", "XII", "III", "IIY", "YII")
    circuit = Circuit(
        n_qubits=3,
        gates=(Gate("H", (0,)),),
        observables=(Observable(tuple((1.0 + k, word) for k, word in enumerate(words))), pauli_z(0, 3)),
        n_weights=0,
        n_features=0,
    )
    groups = measurement_groups(circuit)
    assert [group.wires for group in groups] == [(0, 1, 2), (0, 1, 2), (0,)] or len(groups) == 3
    assert sum(len(group.words) for group in groups) == 6  # the identity is in none
    drawn = sample_expectations(circuit, torch.zeros(0), torch.zeros(0), shots=1000, generator=stream(0, "x"))
    exact = expectations(circuit, torch.zeros(0), torch.zeros(0))
    assert float((drawn - exact).abs().max()) < 1.5  # 7 standard deviations of the largest coefficients


def test_certain_outcomes_are_certain() -> None:
    """An eigenstate gives its eigenvalue in every shot: X on |+>, Y on |+i>, Z on |1>, and the constant."""
    gates = (Gate("H", (0,)), Gate("H", (1,)), Gate("S", (1,)), Gate("X", (2,)))
    words = ("XII", "IYI", "IIZ", "XYZ", "III")
    circuit = Circuit(
        n_qubits=3,
        gates=gates,
        observables=tuple(Observable(((1.0, w),)) for w in words),
        n_weights=0,
        n_features=0,
    )
    drawn = sample_expectations(circuit, torch.zeros(0), torch.zeros(0), shots=50, generator=stream(0, "x"))
    assert drawn.tolist() == [1.0, 1.0, -1.0, -1.0, 1.0]


def test_outcomes_of_one_group_are_drawn_together() -> None:
    """In a Bell state Z0 and Z1 agree in every shot, though each alone is a coin."""
    gates = (Gate("H", (0,)), Gate("CNOT", (0, 1)))
    circuit = Circuit(
        n_qubits=2, gates=gates, observables=(pauli_z(0, 2), pauli_z(1, 2)), n_weights=0, n_features=1
    )
    drawn = sample_expectations(
        circuit, torch.zeros(0), torch.zeros(100, 1), shots=1, generator=stream(0, "x")
    )
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    assert set(drawn[:, 0].tolist()) == {-1.0, 1.0}


def test_lanes_draw_what_they_draw_alone() -> None:
    circuit = build_circuit(n_qubits=3, layers=2, observables=(pauli_z(0, 3), Observable(((1.0, "XIY"),))))
    weights = torch.randn(3, 2, 1, circuit.n_weights, generator=torch.Generator().manual_seed(0))
    features = torch.randn(3, 2, 5, 3, generator=torch.Generator().manual_seed(1))
    whole = sample_expectations(
        circuit, weights, features, shots=30, generator=[stream(seed, "shots") for seed in range(3)]
    )
    for lane in range(3):
        own = sample_expectations(
            circuit,
            weights[lane : lane + 1],
            features[lane : lane + 1],
            shots=30,
            generator=[stream(lane, "shots")],
        )
        assert torch.equal(own[0], whole[lane])
    again = sample_expectations(circuit, weights, features, shots=30, generator=stream(0, "shots"))
    assert not torch.equal(again, whole)


@pytest.mark.parametrize("shots", [0, -1, 2.5, True])
def test_bad_shots_are_refused(shots: int) -> None:
    circuit = build_circuit(n_qubits=2)
    with pytest.raises(CircuitError, match="bad number of shots"):
        sample_expectations(circuit, torch.zeros(6), torch.zeros(2), shots=shots, generator=stream(0, "x"))


def test_a_generator_for_each_lane_is_needed() -> None:
    circuit = build_circuit(n_qubits=2)
    with pytest.raises(CircuitError, match="one generator for each lane"):
        sample_expectations(circuit, torch.zeros(3, 6), torch.zeros(2), shots=5, generator=[stream(0, "x")])
