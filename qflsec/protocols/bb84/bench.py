"""Speed of the quantum phase, against one circuit for each qubit, in processor time of one process."""

from __future__ import annotations

import time

import numpy as np

from qflsec.protocols.bb84.channel import FibreChannel
from qflsec.protocols.bb84.config import QuantumConfig
from qflsec.protocols.bb84.detector import DetectorModel
from qflsec.protocols.bb84.quantum import run_quantum
from qflsec.protocols.bb84.reference import Backend, run_circuits
from qflsec.protocols.bb84.source import WeakCoherentSource

__all__ = ["bench_quantum", "circuit_rate", "pulse_rate"]

WITHOUT_LOSS = QuantumConfig(
    n_pulses=10_000_000,
    detector=DetectorModel(efficiency=1.0, dark_count=1e-6),
    channel=FibreChannel(misalignment=0.01),
)
"""Every pulse is detected and half of them are sifted: the most work there can be."""
DECOY_50_KM = QuantumConfig(
    n_pulses=10_000_000,
    basis_probability=0.9,
    source=WeakCoherentSource(),
    detector=DetectorModel(afterpulse=0.04),
    channel=FibreChannel(distance_km=50.0),
)
"""The decoy protocol at the parameters of Lim et al. 2014."""


def pulse_rate(config: QuantumConfig, *, seed: int = 0) -> float:
    """Pulses prepared, sent, measured and sifted per second of one core, secrets from the system."""
    start = time.process_time()
    run_quantum(config, seed=seed)
    return config.n_pulses / (time.process_time() - start)


def circuit_rate(backend: Backend, *, n: int = 200, seed: int = 0) -> float:
    """Circuits of one qubit run per second of one core; the imports are not counted."""
    coins = np.frombuffer(np.random.default_rng(seed).bytes(3 * n), dtype=np.uint8) & np.uint8(1)
    bits, bases, measured = coins.reshape(3, n)
    run_circuits(bits[:2], bases[:2] * 2, measured[:2] * 2, backend=backend, seed=seed)
    start = time.process_time()
    run_circuits(bits, bases * 2, measured * 2, backend=backend, seed=seed)
    return n / (time.process_time() - start)


def bench_quantum(*, seed: int = 0) -> dict[str, float]:
    """Rates, and their ratios in this process.

    Units:
        Pulses or circuits per second of processor time; ratios without unit.
    """
    without_loss = pulse_rate(WITHOUT_LOSS, seed=seed)
    qiskit, pennylane = circuit_rate("qiskit", seed=seed), circuit_rate("pennylane", seed=seed)
    return {
        "pulses_per_second_without_loss": without_loss,
        "pulses_per_second_decoy_50_km": pulse_rate(DECOY_50_KM, seed=seed),
        "qiskit_circuits_per_second": qiskit,
        "pennylane_circuits_per_second": pennylane,
        "ratio_to_qiskit": without_loss / qiskit,
        "ratio_to_pennylane": without_loss / pennylane,
    }
