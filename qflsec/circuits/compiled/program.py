"""A circuit as Pauli rotations in an order that the compiled kernel runs in few passes over the state.

All Clifford gates move to the end and vanish in the observables; every other constant gate is a rotation by a
constant angle. What is left is a product of rotations exp(-i angle P / 2), P a signed Pauli word. Words of Z alone
are *phases*: all that stand between two *turns* (words that flip wires) are one diagonal. Rotations that no
observable can tell are left out, and the others move to the front as far as they commute, so that a layer of general rotations is one diagonal, one turn for each wire, and a
diagonal that it shares with the next layer.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.compiled.words import CliffordFrame, PauliWord
from qflsec.circuits.gates import CONSTANT
from qflsec.circuits.lowering import Constant, Monomial, Rotation, lower

__all__ = ["CONSTANT_ANGLE", "FEATURE_ANGLE", "PHASES", "TURN", "WEIGHT_ANGLE", "Program", "compile_program"]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TURN, PHASES = 0, 1
CONSTANT_ANGLE, WEIGHT_ANGLE, FEATURE_ANGLE = 0, 1, 2
_SOURCES = {"constant": CONSTANT_ANGLE, "weight": WEIGHT_ANGLE, "feature": FEATURE_ANGLE}


@dataclass(frozen=True)
class _Turn:
    word: PauliWord
    angle: Angle


@dataclass(frozen=True, eq=False)
class Program:
    """What the compiled kernel runs, as arrays.

    Angle r is the half angle ``factor[r] * source + offset[r]``, where the source is the weight or the feature
    ``index[r]``; signs of words are part of it.

    Attributes:
        n_qubits: Number of wires.
        ops: For each pass (kind, x, z, first angle, last angle + 1, whether any angle reads a feature). A turn's x and
            z are its word's masks; a diagonal's are 0.
        spread: How many turns at the front only spread the state |0...0>: each flips wires that none before it did.
        masks: For each angle the z mask of its word.
        sources: Constant, weight or feature, for each angle.
        index: Which weight or feature.
        factor: See above.
        offset: See above.
        words: For each group of an observable's words with one x mask (x, whether it is imaginary).
        coefficients: ``(groups, K, 2**n)``: what multiplies Re or Im of conj(psi[k ^ x]) psi[k].
        amplitudes: The amplitudes' angles, where the circuit starts with an amplitude embedding.
        first_weight: The first pass that reads a weight; the number of passes where none does.
        first_feature: The same of features.
    """

    n_qubits: int
    ops: Ints
    spread: int
    masks: Ints
    sources: Ints
    index: Ints
    factor: Floats
    offset: Floats
    words: Ints
    coefficients: Floats
    amplitudes: tuple[Angle, ...] | None
    first_weight: int
    first_feature: int


@lru_cache(maxsize=256)
def compile_program(circuit: Circuit) -> Program:
    """The program of a circuit without derived inputs."""
    turns, frame, amplitudes = _rotations(circuit)
    layers = _schedule(_live(circuit, turns, frame), starts_known=amplitudes is None)
    ops: list[tuple[int, ...]] = []
    angles: list[_Turn] = []
    for position, layer in enumerate(layers):
        if position % 2:
            for turn in layer:
                by_feature = turn.angle.kind == "feature"
                ops.append((TURN, turn.word.x, turn.word.z, len(angles), len(angles) + 1, by_feature))
                angles.append(turn)
            continue
        # phases of features differ between samples, those of weights are made once for all
        for by_feature in (False, True):
            part = [turn for turn in layer if (turn.angle.kind == "feature") == by_feature]
            if part:
                ops.append((PHASES, 0, 0, len(angles), len(angles) + len(part), by_feature))
                angles += part
    words, coefficients = _observables(circuit, frame)
    table = np.array(ops, np.int64).reshape(-1, 6)
    sources = np.array([_SOURCES[turn.angle.kind] for turn in angles], np.int64)
    scaled = [_half_angle(turn) for turn in angles]
    return Program(
        n_qubits=circuit.n_qubits,
        ops=table,
        spread=_spread(table) if amplitudes is None else 0,
        masks=np.array([turn.word.z for turn in angles], np.int64),
        sources=sources,
        index=np.array([turn.angle.index for turn in angles], np.int64),
        factor=np.array([factor for factor, _ in scaled]),
        offset=np.array([offset for _, offset in scaled]),
        words=words,
        coefficients=coefficients,
        amplitudes=amplitudes,
        first_weight=_first(table, sources, WEIGHT_ANGLE),
        first_feature=_first(table, sources, FEATURE_ANGLE),
    )


def _rotations(circuit: Circuit) -> tuple[list[_Turn], CliffordFrame, tuple[Angle, ...] | None]:
    """The rotations in the circuit's order, each in the frame of the Clifford gates before it."""
    n, frame, turns = circuit.n_qubits, CliffordFrame(circuit.n_qubits), []
    amplitudes, gates = None, circuit.gates
    fresh = [True] * n
    if gates and gates[0].name == "AmplitudeEmbedding":
        amplitudes, gates, fresh = gates[0].angles, gates[1:], [False] * n
    for operation in (operation for gate in gates for operation in lower(gate)):
        match operation:
            case Monomial(wires, matrix):
                frame.apply(matrix, wires)
                for wire in wires:
                    fresh[wire] = False
            case Constant(wire, matrix):
                turns += _constant(frame, matrix, wire, n)
                fresh[wire] = False
            case Rotation(((wire, "X"),), angle) if fresh[wire]:
                # RX = S^dagger RY S, and S leaves |0> alone: the first state of a wire is real
                turns.append(_Turn(frame.image(PauliWord.of([(wire, "Y")], n)), angle))
                for _ in range(3):
                    frame.apply(CONSTANT["S"], [wire])
                fresh[wire] = False
            case Rotation(letters, angle):
                turns.append(_Turn(frame.image(PauliWord.of(letters, n)), angle))
                for wire, letter in letters:
                    fresh[wire] &= letter == "Z" and len(letters) == 1
    return turns, frame, amplitudes


