"""The compiled noisy kernel: values and gradients of all samples, block by block.

Samples fall into blocks as in :mod:`qflsec.circuits.compiled.kernel`, so that a sample's result never depends on how
many others are computed beside it. Channels cannot be undone, so that the states of a block are kept for its gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.kernel import keep
from qflsec.circuits.compiled.noisy.passes import combine, combine_back, quads, quads_back, turn, turn_back
from qflsec.circuits.compiled.passes import INNER, waves
from qflsec.circuits.compiled.pointers import ahead, pointer
from qflsec.circuits.compiled.simd import fma, load, splat, store
from qflsec.circuits.compiled.tables import fill_lanes

__all__ = ["run_noisy"]

_WEIGHT = 1


class NoisyTables(NamedTuple):
    """The arrays of a :class:`~qflsec.circuits.compiled.noisy.program.NoisyProgram` as pointers, and sizes.

    Attributes:
        bases: Where each state begins in the buffer of states.
        gain: ``factor`` in the state's dtype.
        one: The number 1 of the state's dtype.
        largest: The rows of the largest state.
    """

    ops: Any
    elements: Any
    constants: Any
    sources: Any
    index: Any
    factor: Any
    offset: Any
    gain: Any
    inputs: Any
    scales: Any
    outputs: Any
    sizes: Any
    bases: Any
    words: Any
    coefficients: Any
    one: Any
    n_ops: int
    n_elements: int
    n_angles: int
    n_words: int
    n_outputs: int
    n_weights: int
    n_features: int
    largest: int
    width: int


class NoisyInputs(NamedTuple):
    """Distinct rows of weights, rows of features, and which of them each lane has."""

    weights: Any
    features: Any
    at_weights: Any
    at_features: Any


class NoisyWork(NamedTuple):
    """The buffers of a block, each flat and aligned.

    Attributes:
        states: All states where a gradient is wanted, two in turn otherwise.
        above, below: Cotangents of a state and of the one before it.
        products: After the matrix 1, for each element the product of its slot's elements so far.
        found: The cotangent of a matrix.
        c, s: Of each angle, for all lanes.
        pc, ps: Of each angle of a row.
        values, seeds: One vector for each observable.
        by_weight, by_feature: The gradient, one vector for each entry.
        angles: float64.
    """

    states: Any
    above: Any
    below: Any
    products: Any
    found: Any
    c: Any
    s: Any
    pc: Any
    ps: Any
    values: Any
    seeds: Any
    by_weight: Any
    by_feature: Any
    angles: Any


@njit(**INNER)
def _carve(tables, states, numbers, angles):
    """The buffers, one after the other."""
    width = tables.width
    below = ahead(pointer(states), tables.largest * width)
    products = pointer(numbers)
    found = ahead(products, (tables.n_elements + 1) * 12 * width)
    c = ahead(found, 12 * width)
    s = ahead(c, tables.n_angles * width)
    pc = ahead(s, tables.n_angles * width)
    ps = ahead(pc, (tables.n_angles + 15) // 16 * 16)
    values = ahead(ps, (tables.n_angles + 15) // 16 * 16)
    seeds = ahead(values, tables.n_outputs * width)
    by_weight = ahead(seeds, tables.n_outputs * width)
    by_feature = ahead(by_weight, tables.n_weights * width)
    return NoisyWork(
        ahead(below, tables.largest * width),
        pointer(states),
        below,
        products,
        found,
        c,
        s,
        pc,
        ps,
        values,
        seeds,
        by_weight,
        by_feature,
        pointer(angles),
    )


@kept
def run_noisy(
    ops, elements, constants, sources, index, factor, offset, gain, inputs, scales, outputs, sizes, words, coefficients,
    bases, weights, features, distinct, rows, samples, shared, own_features, width,
    states, numbers, angles, places, values, seeds, stop, in_weights, in_features,
):  # fmt: skip
    """Values, and gradients down to the slot ``stop``; none where it is beyond the last.

    Args: those of a program, then
        bases: Where each state begins, in numbers.
        weights: ``(distinct rows, P)``
        features: ``(feature rows, F)``: rows * samples of them where ``own_features``, else samples.
        distinct: For each row, which row of weights.
        shared: Whether blocks keep to one row.
        states, numbers, angles, places: Buffers; the last of 2 * width whole numbers.
        values: ``(rows * samples, K)``, written.
        seeds: ``(rows * samples, K)``: what each output's gradient counts; nothing for 1.
        in_weights: ``(blocks, P, width)``, written; nothing where it is not wanted. So ``in_features``.
    """
    largest = 0
    for k in range(len(sizes)):
        largest = max(largest, sizes[k])
    tables = NoisyTables(
        pointer(ops), pointer(elements), pointer(constants), pointer(sources), pointer(index), pointer(factor),
        pointer(offset), pointer(gain), pointer(inputs), pointer(scales), pointer(outputs), pointer(sizes),
        pointer(bases), pointer(words), pointer(coefficients), coefficients.dtype.type(1), len(ops), len(elements),
        len(sources), len(words), coefficients.shape[1], weights.shape[1], features.shape[1], largest, width,
    )  # fmt: skip
    work, results = _carve(tables, states, numbers, angles), pointer(values)
    at_weights = pointer(places)
    at_features = ahead(at_weights, width)
    source = NoisyInputs(pointer(weights), pointer(features), at_weights, at_features)
    _reserve(tables, work)
    per_row = samples
    if not shared:
        rows, samples = 1, rows * samples
    block = 0
    for row in range(rows):
        if shared:
            _row_angles(tables, work, source.weights, distinct[row] * tables.n_weights)
        for first in range(0, samples, width):
            place, count = row * samples + first, min(width, samples - first)
            fill_lanes(source, distinct, own_features, per_row, place, place + count - 1, width)
            _forward(tables, source, work, not shared)
            for lane in range(count):
                for j in range(tables.n_outputs):
                    results[(place + lane) * tables.n_outputs + j] = work.values[j * width + lane]
            if stop <= tables.n_ops:
                _seed(tables, work, pointer(seeds), seeds.size > 0, place, count)
                _back(tables, work, stop)
                if in_weights.size:
                    keep(work.by_weight, pointer(in_weights), block, tables.n_weights * width, width)
                if in_features.size:
                    keep(work.by_feature, pointer(in_features), block, tables.n_features * width, width)
            block += 1


@njit(**INNER)
def _reserve(tables, work):
    """What no block changes: the zeros that begin each state, and the matrix 1."""
    width = tables.width
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    for k in range(tables.n_ops + 1):
        store(work.states, tables.bases[k], zero)
    # nothing reads the rows that do not matter
    store(work.above, width, zero)
    store(work.below, width, zero)
    for j in range(12):
        store(work.products, j * width, one if j in (1, 6, 11) else zero)


@njit(**INNER)
def _row_angles(tables, work, weights, first):
    """Cosines and sines of all angles that one row of weights gives, and the matrices of slots without features."""
    width = tables.width
    padded = -(-tables.n_angles // 8) * 8
    for r in range(padded):
        work.angles[r] = 0.0
        if r < tables.n_angles and tables.sources[r] == _WEIGHT:
            work.angles[r] = tables.factor[r] * weights[first + tables.index[r]] + tables.offset[r]
    waves(work.angles, padded, work.pc, work.ps, 0)
    for r in range(tables.n_angles):
        store(work.c, r * width, splat(work.pc[r]))
        store(work.s, r * width, splat(work.ps[r]))
    for i in range(tables.n_ops):
        if not tables.ops[5 * i + 4]:
            _multiply(tables, work, i)


@njit(**INNER)
def _lane_angles(tables, source, work, every):
    """Cosines and sines of the angles that differ between lanes: those of features, or every one."""
    width = tables.width
    for r in range(tables.n_angles):
        by_weight = tables.sources[r] == _WEIGHT
        if by_weight and not every:
            continue
        for lane in range(width):
            if by_weight:
                value = source.weights[source.at_weights[lane] * tables.n_weights + tables.index[r]]
            else:
                value = source.features[source.at_features[lane] * tables.n_features + tables.index[r]]
            work.angles[lane] = tables.factor[r] * value + tables.offset[r]
        waves(work.angles, width, work.c, work.s, r * width)


@njit(**INNER)
def _multiply(tables, work, i):
    """The products of a slot's elements."""
    width = tables.width
    first, before = tables.ops[5 * i], work.products
    for e in range(first, tables.ops[5 * i + 1]):
        after = ahead(work.products, (e + 1) * 12 * width)
        kind, r = tables.elements[2 * e], tables.elements[2 * e + 1]
        if kind:
            turn(before, after, kind, load(work.c, r * width), load(work.s, r * width), width)
        else:
            combine(before, after, tables.constants, 12 * r, width)
        before = after


