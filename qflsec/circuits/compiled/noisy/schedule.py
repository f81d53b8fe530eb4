"""A circuit and its noise as maps of single wires, with all else moved into how rows are read.

The state is the vector of Pauli expectation values, as in :mod:`qflsec.circuits.noisy_kernel`. All that happens on one
wire between two entangling gates is one *slot*: rotations and constant matrices, whose product is one 4 x 4 matrix.
Clifford gates and Pauli channels move and scale rows; they are composed into the order in which the next slot reads
them. A rotation about a word of several wires is a slot between two Clifford gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Constant, Monomial, Operation, Rotation
from qflsec.circuits.noisy_order import NoisyOrder, schedule_all, turned
from qflsec.circuits.placed_noise import Noise
from qflsec.circuits.transfer import (
    PAULIS,
    Real,
    WeightedPermutation,
    clifford,
    identity,
    rotation_parts,
    transfer_matrix,
)

__all__ = ["Element", "Slot", "Turn", "schedule"]

_TO_Z = {
    "X": np.array(CONSTANT["H"], complex),
    "Y": (PAULIS["I"] - 1j * PAULIS["X"]) * np.sqrt(0.5),
    "Z": PAULIS["I"],
}
"""For each letter P a gate G with G P G^dagger = Z."""


@dataclass(frozen=True)
class Turn:
    """A rotation exp(-i angle P / 2) about a letter P."""

    axis: str
    angle: Angle


Element = Turn | Real
"""A rotation, or the transfer matrix ``(4, 4)`` of a constant gate or a channel."""


@dataclass(frozen=True)
class Slot:
    """What happens on one wire, once the rows have been moved and scaled.

    Attributes:
        gather: How the rows are read.
        wire: The wire.
        elements: In the order of their action.
    """

    gather: WeightedPermutation
    wire: int
    elements: tuple[Element, ...]

    @property
    def pattern(self) -> npt.NDArray[np.bool_]:
        """Which letter's row (second axis) may reach which letter's (first axis)."""
        found = np.eye(4, dtype=bool)
        for element in self.elements:
            parts = rotation_parts(element.axis) if isinstance(element, Turn) else (element,)
            step = np.logical_or.reduce([part != 0 for part in parts])
            found = (step[:, :, None] & found[None]).any(1)
        return found


def schedule(circuit: Circuit, noise: Noise | None) -> tuple[list[Slot], WeightedPermutation]:
    """The slots of a circuit without derived inputs, and how the observables read the rows after the last one.

    Raises:
        CircuitError: An amplitude embedding.
    """
    scheduler = _Scheduler(circuit.n_qubits)
    schedule_all(scheduler, circuit, noise, len(circuit.gates))
    return scheduler.slots, scheduler.frame


class _Scheduler(NoisyOrder):
    """Keeps what has not been emitted yet: first the frame moves and scales rows, then what is pending acts."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.slots: list[Slot] = []
        self.frame = identity(n)
        self._pending: list[list[Element]] = [[] for _ in range(n)]

    def add(self, operation: Operation) -> None:
        """Take the next operation."""
        match operation:
            case Constant(wire, matrix):
                self.constant(wire, transfer_matrix([np.array(matrix, complex)]))
            case Monomial(wires, matrix):
                self._clifford(np.array(matrix, complex), wires)
            case Rotation(((wire, axis),), angle):
                element = _rotation(axis, angle)
                if isinstance(element, Turn):
                    self._turn(wire, element)
                else:
                    self.constant(wire, element)
            case Rotation(letters, angle):
                self._word(letters, angle)

    def flush(self, wires: Sequence[int]) -> None:
        """Emit the slots of these wires."""
        for wire in wires:
            elements, self._pending[wire] = self._pending[wire], []
            if not elements:
                continue
            last = elements[-1]
            moves = None if isinstance(last, Turn) else _moves(last, wire, self.n)
            if moves is not None:
                elements = elements[:-1]
            if elements:
                self.slots.append(Slot(self.frame, wire, tuple(elements)))
                self.frame = identity(self.n)
            if moves is not None:
                self.frame = moves.after(self.frame)

    def settle(self, wires: Sequence[int]) -> None:
        """Emit the slots of these wires."""
        self.flush(wires)

    def _clifford(self, gate: npt.NDArray[np.complex128], wires: Sequence[int]) -> None:
        self.flush(wires)
        self.frame = clifford(gate, wires, self.n).after(self.frame)

    def _turn(self, wire: int, turn: Turn) -> None:
        """A channel that commutes with the rotation comes after it, so that it joins the next one."""
        pending = self._pending[wire]
        last = pending[-1] if pending else turn
        if not isinstance(last, Turn):
            parts = rotation_parts(turn.axis)
            if all(np.array_equal(last @ part, part @ last) for part in parts):
                pending.insert(len(pending) - 1, turn)
                return
        pending.append(turn)

    def constant(self, wire: int, matrix: Real) -> None:
        """Take the matrix of a constant gate or a channel."""
        pending = self._pending[wire]
        if pending and not isinstance(pending[-1], Turn):
            pending[-1] = matrix @ pending[-1]
        elif not pending and (moves := _moves(matrix, wire, self.n)) is not None:
            self.frame = moves.after(self.frame)
        else:
            pending.append(matrix)

    def _word(self, letters: Sequence[tuple[int, str]], angle: Angle) -> None:
        """The Clifford gates that turn the word into Z on one wire, the rotation, and the gates undone."""
        self.flush([wire for wire, _ in letters])
        *others, (target, _) = letters
        gates = [clifford(_TO_Z[letter], (wire,), self.n) for wire, letter in letters]
        cnot = np.array(CONSTANT["CNOT"], complex)
        gates += [clifford(cnot, (wire, target), self.n) for wire, _ in others]
        there = reduce(lambda first, gate: gate.after(first), gates)
        back = np.argsort(there.index)
        self.slots.append(Slot(there.after(self.frame), target, (_rotation("Z", angle),)))
        self.frame = WeightedPermutation(back, there.weight[back])


def _rotation(axis: str, angle: Angle) -> Element:
    """A rotation, as a matrix where its angle is constant."""
    return turned(axis, angle) if angle.kind == "constant" else Turn(axis, angle)


def _moves(matrix: Real, wire: int, n: int) -> WeightedPermutation | None:
    """A one-wire matrix as a weighted permutation of the rows; None if it is none."""
    column = np.abs(matrix).argmax(1)
    if np.array_equal(matrix, np.diag(np.diag(matrix))):
        column = np.arange(4)
    elif (np.count_nonzero(matrix, axis=1) != 1).any():
        return None
    below = 4 ** (n - 1 - wire)
    rows = np.arange(4**n)
    letters = rows // below % 4
    return WeightedPermutation(rows + (column[letters] - letters) * below, matrix[letters, column[letters]])