def _constant(
    frame: CliffordFrame, matrix: tuple[tuple[complex, ...], ...], wire: int, n: int
) -> list[_Turn]:
    """A constant gate as RZ RY RZ: quarter turns about Z join the frame, the rest are rotations."""
    (a, b), (c, d) = matrix
    middle = 2 * math.atan2(abs(c), abs(a))
    if abs(a) < 1e-12:
        first, last = cmath.phase(b) + math.pi - cmath.phase(c), 0.0
    elif abs(c) < 1e-12:
        first, last = cmath.phase(d) - cmath.phase(a), 0.0
    else:
        first, last = cmath.phase(-b) - cmath.phase(a), cmath.phase(c) - cmath.phase(a)
    found: list[_Turn] = []
    for axis, angle in (("Z", first), ("Y", middle), ("Z", last)):
        quarters = angle / (math.pi / 2)
        if axis == "Z" and abs(quarters - round(quarters)) < 1e-9:
            for _ in range(round(quarters) % 4):
                frame.apply(CONSTANT["S"], [wire])
        elif axis == "Y" and abs(middle - math.pi) < 1e-12:
            frame.apply(CONSTANT["Y"], [wire])
        elif abs(angle) > 1e-12:
            found.append(_Turn(frame.image(PauliWord.of([(wire, axis)], n)), Angle.constant(angle)))
    return found


def _live(circuit: Circuit, turns: list[_Turn], frame: CliffordFrame) -> list[_Turn]:
    """The rotations that any observable can tell.

    One that commutes with all later ones that count, and with the observables, can move to the end and cancels. Its
    derivative is then exactly 0, where rounding would leave a number that Adam takes a whole step along.
    """
    n = circuit.n_qubits
    words = {letters for observable in circuit.observables for _, letters in observable.terms}
    told = [frame.image(_word(letters, n)) for letters in words]
    live = []
    for turn in reversed(turns):
        if not all(turn.word.commutes(word) for word in told):
            live.append(turn)
            told.append(turn.word)
    return live[::-1]


