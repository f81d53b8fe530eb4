"""The gate set: sizes, matrices, and how often each rotation's expectation values oscillate."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CONSTANT", "GATES", "GateKind", "Rows", "gate_matrix"]

_R = math.sqrt(0.5)
_I2 = ((1, 0), (0, 1))
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


def _kron(a: Rows, b: Rows) -> Rows:
    return tuple(tuple(x * y for x in row_a for y in row_b) for row_a in a for row_b in b)


def _rotation_forms(name: str) -> tuple[Rows, Rows, Rows]:
    """Constant matrices (C, S, K) with gate(a) = cos(a/2) C + sin(a/2) S + K."""
    zero2: Rows = ((0, 0), (0, 0))
    if name in ("RX", "RY", "RZ"):
        pauli = _PAULI[name[1]]
        return _I2, _times(-1j, pauli), zero2
    if name.startswith("Ising"):
        pauli = _kron(_PAULI[name[5]], _PAULI[name[6]])
        return _kron(_I2, _I2), _times(-1j, pauli), _times(0, pauli)
    block = _PAULI[name[2]]
    upper: Rows = ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0))
    return _lower(_I2), _lower(_times(-1j, block)), upper


def _times(factor: complex, rows: Rows) -> Rows:
    return tuple(tuple(factor * x for x in row) for row in rows)


def _lower(block: Rows) -> Rows:
    return ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, *block[0]), (0, 0, *block[1]))


def gate_matrix(name: str, angles: Sequence[Tensor], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix of a gate, batched over the shape of its angles.

    Args:
        name: A key of :data:`GATES`.
        angles: Real tensors that broadcast against each other.
        dtype: A complex dtype.
        device: Where constant matrices are made.

    Shapes:
        angles ``(...)`` each -> ``(..., d, d)`` with d = 2 or 4.
    """
    if name in CONSTANT:
        return torch.tensor(CONSTANT[name], dtype=dtype, device=device)
    if name == "Rot":
        phi, theta, omega = angles
        first, second, third = (
            gate_matrix(axis, [angle], dtype=dtype, device=device)
            for axis, angle in (("RZ", phi), ("RY", theta), ("RZ", omega))
        )
        return third @ second @ first
    angle = angles[0].to(dtype.to_real())[..., None, None]
    if name in ("PhaseShift", "ControlledPhaseShift"):
        size = 2 if name == "PhaseShift" else 4
        last = torch.zeros(size, size, dtype=dtype, device=device)
        last[-1, -1] = 1
        return torch.eye(size, dtype=dtype, device=device) + last * (torch.exp(1j * angle) - 1)
    cosine, sine, rest = (torch.tensor(m, dtype=dtype, device=device) for m in _rotation_forms(name))
    return torch.cos(angle / 2) * cosine + torch.sin(angle / 2) * sine + rest
