"""The gate set: sizes, constant matrices, and how often each rotation's expectation values oscillate."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass

__all__ = ["CONSTANT", "GATES", "GateKind", "Rows"]

_R = math.sqrt(0.5)
_PAULI = {"X": ((0, 1), (1, 0)), "Y": ((0, -1j), (1j, 0)), "Z": ((1, 0), (0, -1))}


@dataclass(frozen=True)
class GateKind:
    """What the table says of a gate.

    Attributes:
        n_wires: How many wires it acts on.
        n_angles: How many angles it takes.
        controlled: Whether it is a controlled Pauli rotation: its generator has the eigenvalues 0 and
            ±1/2, so that expectation values have the frequencies 1/2 and 1, and the period 4 pi.
    """

    n_wires: int
    n_angles: int = 0
    controlled: bool = False


GATES: dict[str, GateKind] = {
    "RX": GateKind(1, 1),
    "RY": GateKind(1, 1),
    "RZ": GateKind(1, 1),
    "PhaseShift": GateKind(1, 1),
    "Rot": GateKind(1, 3),
    "CRX": GateKind(2, 1, controlled=True),
    "CRY": GateKind(2, 1, controlled=True),
    "CRZ": GateKind(2, 1, controlled=True),
    "ControlledPhaseShift": GateKind(2, 1),
    "IsingXX": GateKind(2, 1),
    "IsingYY": GateKind(2, 1),
    "IsingZZ": GateKind(2, 1),
    "H": GateKind(1),
    "X": GateKind(1),
    "Y": GateKind(1),
    "Z": GateKind(1),
    "S": GateKind(1),
    "T": GateKind(1),
    "SX": GateKind(1),
    "CNOT": GateKind(2),
    "CZ": GateKind(2),
    "CY": GateKind(2),
    "SWAP": GateKind(2),
}

Rows = tuple[tuple[complex, ...], ...]


def _controlled(block: Rows) -> Rows:
    return ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, *block[0]), (0, 0, *block[1]))


CONSTANT: dict[str, Rows] = {
    "H": ((_R, _R), (_R, -_R)),
    "X": _PAULI["X"],
    "Y": _PAULI["Y"],
    "Z": _PAULI["Z"],
    "S": ((1, 0), (0, 1j)),
    "T": ((1, 0), (0, cmath.exp(0.25j * math.pi))),
    "SX": ((0.5 + 0.5j, 0.5 - 0.5j), (0.5 - 0.5j, 0.5 + 0.5j)),
    "CNOT": _controlled(_PAULI["X"]),
    "CY": _controlled(_PAULI["Y"]),
    "CZ": _controlled(_PAULI["Z"]),
    "SWAP": ((1, 0, 0, 0), (0, 0, 1, 0), (0, 1, 0, 0), (0, 0, 0, 1)),
}
