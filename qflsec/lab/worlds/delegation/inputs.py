"""The circuit that a session delegates, and its weights and features."""

from __future__ import annotations

import numpy as np
import torch

from qflsec.base import numpy_stream
from qflsec.circuits import Circuit, build_circuit, expectations, pauli_z
from qflsec.protocols.blind.angles import Floats

__all__ = ["session_circuit", "session_inputs"]

_FAR_FROM_ZERO = 0.4


def session_circuit(n_qubits: int, layers: int) -> Circuit:
    """An angle encoding, layers of RY and a chain of CZ, and Z on every wire."""
    return build_circuit(
        n_qubits=n_qubits,
        layers=layers,
        ansatz="ry-cz",
        observables=tuple(pauli_z(wire, n_qubits) for wire in range(n_qubits)),
    )


def session_inputs(circuit: Circuit, seed: int) -> tuple[Floats, Floats]:
    """Weights and features of a run, drawn again until no expectation value is near 0.

    A server that flips a result of 0 changes nothing, and nothing could be seen of it.
    """
    rng = numpy_stream(seed, "blind", "inputs")
    best: tuple[float, Floats, Floats] | None = None
    for _ in range(200):
        weights = rng.uniform(-np.pi, np.pi, circuit.n_weights)
        features = rng.uniform(0, np.pi, circuit.n_features)
        values = expectations(circuit, torch.tensor(weights), torch.tensor(features))
        least = float(values.abs().min())
        if best is None or least > best[0]:
            best = (least, weights, features)
        if least > _FAR_FROM_ZERO:
            break
    assert best is not None
    return best[1], best[2]
