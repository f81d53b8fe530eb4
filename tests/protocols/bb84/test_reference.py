from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2_contingency

from qflsec.base import ConfigError
from qflsec.protocols.bb84.bits import pack
from qflsec.protocols.bb84.detector import PERFECT_DETECTORS
from qflsec.protocols.bb84.reference import MOST_PULSES, Backend, pulse_circuit, run_circuits
from qflsec.protocols.bb84.signal import Detectors, Nature, measure
from qflsec.protocols.bb84.tampering import emit_photons

Array = npt.NDArray[Any]
BACKENDS: list[Backend] = ["qiskit", "pennylane"]


def vectorised(bits: Array, bases: Array, measured: Array, seed: int) -> Array:
    n = bits.size
    half, x = bases.astype(np.uint8) & 1, bases.astype(np.uint8) >> 1
    one = np.ones(n, dtype=np.uint8)
    train = emit_photons(Nature(seed), photons=one, sign=pack(bits), x=pack(x), half=pack(half))
    measured = measured.astype(np.uint8)
    clicks = measure(train, Detectors(PERFECT_DETECTORS), x=pack(measured >> 1), half=pack(measured & 1))
    assert clicks.positions.size == n
    return clicks.pattern - 1


def pulses(n: int, seed: int, bases: tuple[int, ...] = (0, 2)) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, n, dtype=np.uint8)
    return bits, rng.choice(bases, n), rng.choice(bases, n)


def counts(bits: Array, bases: Array, measured: Array, outcome: Array) -> Array:
    """How often each of the 36 combinations of bit, bases and outcome occurred."""
    return np.bincount(bits + 2 * outcome + 4 * bases + 12 * measured, minlength=36)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bb84_has_the_joint_distribution_of_circuits(backend: Backend) -> None:
    """1,000 pulses of circuits against 200,000 of the simulation by chi-square; false alarm 1e-5."""
    sent = pulses(MOST_PULSES, 1)
    by_circuits = counts(*sent, run_circuits(*sent, backend=backend, seed=2))
    many = pulses(200_000, 3)
    simulated = counts(*many, vectorised(*many, seed=4))
    assert np.array_equal(by_circuits > 0, simulated > 0)
    table = np.stack([by_circuits, simulated])[:, simulated > 0]
    assert chi2_contingency(table).pvalue > 1e-5


def test_the_comparison_can_fail() -> None:
    sent, many = pulses(MOST_PULSES, 1), pulses(200_000, 3)
    by_circuits = counts(*sent, run_circuits(*sent, backend="qiskit", seed=2))
    outcome = vectorised(*many, seed=4) ^ (np.random.default_rng(0).random(200_000) < 0.1).astype(np.uint8)
    simulated = counts(*many, outcome)
    table = np.stack([by_circuits, simulated])[:, simulated > 0]
    assert chi2_contingency(table).pvalue < 1e-5


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_adversary_halfway_between_the_bases_has_the_distribution_of_circuits(backend: Backend) -> None:
    """Two stages, Eve in Breidbart's basis; joint with Bob's outcome; false alarm 1e-5."""

    def resent(n: int, seed: int, run: Callable[..., Array]) -> tuple[Array, float]:
        bits, bases, measured = pulses(n, seed)
        halfway = np.ones(n, dtype=np.int64)
        eve = run(bits, bases, halfway, seed)
        return counts(bits, bases, measured, run(eve, halfway, measured, seed + 1)), np.mean(eve == bits)

    few, _ = resent(MOST_PULSES, 5, lambda *a: run_circuits(*a[:3], backend=backend, seed=a[3]))
    many, right = resent(200_000, 7, lambda *a: vectorised(*a[:3], seed=a[3]))
    table = np.stack([few, many])[:, many > 0]
    assert chi2_contingency(table).pvalue > 1e-5
    assert right == pytest.approx(math.cos(math.pi / 8) ** 2, abs=5 * math.sqrt(0.125 / 200_000))


def test_circuits_repeat_with_their_seed() -> None:
    sent = pulses(50, 1)
    for backend in BACKENDS:
        first, again = (run_circuits(*sent, backend=backend, seed=9) for _ in range(2))
        assert np.array_equal(first, again)


def test_a_circuit_can_be_drawn() -> None:
    assert pulse_circuit(1, 2, 0).count_ops() == {"x": 1, "ry": 2, "barrier": 1, "measure": 1}


def test_impossible_pulses_are_refused() -> None:
    bits, bases, measured = pulses(MOST_PULSES + 1, 1)
    with pytest.raises(ConfigError, match="few pulses"):
        run_circuits(bits, bases, measured, backend="qiskit", seed=0)
    with pytest.raises(ConfigError, match="that is none"):
        run_circuits(bits[:3], bases[:3] + 3, measured[:3], backend="qiskit", seed=0)
    with pytest.raises(ConfigError, match="equally long"):
        run_circuits(bits[:3], bases[:2], measured[:3], backend="qiskit", seed=0)
    with pytest.raises(ConfigError, match="unknown circuit backend"):
        run_circuits(bits[:3], bases[:3], measured[:3], backend="cirq", seed=0)
