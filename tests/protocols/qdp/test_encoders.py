"""How far an encoder takes two records apart."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.circuits import build_circuit, statevector
from qflsec.protocols.qdp import QdpError, angle_distance, record_distance, search_distance


@pytest.mark.parametrize("rotation", ["X", "Y", "Z"])
def test_angle_encoding_is_exact(rotation: Any) -> None:
    circuit = build_circuit(n_qubits=3, layers=2, rotation=rotation)
    one, whole = record_distance(circuit, {1: 0.3}), record_distance(circuit, 0.3)
    assert one.kind == whole.kind == "exact"
    assert one.tau == pytest.approx(math.sin(0.15))
    assert whole.tau == pytest.approx(angle_distance(0.3, 0.3, 0.3))
    assert whole.tau == pytest.approx(math.sqrt(1 - math.cos(0.15) ** 6))
    for found, changes in ((one, {1: 0.3}), (whole, 0.3)):
        searched = search_distance(circuit, changes, starts=2)
        assert searched.kind == "lower bound"
        assert searched.tau == pytest.approx(found.tau, abs=1e-7)


def test_a_range_of_pi_makes_any_two_records_possible() -> None:
    circuit = build_circuit(n_qubits=2)
    assert record_distance(circuit, math.pi).whole_record
    assert not record_distance(circuit, 1.0).whole_record
    assert record_distance(circuit, 10.0).tau == 1


def test_reuploading_is_bounded_and_the_search_comes_close() -> None:
    circuit = build_circuit(n_qubits=2, layers=2, encoder="reuploading")
    bound, found = record_distance(circuit, {0: 0.4}), search_distance(circuit, {0: 0.4}, starts=4)
    assert bound.kind == "upper bound"
    assert bound.tau == pytest.approx(math.sin(0.4))
    assert 0.99 * bound.tau < found.tau <= bound.tau + 1e-9


def test_amplitude_encoding_needs_a_norm_and_is_attained() -> None:
    circuit = build_circuit(n_qubits=2, encoder="amplitude", layers=1)
    with pytest.raises(QdpError, match="norm"):
        record_distance(circuit, {0: 0.3})
    found = record_distance(circuit, {0: 0.3}, least_norm=0.5)
    x = np.array([0.15, math.sqrt(0.25 - 0.0225), 0, 0])
    y = x * [-1, 1, 1, 1]
    overlap = x @ y / 0.25
    assert found.tau == pytest.approx(math.sqrt(1 - overlap**2))
    assert record_distance(circuit, {0: 0.8}, least_norm=0.5).tau == 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), encoder=st.sampled_from(["angle", "amplitude", "reuploading"]))
def test_no_records_are_farther_apart(seed: int, encoder: Any) -> None:
    rng = np.random.default_rng(seed)
    circuit = build_circuit(n_qubits=2, layers=3, encoder=encoder)
    n = circuit.n_features
    steps = {i: float(rng.uniform(0, 0.8)) for i in rng.choice(n, size=rng.integers(1, n + 1), replace=False)}
    x = rng.normal(size=n)
    y = x.copy()
    for i, step in steps.items():
        y[i] += rng.choice([-1, 1]) * step
    least = float(min(np.linalg.norm(x), np.linalg.norm(y)))
    weights = torch.from_numpy(rng.uniform(0, 6.28, circuit.n_weights))
    states = statevector(circuit, weights, torch.from_numpy(np.stack([x, y])), dtype=torch.complex128)
    overlap = float(torch.vdot(*states.reshape(2, -1)).abs())
    bound = record_distance(circuit, {int(i): s for i, s in steps.items()}, least_norm=least)
    assert math.sqrt(max(0.0, 1 - overlap**2)) <= bound.tau + 1e-7


def test_changes_that_are_none_are_refused() -> None:
    circuit = build_circuit(n_qubits=2)
    for bad in ({5: 0.1}, {0: -0.1}, {0: math.inf}):
        with pytest.raises(QdpError):
            record_distance(circuit, bad)
