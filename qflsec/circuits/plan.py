"""Compiles a circuit once into the few tensor operations that the kernel runs.

Runs of one-wire gates become *slots*, the slots of neighbouring wires one *block* (a unitary on up to
``group_size`` wires, applied as one matrix product), and everything that only moves rows or flips signs is
composed into the gather in front of the next block. The first feature rotation of each wire acts on a
known state, so that the encoding is a product of the real vectors (cos, sin).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.frames import SignedPermutation, identity, monomial, pauli_word, wires_first
from qflsec.circuits.lowering import Constant, Monomial, Operation, Rotation, lower

__all__ = ["Block", "Family", "Plan", "Rotate", "Slot", "compile_circuit"]

ComplexMatrix = npt.NDArray[np.complex128]
MAX_ANGLES = 3
"""Angles of one slot: its matrix is a sum over the 2**angles products of their cosines and sines."""

_PAULIS = {
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.array([[1, 0], [0, -1]], complex),
}


@dataclass
class Slot:
    """A run of gates on one wire: its matrix as a form in the angles' cosines and sines.

    Attributes:
        angles: The weight angles, in the order of their action.
        form: ``form[b1, ..., bm]`` is the matrix that goes with cos (0) or sin (1) of each half angle.
    """

    angles: list[Angle] = field(default_factory=list)
    form: ComplexMatrix = field(default_factory=lambda: np.eye(2, dtype=complex))

    def constant(self, matrix: ComplexMatrix) -> None:
        """Append a constant gate."""
        self.form = matrix @ self.form

    def rotate(self, axis: str, angle: Angle) -> None:
        """Append a rotation by a weight's angle."""
        shift = None if self.angles else _rotation_angle(self.form, axis)
        if shift is not None:  # a constant rotation about the same axis becomes part of the angle
            self.form, angle = np.eye(2, dtype=complex), replace(angle, offset=angle.offset + shift)
        self.form = np.stack([self.form, -1j * _PAULIS[axis] @ self.form], axis=len(self.angles))
        self.angles.append(angle)

    @property
    def idle(self) -> bool:
        """Whether the slot does nothing."""
        return not self.angles and np.array_equal(self.form, np.eye(2))


def _rotation_angle(matrix: ComplexMatrix, axis: str) -> float | None:
    """The angle of the rotation about ``axis`` that the matrix is up to a phase, if it is one."""
    cosine, sine = np.trace(matrix) / 2, 1j * np.trace(_PAULIS[axis] @ matrix) / 2
    if not np.allclose(matrix, cosine * np.eye(2) - 1j * sine * _PAULIS[axis], rtol=0, atol=1e-12):
        return None
    phase = cosine if abs(cosine) > abs(sine) else sine
    cosine, sine = cosine / phase, sine / phase
    if abs(cosine.imag) + abs(sine.imag) > 1e-12 or not np.isclose(
        abs(phase) * np.hypot(cosine.real, sine.real), 1, rtol=0, atol=1e-12
    ):
        return None
    return float(2 * np.arctan2(sine.real, cosine.real))


@dataclass
class Family:
    """All blocks of one size, whose unitaries are built together.

    Attributes:
        n_wires: Wires of each block.
        n_angles: Angles of the slot that has the most.
        slots: The slots, block by block, wire by wire.
    """

    n_wires: int
    n_angles: int
    slots: list[Slot] = field(default_factory=list)

    def forms(self) -> npt.NDArray[np.float64]:
        """The slots' forms as real tables ``(slots, 2**n_angles, 16)``.

        The 16 entries are [c, i, j, d]: row i and column j of the matrix times 1 (c = 0) or i (c = 1),
        real part (d = 0) or imaginary part (d = 1).
        """
        tables = []
        for slot in self.slots:
            form = slot.form
            for _ in range(self.n_angles - len(slot.angles)):  # a dummy angle 0: cosine 1, sine 0
                form = np.stack([form, np.zeros_like(form)], axis=-3)
            form = form.reshape(-1, 2, 2)
            pairs = [np.stack([f.real, f.imag], axis=-1) for f in (form, 1j * form)]
            tables.append(np.stack(pairs, axis=1).reshape(-1, 16))
        return np.stack(tables)

    def angles(self) -> list[Angle]:
        """The angles, slot by slot, padded with zeros to ``n_angles`` each."""
        zero = Angle.weight(0, scale=0.0)
        return [
            a for slot in self.slots for a in [*slot.angles, *[zero] * (self.n_angles - len(slot.angles))]
        ]


@dataclass(frozen=True)
class Block:
    """A unitary on a group of wires, once ``gather`` has brought them to the front."""

    gather: SignedPermutation
    family: tuple[int, int]
    position: int


@dataclass(frozen=True)
class Rotate:
    """A Pauli rotation: cos(angle / 2) psi + sin(angle / 2) ``gather``(psi)."""

    gather: SignedPermutation
    angle: Angle


