"""The compiled kernel: values and gradients of all samples, block by block.

Samples that share a row of weights stand in blocks of their own, whose angles of weights are computed once for the
row; where a row has few samples, blocks mix rows and every lane has its own angles. Which of the two follows from the
samples of a row alone, and every block is full (its last lanes repeat the last sample), so that a sample's result
never depends on how many others are computed beside it.
"""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.blocks import back, forward, lane_angles, measure, row_angles, seed
from qflsec.circuits.compiled.cache import kept
from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.pointers import once, plain, pointer, small
from qflsec.circuits.compiled.simd import load, splat, store, total
from qflsec.circuits.compiled.tables import Inputs, fill_lanes, tables_of, work_of

__all__ = ["contract", "keep", "keep_all", "run", "scatter"]


@kept
def run(
    told, weights, features, start, distinct, rows, samples, shared, own_features, values, seeds, stop, in_weights,
    in_features, in_start,
):  # fmt: skip
    """Values, and gradients down to the pass ``stop``; none where it is beyond the last.

    Args: a program and its buffers, as :func:`.told.tell` makes it, then
        weights: ``(distinct rows, P)``
        features: ``(feature rows, F)``: rows * samples of them where ``own_features``, else samples.
        start: ``(feature rows, 2**n)``, or nothing.
        distinct: For each row, which row of weights.
        shared: Whether blocks keep to one row.
        values: ``(rows * samples, K)``, written.
        seeds: ``(rows * samples, K)``: what each output's gradient counts; nothing for 1.
        in_weights: ``(blocks, P, width)``, written; nothing where it is not wanted. So ``in_features``, and
            ``in_start`` with 2**n.
    """
    small()
    tables, work = tables_of(pointer(told), weights), work_of(pointer(told), weights)
    width = tables.width
    inputs = Inputs(
        pointer(weights), pointer(features), pointer(start), start.size > 0, work.at_weights, work.at_features
    )
    per_row = samples
    if not shared:
        rows, samples = 1, rows * samples
    block = plain(0)
    for row in range(rows):
        if shared:
            row_angles(tables, work, inputs.weights, distinct[row] * tables.n_weights)
        for first in range(0, samples, width):
            left, place = samples - first, row * samples + first
            count = min(left, width)
            fill_lanes(inputs, pointer(distinct), own_features, per_row, place, place + count - 1, width)
            _block(
                tables,
                inputs,
                work,
                not shared,
                place,
                count,
                pointer(values),
                pointer(seeds),
                seeds.size > 0,
                stop,
            )
            if stop <= tables.n_ops:
                keep_all(tables, work, block, in_weights, in_features, in_start)
            block += 1


@njit(inline="always")
def _block(tables, inputs, work, every, place, count, values, seeds, seeded, stop):
    """One block, whose first sample stands at ``place`` of the results."""
    width, n_outputs = tables.width, tables.n_outputs
    lane_angles(tables, inputs, work, every)
    forward(tables, inputs, work, every)
    measure(tables, work)
    for lane in range(count):
        for j in range(n_outputs):
            values[(place + lane) * n_outputs + j] = work.values[j * width + lane]
    if stop > tables.n_ops:
        return
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    for j in range(n_outputs):
        store(work.seeds, j * width, one)
        if seeded:
            for lane in range(width):
                sample = place + (lane if lane < count else count - 1)
                work.seeds[j * width + lane] = seeds[sample * n_outputs + j]
    seed(tables, work, work.psi, work.lam)
    for i in range(tables.n_weights):
        store(work.by_weight, i * width, zero)
    for i in range(tables.n_features):
        store(work.by_feature, i * width, zero)
    back(tables, inputs, work, every, stop)
    if inputs.started:
        two = one + one
        for k in range(tables.size):
            store(work.by_start, k * width, two * load(work.lam, 2 * k * width))


@njit(**INNER)
def keep(found, kept, block, count, width):
    """Write a block's vectors to its place."""
    small()
    for p in range(0, count, width):
        store(kept, block * count + p, load(found, p))


@njit(**INNER)
def keep_all(tables, work, block, in_weights, in_features, in_start):
    """Write the derivatives of a block to their places, those that are wanted."""
    once()
    width = tables.width
    if in_weights.size:
        keep(work.by_weight, pointer(in_weights), block, tables.n_weights * width, width)
    if in_features.size:
        keep(work.by_feature, pointer(in_features), block, tables.n_features * width, width)
    if in_start.size:
        keep(work.by_start, pointer(in_start), block, tables.size * width, width)


@kept
def contract(found, factors, samples, count, width, buffer, out):
    """``out[row, i]``: the sum over a row's samples of factor times derivative, in one order for every batch.

    Args:
        found: ``(blocks, count, width)``, flat, from blocks that keep to one row.
        factors: ``(rows * samples,)``, or none for 1.
        samples: Of each row.
        count: How many entries.
        width: Lanes.
        buffer: One aligned vector.
        out: ``(rows, count)``, written.
    """
    small()
    per_row = -(-samples // width)
    vectors, lanes = pointer(found), pointer(buffer)
    for row in range(len(out)):
        for i in range(count):
            out[row, i] = 0
        for b in range(per_row):
            for lane in range(width):
                sample = b * width + lane
                inside = sample < samples
                buffer[lane] = 0
                if inside:
                    buffer[lane] = factors[row * samples + sample] if len(factors) else 1
            scale = load(lanes, 0)
            start = (row * per_row + b) * count * width
            for i in range(count):
                out[row, i] += total(scale * load(vectors, start + i * width))


@kept
def scatter(found, factors, rows, samples, count, width, out):
    """``out[sample, i]``: factor times derivative of each sample; ``rows`` is 1 where blocks mix rows."""
    small()
    per_row = -(-samples // width)
    for row in range(rows):
        for sample in range(samples):
            place = row * samples + sample
            start = ((row * per_row + sample // width) * count) * width + sample % width
            scale = factors[place] if len(factors) else out.dtype.type(1)
            for i in range(count):
                out[place, i] = scale * found[start + i * width]
