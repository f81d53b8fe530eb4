from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.circuits import Angle, Circuit, Gate, Observable, build_circuit, expectations, weight_periods
from qflsec.circuits.gates import GATES

ROTATIONS = [name for name, kind in GATES.items() if kind.n_angles]


def around(name: str, *angles: Angle) -> Circuit:
    """The gate between others that hide no frequency, measured in a general observable."""
    wires = tuple(range(GATES[name].n_wires))
    before = [Gate("RY", (0,), (Angle.constant(0.7),)), Gate("RX", (1,), (Angle.constant(1.1),))]
    after = [
        Gate("RY", (1,), (Angle.constant(0.4),)),
        Gate("CNOT", (0, 1)),
        Gate("RX", (0,), (Angle.constant(0.9),)),
    ]
    word = Observable(((1.0, "ZX"), (0.7, "YI"), (0.3, "IZ")))
    gates = (*before, Gate(name, wires, angles), *after)
    return Circuit(n_qubits=2, gates=gates, observables=(word,), n_weights=3, n_features=0)


def changes(circuit: Circuit, index: int, step: float) -> float:
    """The largest change of an expectation value when one weight moves by ``step``."""
    weights = torch.randn(
        20, circuit.n_weights, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    features = torch.randn(
        circuit.n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    moved = weights.clone()
    moved[:, index] += step
    values = [expectations(circuit, w, features, dtype=torch.complex128) for w in (weights, moved)]
    return float((values[0] - values[1]).abs().max())


@pytest.mark.parametrize("name", ROTATIONS)
def test_period_holds_and_its_half_does_not(name: str) -> None:
    angles = tuple(Angle.weight(k, scale=(-1.0) ** k, offset=0.2) for k in range(GATES[name].n_angles))
    circuit = around(name, *angles)
    for index in range(len(angles)):
        period = weight_periods(circuit)[index]
        assert period == (4 * math.pi if name in ("CRX", "CRY", "CRZ") else 2 * math.pi)
        assert changes(circuit, index, period) < 1e-12
        assert changes(circuit, index, period / 2) > 1e-2


def test_scaled_and_unused_weights_have_none() -> None:
    circuit = around("Rot", Angle.weight(0, scale=0.5), Angle.weight(1, scale=2.0), Angle.constant(0.1))
    assert weight_periods(circuit) == (None, None, None)
    assert changes(circuit, 0, 2 * math.pi) > 1e-2  # scale 1/2: 2 pi would be wrong


def test_repeated_weights_keep_the_longest_period() -> None:
    twice = Circuit(
        n_qubits=2,
        gates=(
            Gate("RY", (0,), (Angle.weight(0),)),
            Gate("CRX", (0, 1), (Angle.weight(0, scale=-1.0),)),
            Gate("RX", (1,), (Angle.weight(1),)),
            Gate("RZ", (1,), (Angle.weight(1, offset=0.3),)),
            Gate("RX", (1,), (Angle.weight(2),)),
            Gate("RX", (0,), (Angle.weight(2, scale=0.5),)),
        ),
        observables=(Observable(((1.0, "ZZ"), (1.0, "XY"))),),
        n_weights=3,
        n_features=0,
    )
    assert weight_periods(twice) == (4 * math.pi, 2 * math.pi, None)
    assert changes(twice, 0, 4 * math.pi) < 1e-12
    assert changes(twice, 0, 2 * math.pi) > 1e-2
    assert changes(twice, 1, 2 * math.pi) < 1e-12
    assert changes(twice, 1, math.pi) > 1e-2


@pytest.mark.parametrize("seed", range(8))
def test_every_promised_period_holds(random_circuit: Callable[..., Circuit], seed: int) -> None:
    circuit = random_circuit(seed, 3, 25, scales=(1.0, -1.0) if seed % 2 else (1.0, 0.5))
    for index, period in enumerate(weight_periods(circuit)):
        if period is not None:
            assert changes(circuit, index, period) < 1e-11


def test_strongly_entangling_periods() -> None:
    assert set(weight_periods(build_circuit(n_qubits=3, layers=2))) == {2 * math.pi}
