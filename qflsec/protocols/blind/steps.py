"""Gates as J steps and CZ, with everything that costs no node kept aside.

Diagonal rotations wait on their wire until the next J takes them; Paulis are moved into later angles; a swap
renames wires; the first Hadamard on |0> only chooses the state. Two Hadamards in a row cancel. All of this
looks at the gates' names, never at the values of angles, so that the graph says nothing of them.
"""

from __future__ import annotations

from dataclasses import replace

from qflsec.circuits import Angle, Gate
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Rotation, lower
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pattern import NodeAngle, Step

__all__ = ["StepWriter", "negated", "write_gate"]

_PHASES = {"T": 1, "S": 2, "Z": 4}


def negated(angle: Angle) -> Angle:
    """The angle's negative."""
    scale = angle.scale if angle.kind == "constant" else -angle.scale
    return replace(angle, scale=scale, offset=-angle.offset)


class StepWriter:
    """Steps so far; each wire's state is X^x RZ(waiting) after them.

    Args:
        n_wires: Number of wires, all in |0>.
    """

    def __init__(self, n_wires: int) -> None:
        self.steps: list[Step] = []
        self.basis = [True] * n_wires
        self.x = [0] * n_wires
        self._waiting = [NodeAngle()] * n_wires

    def z(self, wire: int, angle: Angle) -> None:
        """RZ by an angle."""
        if not self.basis[wire]:
            terms = (*self._waiting[wire].terms, negated(angle) if self.x[wire] else angle)
            self._waiting[wire] = NodeAngle(terms, self._waiting[wire].eighths)

    def phase(self, wire: int, eighths: int) -> None:
        """RZ by a multiple of pi / 4."""
        if not self.basis[wire]:
            sign = -1 if self.x[wire] else 1
            waiting = self._waiting[wire]
            self._waiting[wire] = NodeAngle(waiting.terms, (waiting.eighths + sign * eighths) % 8)

    def flip(self, wire: int) -> None:
        """X."""
        self.x[wire] ^= 1

    def h(self, wire: int) -> None:
        """H: a step, the start of the wire, or the end of the Hadamard before it."""
        x, waiting = self.x[wire], self._waiting[wire]
        last = self._last(wire)
        self._waiting[wire], self.x[wire] = NodeAngle((), 4 * x), 0
        if self.basis[wire]:
            self.basis[wire] = False
            self.steps.append(Step("plus", (wire,)))
        elif waiting.pauli and self._is_hadamard(last):
            self.x[wire] = waiting.eighths // 4
            self.basis[wire] = self.steps.pop(last).kind == "plus"
            if self.basis[wire]:
                self._waiting[wire] = NodeAngle()
        else:
            self.steps.append(Step("j", (wire,), waiting))

    def cz(self, a: int, b: int) -> None:
        """CZ; with a wire in a basis state it is a Pauli on the other."""
        for this, other in ((a, b), (b, a)):
            self.phase(other, 4 * self.x[this])
        if self.basis[a] or self.basis[b]:
            return
        last = self._last(a)
        if last == self._last(b) and self.steps[last].kind == "cz":
            self.steps.pop(last)
        else:
            self.steps.append(Step("cz", (a, b)))

    def _last(self, wire: int) -> int:
        return next((k for k in range(len(self.steps) - 1, -1, -1) if wire in self.steps[k].wires), -1)

    def _is_hadamard(self, position: int) -> bool:
        step = self.steps[position]
        return step.kind == "plus" or (step.kind == "j" and step.angle == NodeAngle())


def write_gate(writer: StepWriter, gate: Gate, line: list[int]) -> None:
    """Write one gate.

    Args:
        writer: Where to.
        gate: The gate.
        line: Which of the writer's wires carries each of the circuit's; a swap changes it.

    Raises:
        BlindError: The gate is no product of rotations by affine angles.
    """
    if gate.name == "AmplitudeEmbedding":
        raise BlindError(
            "amplitude embedding has no affine angles to hide", fix="use an angle or re-uploading encoder"
        )
    wires = tuple(line[wire] for wire in gate.wires)
    if gate.name == "SWAP":
        line[gate.wires[0]], line[gate.wires[1]] = wires[1], wires[0]
    elif gate.name in CONSTANT:
        _constant(writer, gate.name, wires)
    else:
        for operation in lower(gate):
            assert isinstance(operation, Rotation)
            _rotation(writer, [(line[w], letter) for w, letter in operation.letters], operation.angle)


def _constant(writer: StepWriter, name: str, wires: tuple[int, ...]) -> None:
    wire = wires[-1]
    if name in _PHASES:
        writer.phase(wire, _PHASES[name])
    elif name == "H":
        writer.h(wire)
    elif name == "CZ":
        writer.cz(*wires)
    elif name == "SX":
        _sx(writer, wire, 2)
    elif name in ("X", "Y"):
        writer.flip(wire)
        writer.phase(wire, 4 if name == "Y" else 0)
    else:
        turn = 2 if name == "CY" else 0
        writer.phase(wire, -turn)
        writer.h(wire)
        writer.cz(*wires)
        writer.h(wire)
        writer.phase(wire, turn)


def _sx(writer: StepWriter, wire: int, eighths: int) -> None:
    writer.h(wire)
    writer.phase(wire, eighths)
    writer.h(wire)


def _rotation(writer: StepWriter, letters: list[tuple[int, str]], angle: Angle) -> None:
    if len(letters) == 1:
        ((wire, letter),) = letters
        if letter == "Z":
            writer.z(wire, angle)
            return
        turn = 2 if letter == "Y" else 0
        writer.phase(wire, -turn)
        writer.h(wire)
        writer.z(wire, angle)
        writer.h(wire)
        writer.phase(wire, turn)
        return
    # exp(-i a/2 Z X) is RX between two CZ; other letters are turned into these two and back
    (a, left), (b, right) = sorted(letters, key=lambda item: item[1] != "Z")
    _to_z(writer, a, left, 1)
    _to_x(writer, b, right, 1)
    writer.cz(a, b)
    writer.h(b)
    writer.z(b, angle)
    writer.h(b)
    writer.cz(a, b)
    _to_x(writer, b, right, -1)
    _to_z(writer, a, left, -1)


def _to_z(writer: StepWriter, wire: int, letter: str, sign: int) -> None:
    if letter == "X":
        writer.h(wire)
    elif letter == "Y":
        _sx(writer, wire, 2 * sign)


def _to_x(writer: StepWriter, wire: int, letter: str, sign: int) -> None:
    if letter == "Z":
        writer.h(wire)
    elif letter == "Y":
        writer.phase(wire, -2 * sign)
