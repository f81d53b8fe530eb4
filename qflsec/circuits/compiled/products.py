"""The compiled second derivative: how values and gradients move when weights, features and first states move."""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from qflsec.circuits.compiled.blocks import add, diagonal, lane_angles, row_angles, seed
from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.kernel import keep_all
from qflsec.circuits.compiled.passes import INNER, transform
from qflsec.circuits.compiled.pointers import once, plain, pointer, small
from qflsec.circuits.compiled.simd import fma, load, load_pair, minus, plus, splat, store
from qflsec.circuits.compiled.tables import Inputs, fill_lanes, tables_of, work_of
from qflsec.circuits.compiled.tangents import moved_phases, moved_phases_back, moved_turn, moved_turn_back

__all__ = ["products"]

_WEIGHT, _FEATURE = 1, 2


class Motion(NamedTuple):
    """A direction, and the buffers that it needs.

    Attributes:
        weights: ``(rows or samples, P)``
        features: ``(samples, F)``
        start: ``(samples, 2**n)``
        at_weights, at_samples: Which of them each lane has.
        psi, lam: The tangents of the states.
        angles: How angles move: one vector for each amplitude.
    """

    weights: Any
    features: Any
    start: Any
    at_weights: Any
    at_samples: Any
    psi: Any
    lam: Any
    angles: Any


@njit(**INNER)
def _add_motion(tables, motion, r, place):
    """Add how half angle r moves, lane by lane."""
    small()
    source, index = tables.sources[r], tables.index[r]
    for lane in range(tables.width):
        if source == _WEIGHT:
            moved = motion.weights[motion.at_weights[lane] * tables.n_weights + index]
        elif source == _FEATURE:
            moved = motion.features[motion.at_samples[lane] * tables.n_features + index]
        else:
            moved = tables.one - tables.one
        motion.angles[place + lane] += tables.one * tables.factor[r] * moved


@njit(**INNER)
def _turn_motion(tables, motion, r):
    store(motion.angles, 0, splat(tables.one - tables.one))
    _add_motion(tables, motion, r, plain(0))
    return load(motion.angles, 0)


@njit(**INNER)
def _diagonal_motion(tables, motion, i):
    small()
    zero, width = splat(tables.one - tables.one), tables.width
    for k in range(tables.size):
        store(motion.angles, k * width, zero)
    for r in range(tables.ops[6 * i + 3], tables.ops[6 * i + 4]):
        _add_motion(tables, motion, r, tables.masks[r] * width)
    transform(motion.angles, tables.size, width, width)


@njit(**INNER)
def _forward(tables, inputs, work, motion, every):
    """The final state and its tangent."""
    once()
    psi, tan, width, size, ops = work.psi, motion.psi, tables.width, tables.size, tables.ops
    row = 2 * width
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    for p in range(0, size * row, width):
        store(psi, p, zero)
        store(tan, p, zero)
    if inputs.started:
        for k in range(size):
            for lane in range(width):
                psi[k * row + lane] = inputs.start[inputs.at_features[lane] * size + k]
                tan[k * row + lane] = motion.start[motion.at_samples[lane] * size + k]
    else:
        store(psi, 0, one)
    for i in range(tables.n_ops):
        r = ops[6 * i + 3]
        if ops[6 * i]:
            place, lanewise = diagonal(tables, inputs, work, i, every)
            _diagonal_motion(tables, motion, i)
            moved_phases(psi, tan, size, width, work.pc, work.ps, place, lanewise, motion.angles)
        else:
            d = _turn_motion(tables, motion, r)
            c, s = load(work.c, r * width), load(work.s, r * width)
            moved_turn(psi, tan, size, width, ops[6 * i + 1], ops[6 * i + 2], c, s, d)


@njit(**INNER)
def _measure(tables, work, motion):
    """How the observables move: 2 Re <psi| O |tangent>."""
    once()
    psi, tan, width, row, count = work.psi, motion.psi, tables.width, 2 * tables.width, tables.n_outputs
    for j in range(count):
        store(work.values, j * width, splat(tables.one - tables.one))
    for g in range(tables.n_groups):
        flips, imaginary = tables.words[2 * g], tables.words[2 * g + 1]
        for k in range(tables.size):
            p, q = k * row, (k ^ flips) * row
            u, v = load_pair(psi, p)
            a, b = load_pair(psi, q)
            f, h = load_pair(tan, p)
            m, n = load_pair(tan, q)
            if imaginary:
                product = minus(a, h, b, f) + minus(m, v, n, u)
            else:
                product = plus(a, f, b, h) + plus(m, u, n, v)
            for j in range(count):
                scale = splat(tables.coefficients[(g * count + j) * tables.size + k])
                store(work.values, j * width, fma(scale, product, load(work.values, j * width)))


