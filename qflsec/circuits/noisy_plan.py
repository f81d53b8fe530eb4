"""Compiles a circuit and its noise into the few tensor operations that the noisy kernel runs.

As in :mod:`qflsec.circuits.plan`, with transfer matrices in place of unitaries: runs of one-wire gates and
channels become *slots*, the slots of neighbouring wires one *block*; entangling Clifford gates and Pauli
channels behind them only move and scale rows, and are composed into the gather in front of the next block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.lowering import Constant, Monomial, Operation, Rotation
from qflsec.circuits.noisy_order import NoisyOrder, schedule_all, turned
from qflsec.circuits.placed_noise import Noise
from qflsec.circuits.transfer import (
    Real,
    WeightedPermutation,
    clifford,
    diagonal,
    identity,
    rotation_parts,
    transfer_matrix,
    wires_first,
    word_rotation,
)

__all__ = ["NoisyBlock", "NoisyPlan", "NoisyTurn", "Slots", "compile_noisy"]

MAX_ANGLES = 3
"""Angles of one slot: its matrix is a sum over the 3**angles products of their (1, cos, sin)."""
GROUP_SIZE = 2
"""Wires of one block, whose matrix has 4**wires rows."""


@dataclass
class _Slot:
    """A run of gates and channels on one wire.

    Attributes:
        angles: The weight angles, in the order of their action.
        form: ``form[b1, ..., bm]`` is the matrix that goes with 1 (0), cos (1) or sin (2) of each angle.
    """

    angles: list[Angle] = field(default_factory=list)
    form: Real = field(default_factory=lambda: np.eye(4))

    def constant(self, matrix: Real) -> None:
        self.form = matrix @ self.form

    def rotate(self, axis: str, angle: Angle) -> None:
        parts = [part @ self.form for part in rotation_parts(axis)]
        self.form = np.stack(parts, axis=len(self.angles))
        self.angles.append(angle)

    @property
    def idle(self) -> bool:
        return not self.angles and np.array_equal(self.form, np.eye(4))


@dataclass
class Slots:
    """The slots of all blocks of one size, whose matrices are built together.

    Attributes:
        n_wires: Wires of each block.
        n_angles: Angles of the slot that has the most.
        angles: The angles, slot by slot, padded with zeros to ``n_angles`` each.
        forms: The slots' forms as tables ``(3**n_angles, 16)``, block by block, wire by wire.
    """

    n_wires: int
    n_angles: int
    angles: list[Angle] = field(default_factory=list)
    forms: list[Real] = field(default_factory=list)

    def add(self, slot: _Slot) -> None:
        """Append a slot."""
        form = slot.form
        missing = self.n_angles - len(slot.angles)
        for _ in range(missing):  # a dummy angle 0: only the term of 1 stays
            form = np.stack([form, np.zeros_like(form), np.zeros_like(form)], axis=-3)
        self.forms.append(form.reshape(-1, 16))
        self.angles += [*slot.angles, *[Angle.constant(0.0)] * missing]


@dataclass(frozen=True)
class NoisyBlock:
    """A matrix on a group of wires, once ``gather`` has brought them to the front."""

    gather: WeightedPermutation
    family: tuple[int, int]
    position: int


@dataclass(frozen=True)
class NoisyTurn:
    """After ``gather``, a rotation: rows with ``turns`` 1 become cos times themselves plus sin times ``sine``."""

    gather: WeightedPermutation
    turns: Real
    sine: WeightedPermutation
    angle: Angle


@dataclass(frozen=True)
class NoisyPlan:
    """What the noisy kernel runs.

    Attributes:
        starts: The vector of each wire to start with, as columns that go with (1, cos, sin) of its angle.
        encoding: The feature angle of each wire's start.
        stages: Blocks and rotations in the order of their action.
        families: The blocks' slots, by (wires, angles).
        frame: From the rows after the last stage to the words in their order.
    """

    starts: tuple[Real, ...]
    encoding: tuple[Angle | None, ...]
    stages: tuple[NoisyBlock | NoisyTurn, ...]
    families: dict[tuple[int, int], Slots]
    frame: WeightedPermutation


@lru_cache(maxsize=64)
def compile_noisy(circuit: Circuit, noise: Noise | None, count: int) -> NoisyPlan:
    """The plan of a circuit under noise that its first ``count`` gates see.

    Raises:
        CircuitError: An amplitude embedding.
    """
    scheduler = _Scheduler(circuit.n_qubits)
    schedule_all(scheduler, circuit, noise, count)
    return NoisyPlan(
        tuple(scheduler.starts),
        tuple(scheduler.encoding),
        tuple(scheduler.stages),
        scheduler.families,
        scheduler.frame,
    )


class _Scheduler(NoisyOrder):
    """Keeps what has not been emitted yet: first the rows' frame acts, then a slot on each wire."""

    def __init__(self, n: int) -> None:
        self.n = n
        groups = -(-n // GROUP_SIZE)
        self.groups = [range(a, b) for a, b in pairwise(round(n * k / groups) for k in range(groups + 1))]
        self.early = [True] * n  # nothing has acted on the wire but what its start contains
        self.starts: list[Real] = [np.array([[1.0], [0.0], [0.0], [1.0]])] * n
        self.encoding: list[Angle | None] = [None] * n
        self.slots = [_Slot() for _ in range(n)]
        self.stages: list[NoisyBlock | NoisyTurn] = []
        self.families: dict[tuple[int, int], Slots] = {}
        self.frame = identity(n)

    def add(self, operation: Operation) -> None:
        """Take the next operation."""
        match operation:
            case Constant(wire, matrix):
                self.constant(wire, transfer_matrix([np.array(matrix, complex)]))
            case Monomial(wires, matrix):
                self.settle(wires)
                self.frame = clifford(np.array(matrix, complex), wires, self.n).after(self.frame)
            case Rotation(((wire, axis),), angle) if angle.kind == "constant":
                self.constant(wire, turned(axis, angle))
            case Rotation(((wire, axis),), angle) if angle.kind == "weight":
                self.early[wire] = False
                if len(self.slots[wire].angles) == MAX_ANGLES:
                    self.flush([wire])
                self.slots[wire].rotate(axis, angle)
            case Rotation(((wire, axis),), angle) if self.early[wire] and self.encoding[wire] is None:
                self.encoding[wire] = angle
                self.starts[wire] = np.hstack([part @ self.starts[wire] for part in rotation_parts(axis)])
            case Rotation(letters, angle):
                self.settle([wire for wire, _ in letters])
                self.stages.append(NoisyTurn(self.frame, *word_rotation(dict(letters), self.n), angle))
                self.frame = identity(self.n)

    def constant(self, wire: int, matrix: Real) -> None:
        """Take the matrix of a constant gate or a channel."""
        if self.early[wire]:
            self.starts[wire] = matrix @ self.starts[wire]
        elif self.slots[wire].idle and np.array_equal(matrix, np.diag(np.diag(matrix))):
            self.frame = diagonal(np.diag(matrix), (wire,), self.n).after(self.frame)
        else:
            self.slots[wire].constant(matrix)

    def settle(self, wires: Sequence[int]) -> None:
        """Emit what is pending on these wires; nothing joins their start any more."""
        self.flush([wire for wire in wires if not self.slots[wire].idle])
        for wire in wires:
            self.early[wire] = False

    def flush(self, wires: Sequence[int]) -> None:
        """Emit a block for every group that has one of the wires and in which a slot does something."""
        for group in self.groups:
            slots = [self.slots[wire] for wire in group]
            if not set(group) & set(wires) or all(slot.idle for slot in slots):
                continue
            key = (len(group), max(len(slot.angles) for slot in slots))
            family = self.families.setdefault(key, Slots(*key))
            there, back = wires_first(group, self.n)
            self.stages.append(NoisyBlock(there.after(self.frame), key, len(family.forms) // len(group)))
            self.frame = back
            for wire, slot in zip(group, slots, strict=True):
                family.add(slot)
                self.slots[wire] = _Slot()