@njit(**INNER)
def _forward(tables, source, work, every):
    """All states of a block and the observables; ``every`` says that weights too differ between lanes."""
    ops, width = tables.ops, tables.width
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    _lane_angles(tables, source, work, every)
    for row in range(2, tables.sizes[0]):
        store(work.states, tables.bases[0] + row * width, one)
    for i in range(tables.n_ops):
        if every or ops[5 * i + 4]:
            _multiply(tables, work, i)
        before, after = ahead(work.states, tables.bases[i]), ahead(work.states, tables.bases[i + 1])
        matrix = ahead(work.products, ops[5 * i + 1] * 12 * width)
        quads(
            before, after, tables.inputs, tables.scales, tables.outputs, ops[5 * i + 2], ops[5 * i + 3], matrix, width
        )  # fmt: skip
    last = tables.bases[tables.n_ops]
    for j in range(tables.n_outputs):
        value = zero
        for k in range(tables.n_words):
            scale = splat(tables.coefficients[k * tables.n_outputs + j])
            value = fma(scale, load(work.states, last + tables.words[k] * width), value)
        store(work.values, j * width, value)


@njit(**INNER)
def _seed(tables, work, seeds, seeded, place, count):
    """The cotangent of the last state, and a gradient of zeros."""
    width, n_outputs = tables.width, tables.n_outputs
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    for j in range(n_outputs):
        store(work.seeds, j * width, one)
        if seeded:
            for lane in range(width):
                work.seeds[j * width + lane] = seeds[(place + min(lane, count - 1)) * n_outputs + j]
    for k in range(tables.n_words):
        value = zero
        for j in range(n_outputs):
            value = fma(splat(tables.coefficients[k * n_outputs + j]), load(work.seeds, j * width), value)
        store(work.above, tables.words[k] * width, value)
    for i in range(tables.n_weights):
        store(work.by_weight, i * width, zero)
    for i in range(tables.n_features):
        store(work.by_feature, i * width, zero)


