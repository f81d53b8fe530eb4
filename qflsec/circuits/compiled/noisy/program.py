"""The slots of a noisy circuit as tables of rows, without the rows that do not matter.

A row matters if the start |0...0> reaches it and an observable reads it. That leaves little of the first and of the
last layer: a layer of slots grows from the start to all words, and shrinks from all words to the measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from qflsec.circuits.circuit import Angle, Circuit
from qflsec.circuits.compiled.noisy.schedule import Element, Slot, Turn, schedule
from qflsec.circuits.placed_noise import Noise
from qflsec.circuits.transfer import WeightedPermutation, word_number

__all__ = ["JUNK", "NOTHING", "RESERVED", "WEIGHT_ANGLE", "NoisyProgram", "compile_noisy_program"]

Ints = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

NOTHING, JUNK, RESERVED = 0, 1, 2
"""Every state begins with a row of zeros, which is read for rows that do not matter, and one that takes them."""
WEIGHT_ANGLE, FEATURE_ANGLE = 1, 2
_PAIRS = {"Z": 1, "X": 2, "Y": 3}


@dataclass(frozen=True, eq=False)
class NoisyProgram:
    """What the compiled noisy kernel runs, as arrays.

    Angle r is ``factor[r] * source + offset[r]``, where the source is the weight or the feature ``index[r]``.

    Attributes:
        ops: For each slot (first element, last + 1, first quad, last + 1, whether it reads a feature).
        elements: For each element (0, its constant) or (1, 2 or 3 for a rotation about Z, X or Y, its angle).
        constants: ``(count, 3, 4)``: the rows X, Y and Z of constant matrices; the row I is always 1, 0, 0, 0.
        sources, index, factor, offset: See above; 1 for a weight, 2 for a feature.
        inputs: ``(quads, 4)``: the place in the state before the slot of the rows I, X, Y and Z of each quad.
        scales: ``(quads, 4)``: what they are multiplied by.
        outputs: ``(quads, 4)``: the place in the state after it.
        sizes: Rows of each state, one more than there are slots.
        words: The places that the observables read.
        coefficients: ``(words, K)``
        first_weight, first_feature: The first slot that reads one; the number of slots where none does.
    """

    ops: Ints
    elements: Ints
    constants: Floats
    sources: Ints
    index: Ints
    factor: Floats
    offset: Floats
    inputs: Places
    scales: Floats
    outputs: Places
    sizes: Ints
    words: Ints
    coefficients: Floats
    first_weight: int
    first_feature: int


@lru_cache(maxsize=64)
def compile_noisy_program(circuit: Circuit, noise: Noise | None) -> NoisyProgram:
    """The program of a circuit without derived inputs under noise.

    Raises:
        CircuitError: An amplitude embedding.
    """
    slots, last = schedule(circuit, noise)
    measured = _measured(circuit, last)
    kept = _rows_that_matter(slots, measured, circuit.n_qubits)
    places = [_places(mask) for mask in kept]
    inputs, scales, outputs, counts = [], [], [], [0]
    for position, slot in enumerate(slots):
        below = 4 ** (circuit.n_qubits - 1 - slot.wire)
        used = np.flatnonzero(_quads(kept[position + 1], below).any(1))
        first = used // below * 4 * below + used % below
        rows = first[:, None] + np.arange(4) * below
        if position + 1 < len(places):  # rows of one quad stand side by side
            places[position + 1] = _number(places[position + 1], kept[position + 1], rows)
        weight = slot.gather.weight[rows]
        inputs.append(np.where(weight != 0, places[position][slot.gather.index[rows]], NOTHING))
        scales.append(weight)
        outputs.append(np.where(kept[position + 1][rows], places[position + 1][rows], JUNK))
        counts.append(counts[-1] + len(used))
    elements, angles, constants, bounds = _elements(slots)
    ops = [
        (*bounds[k : k + 2], *counts[k : k + 2], any(_reads(e, "feature") for e in slot.elements))
        for k, slot in enumerate(slots)
    ]
    return NoisyProgram(
        ops=np.array(ops, np.int64).reshape(-1, 5),
        elements=elements,
        constants=constants,
        sources=np.array([WEIGHT_ANGLE if a.kind == "weight" else FEATURE_ANGLE for a in angles], np.int64),
        index=np.array([angle.index for angle in angles], np.int64),
        factor=np.array([angle.scale for angle in angles]),
        offset=np.array([angle.offset for angle in angles]),
        inputs=_table(inputs).astype(np.int32),
        scales=_table(scales).astype(np.float64),
        outputs=_table(outputs).astype(np.int32),
        sizes=np.array([RESERVED + int(mask.sum()) for mask in kept], np.int64),
        words=places[-1][list(measured)] if measured else np.empty(0, np.int64),
        coefficients=np.array(list(measured.values())).reshape(-1, len(circuit.observables)),
        first_weight=_first(slots, "weight"),
        first_feature=_first(slots, "feature"),
    )


def _measured(circuit: Circuit, last: WeightedPermutation) -> dict[int, list[float]]:
    """The rows that the observables read, and what each counts in every observable."""
    found: dict[int, list[float]] = {}
    for k, observable in enumerate(circuit.observables):
        for coefficient, word in observable.terms:
            row = word_number(word)
            table = found.setdefault(int(last.index[row]), [0.0] * len(circuit.observables))
            table[k] += coefficient * float(last.weight[row])
    return found


def _rows_that_matter(slots: list[Slot], measured: dict[int, list[float]], n: int) -> list[Mask]:
    """For each state the rows that the start reaches and the observables read."""
    start = np.zeros([4] * n, bool)
    start[np.ix_(*[[0, 3]] * n)] = True
    reached = [start.reshape(-1)]
    for slot in slots:
        rows = reached[-1][slot.gather.index] & (slot.gather.weight != 0)
        reached.append(_spread(rows, slot.pattern, 4 ** (n - 1 - slot.wire)))
    needed = np.zeros(4**n, bool)
    needed[list(measured)] = True
    kept = [needed & reached[-1]]
    for slot, rows in zip(reversed(slots), reversed(reached[:-1]), strict=True):
        read = _spread(kept[0], slot.pattern.T, 4 ** (n - 1 - slot.wire)) & (slot.gather.weight != 0)
        before = np.zeros(4**n, bool)
        before[slot.gather.index] = read
        kept.insert(0, before & rows)
    return kept


def _quads(rows: Mask, below: int) -> Mask:
    """The four letters of one wire side by side: ``(quads, 4)``."""
    return rows.reshape(-1, 4, below).transpose(0, 2, 1).reshape(-1, 4)


def _spread(rows: Mask, pattern: Mask, below: int) -> Mask:
    """The rows that a one-wire map with this pattern makes of these."""
    found = (pattern[:, :, None] & rows.reshape(-1, 1, 4, below)).any(2)
    spread: Mask = found.reshape(-1)
    return spread


def _places(mask: Mask) -> Ints:
    """Where each row stands in a state; rows that do not matter are read as zeros."""
    return np.where(mask, RESERVED - 1 + np.cumsum(mask), NOTHING)


def _number(places: Ints, mask: Mask, rows: Ints) -> Ints:
    """The places in the order of the quads."""
    order = rows[mask[rows]]
    renumbered = places.copy()
    renumbered[order] = RESERVED + np.arange(len(order))
    return renumbered


def _elements(slots: list[Slot]) -> tuple[Ints, list[Angle], Floats, list[int]]:
    """The elements, their angles, their constants, and where each slot's begin."""
    elements: list[tuple[int, int]] = []
    angles: list[Angle] = []
    constants: list[Floats] = []
    bounds = [0]
    for slot in slots:
        for element in slot.elements:
            if isinstance(element, Turn):
                elements.append((_PAIRS[element.axis], len(angles)))
                angles.append(element.angle)
            else:
                elements.append((0, len(constants)))
                constants.append(element[1:])
        bounds.append(len(elements))
    table = np.array(constants).reshape(-1, 3, 4)
    return np.array(elements, np.int64).reshape(-1, 2), angles, table, bounds


def _reads(element: Element, kind: str) -> bool:
    return isinstance(element, Turn) and element.angle.kind == kind


def _first(slots: list[Slot], kind: str) -> int:
    reading = [k for k, slot in enumerate(slots) if any(_reads(e, kind) for e in slot.elements)]
    return reading[0] if reading else len(slots)


def _table(parts: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.concatenate(parts) if parts else np.empty((0, 4))