def _word(letters: str, n: int) -> PauliWord:
    return PauliWord.of([(wire, letter) for wire, letter in enumerate(letters) if letter != "I"], n)


def _schedule(turns: list[_Turn], *, starts_known: bool) -> list[list[_Turn]]:
    """Layers in turn of phases (even) and turns (odd): each rotation stands as early as it commutes.

    Phases of the state |0...0> are global, so that the first layer is dropped where the circuit starts with it.
    """
    layers: list[list[_Turn]] = []
    placed: list[tuple[_Turn, int]] = []
    for turn in turns:
        diagonal = turn.word.x == 0
        place = 0 if diagonal else 1
        for other, layer in placed:
            if layer >= place and not turn.word.commutes(other.word):
                # phases come after a turn, turns after phases; turns of one layer keep their order
                same_kind = (other.word.x == 0) == diagonal
                place = max(place, layer if same_kind else layer + 1)
        layers += [[] for _ in range(place + 1 - len(layers))]
        layers[place].append(turn)
        placed.append((turn, place))
    if layers and starts_known:
        layers[0] = []
    return layers


def _half_angle(turn: _Turn) -> tuple[float, float]:
    """Factor and offset of the half angle.

    A turn about i**power X^x Z^z with an odd number of Y (bits of x & z) maps psi[k] to (-1)^|z & k| times
    psi[k ^ x] times -i i**power, which is 1 for power 1 and -1 for power 3; with an even number -i times 1 or -1.
    The sign joins the angle.
    """
    sign = -1.0 if turn.word.power in (2, 3) else 1.0
    angle = turn.angle
    scale = 0.0 if angle.kind == "constant" else angle.scale
    return 0.5 * sign * scale, 0.5 * sign * angle.offset


def _spread(ops: Ints) -> int:
    """How many turns at the front have x masks that are independent of those before."""
    basis: list[int] = []
    for kind, x, *_ in ops.tolist():
        rest = x
        for vector in basis:
            rest = min(rest, rest ^ vector)
        if kind != TURN or not rest:
            break
        basis = sorted([*basis, rest], reverse=True)
    return len(basis)


def _first(ops: Ints, sources: Ints, source: int) -> int:
    for position, (_, _, _, first, last, _) in enumerate(ops.tolist()):
        if (sources[first:last] == source).any():
            return position
    return len(ops)


def _observables(circuit: Circuit, frame: CliffordFrame) -> tuple[Ints, Floats]:
    """The observables' words, moved through the Clifford gates and grouped by what they flip.

    <psi| i**p X^x Z^z |psi> is the sum over k of i**p (-1)^|z & k| conj(psi[k ^ x]) psi[k]: its real part for p = 0,
    minus it for 2, minus its imaginary part for 1, and it for 3.
    """
    size = 2**circuit.n_qubits
    groups: dict[tuple[int, int], npt.NDArray[Any]] = {}
    signs: dict[int, npt.NDArray[Any]] = {}
    images: dict[str, PauliWord] = {}
    states = np.arange(size)
    for k, observable in enumerate(circuit.observables):
        for coefficient, letters in observable.terms:
            if letters not in images:
                images[letters] = frame.image(_word(letters, circuit.n_qubits))
            word = images[letters]
            if word.z not in signs:
                signs[word.z] = 1.0 - 2.0 * (np.bitwise_count(states & word.z) & 1)
            empty = np.zeros((len(circuit.observables), size))
            table = groups.setdefault((word.x, word.power & 1), empty)
            table[k] += (coefficient if word.power in (0, 3) else -coefficient) * signs[word.z]
    words = np.array(list(groups), np.int64).reshape(-1, 2)
    return words, np.stack(list(groups.values()))