@dataclass(frozen=True)
class Plan:
    """What the kernel runs.

    Attributes:
        n_qubits: Number of wires.
        encoding: The feature angle of each wire's head (None: the wire starts in |0>).
        amplitudes: The amplitudes' angles, if the circuit starts with an amplitude embedding.
        stages: Blocks and rotations in the order of their action.
        families: The blocks' slots, by (wires, angles).
        frame: From the order of rows after the last stage to the standard one.
    """

    n_qubits: int
    encoding: tuple[Angle | None, ...]
    amplitudes: tuple[Angle, ...] | None
    stages: tuple[Block | Rotate, ...]
    families: dict[tuple[int, int], Family]
    frame: SignedPermutation


@lru_cache(maxsize=256)
def compile_circuit(circuit: Circuit, group_size: int) -> Plan:
    """The plan of a circuit, with blocks of at most ``group_size`` wires."""
    scheduler = _Scheduler(circuit.n_qubits, group_size)
    amplitudes = None
    gates = circuit.gates
    if gates and gates[0].name == "AmplitudeEmbedding":
        amplitudes, gates = gates[0].angles, gates[1:]
        scheduler.fresh = [False] * circuit.n_qubits
    for gate in gates:
        for operation in lower(gate):
            scheduler.add(operation)
    scheduler.flush()
    return Plan(
        circuit.n_qubits,
        tuple(scheduler.encoding),
        amplitudes,
        tuple(scheduler.stages),
        scheduler.families,
        scheduler.frame,
    )


def _groups(n: int, size: int) -> list[range]:
    """Neighbouring wires in as few groups as the size allows, as even as possible."""
    count = -(-n // size)
    ends = [round(n * k / count) for k in range(count + 1)]
    return [range(first, last) for first, last in pairwise(ends)]


class _Scheduler:
    """Keeps what has not been emitted yet: a slot for each wire, and the rows' frame."""

    def __init__(self, n: int, group_size: int) -> None:
        self.n = n
        self.groups = _groups(n, group_size)
        self.fresh = [True] * n
        self.encoding: list[Angle | None] = [None] * n
        self.slots = [Slot() for _ in range(n)]
        self.stages: list[Block | Rotate] = []
        self.families: dict[tuple[int, int], Family] = {}
        self.frame = identity(n)

    def add(self, operation: Operation) -> None:
        """Take the next operation."""
        match operation:
            case Constant(wire, matrix):
                self.slots[wire].constant(np.asarray(matrix, complex))
            case Monomial(wires, matrix):
                self._settle(wires)
                self.frame = monomial(matrix, wires, self.n).after(self.frame)
            case Rotation(((wire, axis),), angle) if angle.kind != "feature":
                self._turn(wire, axis, angle)
            case Rotation(((wire, axis),), angle) if self.fresh[wire]:
                self._encode(wire, axis, angle)
            case Rotation(letters, angle):
                self._settle([wire for wire, _ in letters])
                turn = pauli_word(dict(letters), self.n, power=3)
                self.stages.append(Rotate(self.frame.inverse().after(turn.after(self.frame)), angle))

    def _turn(self, wire: int, axis: str, angle: Angle) -> None:
        """A rotation that is the same for all samples joins the wire's slot."""
        if angle.kind == "constant":
            half = angle.offset / 2
            self.slots[wire].constant(np.cos(half) * np.eye(2) - 1j * np.sin(half) * _PAULIS[axis])
            return
        self.fresh[wire] = False
        if len(self.slots[wire].angles) == MAX_ANGLES:
            self.flush()
        self.slots[wire].rotate(axis, angle)

    def _encode(self, wire: int, axis: str, angle: Angle) -> None:
        """A rotation of a known state k is (cos, sin) followed by the constant matrix [k, -iPk]."""
        self.fresh[wire] = False
        self.encoding[wire] = angle
        start = self.slots[wire].form[:, 0]
        self.slots[wire].form = np.stack([start, -1j * _PAULIS[axis] @ start], axis=1)

    def _settle(self, wires: Sequence[int]) -> None:
        for wire in wires:
            self.fresh[wire] = False
        if not all(self.slots[wire].idle for wire in wires):
            self.flush()

    def flush(self) -> None:
        """Emit a block for every group of wires in which a slot does something."""
        for group in self.groups:
            slots = [self.slots[wire] for wire in group]
            if all(slot.idle for slot in slots):
                continue
            key = (len(group), max(len(slot.angles) for slot in slots))
            family = self.families.setdefault(key, Family(*key))
            order = wires_first(group, self.n)
            self.stages.append(Block(order.after(self.frame), key, len(family.slots) // len(group)))
            self.frame = order.inverse()
            family.slots += slots
        self.fresh = [fresh and slot.idle for fresh, slot in zip(self.fresh, self.slots, strict=True)]
        self.slots = [Slot() for _ in range(self.n)]
