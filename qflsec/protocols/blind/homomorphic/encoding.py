"""What the client prepares: a product of single-qubit states that hold its features."""

from __future__ import annotations

import numpy as np

from qflsec.circuits import Angle, Gate
from qflsec.circuits.lowering import Constant, Rotation, lower
from qflsec.protocols.blind.angles import Floats
from qflsec.protocols.blind.homomorphic.laboratory import Complex
from qflsec.protocols.blind.homomorphic.steps import PaddedCircuit

__all__ = ["angle_values", "product_state"]

_PAULI = {
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.array([[1, 0], [0, -1]]),
}


def angle_values(angle: Angle, weights: Floats, features: Floats) -> Floats:
    """The value of an angle in each row."""
    if angle.kind == "constant":
        return np.full(len(weights), angle.offset)
    source = weights if angle.kind == "weight" else features
    found: Floats = angle.scale * source[:, angle.index] + angle.offset
    return found


def product_state(circuit: PaddedCircuit, features: Floats) -> list[Complex]:
    """The amplitudes of every wire.

    Shapes:
        features ``(R, F)`` -> for each wire ``(2, R)``.
    """
    wires = []
    for gates in circuit.preparation:
        state: Complex = np.zeros((2, len(features)), dtype=np.complex128)
        state[0] = 1
        for gate in gates:
            state = _apply(gate, state, features)
        wires.append(state)
    return wires


def _apply(gate: Gate, state: Complex, features: Floats) -> Complex:
    for operation in lower(gate):
        if isinstance(operation, Rotation):
            ((_, letter),) = operation.letters
            half = angle_values(operation.angle, features, features) / 2
            state = np.cos(half) * state - 1j * np.sin(half) * (_PAULI[letter] @ state)
        else:
            assert isinstance(operation, Constant)
            state = np.array(operation.matrix) @ state
    return state