@njit(**INNER)
def _back(tables, work, stop):
    """The derivatives of all angles from the last slot down to ``stop``."""
    ops, width = tables.ops, tables.width
    above, below = work.above, work.below
    for i in range(tables.n_ops - 1, stop - 1, -1):
        before = ahead(work.states, tables.bases[i])
        matrix = ahead(work.products, ops[5 * i + 1] * 12 * width)
        quads_back(
            before, above, below, tables.inputs, tables.scales, tables.outputs, ops[5 * i + 2], ops[5 * i + 3],
            matrix, work.found, width,
        )  # fmt: skip
        for e in range(ops[5 * i + 1] - 1, ops[5 * i] - 1, -1):
            kind, r = tables.elements[2 * e], tables.elements[2 * e + 1]
            if kind:
                c, s = load(work.c, r * width), load(work.s, r * width)
                after = ahead(work.products, (e + 1) * 12 * width)
                slope = turn_back(after, work.found, kind, c, s, width)
                gain, place = splat(tables.gain[r]), tables.index[r] * width
                if tables.sources[r] == _WEIGHT:
                    store(work.by_weight, place, fma(gain, slope, load(work.by_weight, place)))
                else:
                    store(work.by_feature, place, fma(gain, slope, load(work.by_feature, place)))
            else:
                combine_back(work.found, tables.constants, 12 * r, width)
        above, below = below, above
