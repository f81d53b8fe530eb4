"""Circuits: one description, and its executors."""

from __future__ import annotations

from qflsec.circuits.build import build_circuit
from qflsec.circuits.circuit import Angle, Circuit, Gate, Observable, pauli_z
from qflsec.circuits.errors import CircuitError, NotAffine
from qflsec.circuits.kernel import expectations, probabilities, statevector
from qflsec.circuits.periods import weight_periods

__all__ = [
    "Angle",
    "Circuit",
    "CircuitError",
    "Gate",
    "NotAffine",
    "Observable",
    "build_circuit",
    "expectations",
    "pauli_z",
    "probabilities",
    "statevector",
    "weight_periods",
]
