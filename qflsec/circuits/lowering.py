"""Gates as Pauli rotations, one-wire constants and row permutations.

Every parametrised gate of the set is, up to a global phase, a product of commuting Pauli rotations
exp(-i a P / 2): a controlled RX by the angle a is X by a/2 and ZX by -a/2, a controlled phase shift is Z on
either wire by a/2 and ZZ by -a/2. Global phases change no expectation value and are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from qflsec.circuits.circuit import Angle, Gate
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.gates import CONSTANT, Rows

__all__ = ["Constant", "Monomial", "Operation", "Rotation", "lower"]


@dataclass(frozen=True)
class Rotation:
    """The rotation exp(-i angle P / 2) about a Pauli word."""

    letters: tuple[tuple[int, str], ...]
    angle: Angle


@dataclass(frozen=True)
class Constant:
    """A constant gate on one wire."""

    wire: int
    matrix: Rows


@dataclass(frozen=True)
class Monomial:
    """A constant gate on several wires with one entry of 1, -1, i or -i in each row."""

    wires: tuple[int, ...]
    matrix: Rows


Operation = Rotation | Constant | Monomial


def _scaled(angle: Angle, factor: float) -> Angle:
    scale = angle.scale if angle.kind == "constant" else angle.scale * factor
    return replace(angle, scale=scale, offset=angle.offset * factor)


def lower(gate: Gate) -> Iterator[Operation]:
    """The operations of one gate, in the order of their action, up to a global phase.

    Raises:
        CircuitError: An angle reads a derived input, whose value only its circuit can give.
    """
    if any(angle.kind == "derived" for angle in gate.angles):
        raise CircuitError(f"{gate.name} reads a derived input", fix="resolve the circuit first")
    wires, name = gate.wires, gate.name
    if name in CONSTANT:
        matrix = CONSTANT[name]
        yield Constant(wires[0], matrix) if len(wires) == 1 else Monomial(wires, matrix)
    elif name == "Rot":
        for axis, angle in zip("ZYZ", gate.angles, strict=True):
            yield Rotation(((wires[0], axis),), angle)
    elif name in ("RX", "RY", "RZ", "PhaseShift"):
        yield Rotation(((wires[0], "Z" if name == "PhaseShift" else name[1]),), gate.angles[0])
    elif name.startswith("Ising"):
        yield Rotation(tuple(zip(wires, name[5:], strict=True)), gate.angles[0])
    else:
        control, target = wires
        axis = "Z" if name == "ControlledPhaseShift" else name[2]
        half = _scaled(gate.angles[0], 0.5)
        yield Rotation(((target, axis),), half)
        if name == "ControlledPhaseShift":
            yield Rotation(((control, "Z"),), half)
        yield Rotation(((control, "Z"), (target, axis)), _scaled(half, -1.0))