@njit(**INNER)
def _back(tables, inputs, work, motion, every):
    """Undo all passes, and take how the derivatives move on the way."""
    once()
    ops, size, width = tables.ops, tables.size, tables.width
    for i in range(tables.n_ops - 1, -1, -1):
        r = ops[6 * i + 3]
        if ops[6 * i]:
            place, lanewise = diagonal(tables, inputs, work, i, every)
            _diagonal_motion(tables, motion, i)
            moved_phases_back(
                work.psi, motion.psi, work.lam, motion.lam, work.overlaps, size, width, work.pc, work.ps, place,
                lanewise, motion.angles,
            )  # fmt: skip
            transform(work.overlaps, size, width, width)
            for j in range(r, ops[6 * i + 4]):
                add(tables, work, j, load(work.overlaps, tables.masks[j] * width))
        else:
            d = _turn_motion(tables, motion, r)
            c, s = load(work.c, r * width), load(work.s, r * width)
            found = moved_turn_back(
                work.psi,
                motion.psi,
                work.lam,
                motion.lam,
                size,
                width,
                ops[6 * i + 1],
                ops[6 * i + 2],
                c,
                s,
                d,
            )
            add(tables, work, r, found)


@kept
def products(
    told, weights, features, start, distinct, rows, samples, shared, own_features, values, seeds,
    by_weights, by_features, by_start, lanewise, in_weights, in_features, in_start,
):  # fmt: skip
    """Second derivatives of ``sum_j seeds[j] E_j``, times a direction; and the derivatives of E_j along it.

    Args: as for the kernel's ``run``, and
        values: ``(rows * samples, K)``, written: how the values move.
        by_weights: ``(rows, P)``, or ``(rows * samples, P)`` where ``lanewise``: the direction.
        by_features: ``(rows * samples, F)``
        by_start: ``(rows * samples, 2**n)``, or nothing.
    """
    small()
    tables, work = tables_of(pointer(told), weights), work_of(pointer(told), weights)
    width = tables.width
    inputs = Inputs(
        pointer(weights), pointer(features), pointer(start), start.size > 0, work.at_weights, work.at_features
    )
    motion = Motion(
        pointer(by_weights), pointer(by_features), pointer(by_start), work.at_direction, work.at_samples,
        work.moved_psi, work.moved_lam, work.moved_angles,
    )  # fmt: skip
    per_row = samples
    if not shared:
        rows, samples = 1, rows * samples
    block = plain(0)
    for row in range(rows):
        if shared:
            row_angles(tables, work, inputs.weights, distinct[row] * tables.n_weights)
        for base in range(0, samples, width):
            left, place = samples - base, row * samples + base
            count = min(left, width)
            fill_lanes(inputs, pointer(distinct), own_features, per_row, place, place + count - 1, width)
            for lane in range(width):
                sample = place + (lane if lane < count else count - 1)
                motion.at_weights[lane] = sample if lanewise else sample // per_row
                motion.at_samples[lane] = sample
            _block(
                tables,
                inputs,
                work,
                motion,
                not shared,
                place,
                count,
                pointer(values),
                pointer(seeds),
            )
            keep_all(tables, work, block, in_weights, in_features, in_start)
            block += 1


@njit(inline="always")
def _block(tables, inputs, work, motion, every, place, count, values, seeds):
    """One block, whose first sample stands at ``place`` of the results."""
    width, n_outputs = tables.width, tables.n_outputs
    lane_angles(tables, inputs, work, every)
    _forward(tables, inputs, work, motion, every)
    _measure(tables, work, motion)
    for lane in range(count):
        for j in range(n_outputs):
            values[(place + lane) * n_outputs + j] = work.values[j * width + lane]
    for j in range(n_outputs):
        for lane in range(width):
            sample = place + (lane if lane < count else count - 1)
            work.seeds[j * width + lane] = seeds[sample * n_outputs + j]
    seed(tables, work, work.psi, work.lam)
    seed(tables, work, motion.psi, motion.lam)
    zero, two = splat(tables.one - tables.one), splat(tables.one + tables.one)
    for i in range(tables.n_weights):
        store(work.by_weight, i * width, zero)
    for i in range(tables.n_features):
        store(work.by_feature, i * width, zero)
    _back(tables, inputs, work, motion, every)
    for k in range(tables.size):
        store(work.by_start, k * width, two * load(motion.lam, 2 * k * width))
