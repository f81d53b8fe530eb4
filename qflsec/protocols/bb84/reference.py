"""One quantum circuit for each pulse: for teaching, and as the oracle of the vectorised simulation.

A basis is a number of eighths of a turn from Z towards X: 0 is Z, 1 Breidbart's, 2 X.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, stream_seed
from qflsec.protocols.bb84.bits import Bits

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["MOST_PULSES", "Backend", "pulse_circuit", "run_circuits"]

Backend = Literal["qiskit", "pennylane"]
MOST_PULSES = 1000


def pulse_circuit(bit: int, basis: int, measured: int) -> QuantumCircuit:
    """The Qiskit circuit of one pulse: prepare ``bit`` in ``basis``, measure in ``measured``."""
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(1, 1)
    if bit:
        circuit.x(0)
    circuit.ry(basis * math.pi / 4, 0)
    circuit.barrier()
    circuit.ry(-measured * math.pi / 4, 0)
    circuit.measure(0, 0)
    return circuit


def run_circuits(
    bits: Bits,
    bases: npt.NDArray[np.integer],
    measured: npt.NDArray[np.integer],
    *,
    backend: Backend,
    seed: int,
) -> Bits:
    """Prepare and measure each pulse in a circuit of its own, without loss or noise.

    Args:
        bits: The bits sent, 0/1.
        bases: The basis of each preparation.
        measured: The basis of each measurement.
        backend: What runs the circuits.
        seed: Of the outcomes.

    Returns:
        The outcomes, 0/1.

    Raises:
        ConfigError: More than 1,000 pulses, arrays that do not fit, an unknown basis or backend.
    """
    if bits.ndim != 1 or not bits.shape == bases.shape == measured.shape or len(bits) > MOST_PULSES:
        raise ConfigError(
            "circuits are for few pulses",
            got=(bits.shape, bases.shape, measured.shape),
            expected=f"three equally long arrays of up to {MOST_PULSES}",
        )
    pulses = np.stack([bits, bases, measured], axis=1)
    if np.any(pulses < 0) or np.any(pulses > [1, 2, 2]):
        raise ConfigError("a pulse that is none", expected="bits 0 or 1 and bases 0 (Z), 1 or 2 (X)")
    runners: dict[str, Callable[[npt.NDArray[np.integer], int], Bits]] = {
        "qiskit": _qiskit,
        "pennylane": _pennylane,
    }
    if backend not in runners:
        raise ConfigError("unknown circuit backend", got=backend, expected="qiskit or pennylane")
    return runners[backend](pulses, stream_seed(seed, "bb84", "reference", backend) & 0xFFFFFFFF)


def _qiskit(pulses: npt.NDArray[np.integer], seed: int) -> Bits:
    from qiskit.primitives import StatevectorSampler

    sampler = StatevectorSampler(seed=np.random.default_rng(seed))
    jobs = [(pulse_circuit(*(int(v) for v in pulse)),) for pulse in pulses]
    results = sampler.run(jobs, shots=1).result()
    return np.array([result.data.c.array[0, 0] & 1 for result in results], dtype=np.uint8)


def _pennylane(pulses: npt.NDArray[np.integer], seed: int) -> Bits:
    import pennylane as qml

    device = qml.device("default.qubit", wires=1, seed=seed)

    def pulse(bit: int, basis: int, measured: int) -> object:
        if bit:
            qml.PauliX(0)
        qml.RY(basis * math.pi / 4, wires=0)
        qml.RY(-measured * math.pi / 4, wires=0)
        return qml.sample(wires=0)

    node = qml.set_shots(qml.QNode(pulse, device), shots=1)
    return np.array([int(np.ravel(node(*(int(v) for v in p)))[0]) for p in pulses], dtype=np.uint8)
