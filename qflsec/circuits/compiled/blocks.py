"""One block of samples through a program: angles, the state, what is measured, and the way back."""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.passes import (
    INNER,
    merges,
    phases,
    phases_back,
    quartet,
    quartet_back,
    spread,
    transform,
    transform_numbers,
    turn,
    turn_back,
    waves,
)
from qflsec.circuits.compiled.pointers import once, plain, small
from qflsec.circuits.compiled.simd import fma, load, load_pair, minus, plus, splat, store, store_pair
from qflsec.circuits.compiled.sizes import whole

__all__ = [
    "add",
    "back",
    "diagonal",
    "forward",
    "lane_angles",
    "measure",
    "row_angles",
    "seed",
]

_WEIGHT, _FEATURE = 1, 2


_whole = njit(**INNER)(whole)


@njit(**INNER)
def row_angles(tables, work, weights, first):
    """Cosines and sines of all angles that one row of weights gives, each for all lanes of a block.

    A diagonal's are those of the amplitudes: the angle of row k is the sum over its words of (-1)^|z & k| h, a
    Walsh-Hadamard transform.
    """
    angles, pc, ps, width = work.angles, work.pc, work.ps, tables.width
    count, row = tables.n_angles, max(tables.size, 8)
    padded = -(-count // 8) * 8
    for r in range(padded):
        angles[r] = 0.0 if r >= count else tables.offset[r]
        if r < count and tables.sources[r] == _WEIGHT:
            angles[r] += tables.factor[r] * weights[first + tables.index[r]]
    waves(angles, padded, pc, ps, plain(0))
    for r in range(count):
        store(work.c, r * width, splat(pc[r]))
        store(work.s, r * width, splat(ps[r]))
    for i in range(tables.n_ops):
        if tables.ops[6 * i] and not tables.ops[6 * i + 5]:
            for k in range(row):
                angles[k] = 0.0
            for r in range(tables.ops[6 * i + 3], tables.ops[6 * i + 4]):
                h = tables.offset[r]
                if tables.sources[r] == _WEIGHT:
                    h += tables.factor[r] * weights[first + tables.index[r]]
                angles[tables.masks[r]] += h
            transform_numbers(angles, tables.size)
            waves(angles, row, pc, ps, i * row)


@njit(**INNER)
def _add_angle(tables, inputs, angles, r, place):
    """Add angle r of every lane."""
    small()
    source, index = tables.sources[r], tables.index[r]
    for lane in range(tables.width):
        h = tables.offset[r]
        if source == _FEATURE:
            h += tables.factor[r] * inputs.features[inputs.at_features[lane] * tables.n_features + index]
        elif source == _WEIGHT:
            h += tables.factor[r] * inputs.weights[inputs.at_weights[lane] * tables.n_weights + index]
        angles[place + lane] += h


@njit(**INNER)
def lane_angles(tables, inputs, work, every):
    """Cosines and sines of the turns' angles that differ between lanes: those of features, or every one."""
    once()
    width = tables.width
    for i in range(tables.n_ops):
        if not tables.ops[6 * i] and (every or tables.ops[6 * i + 5]):
            r = tables.ops[6 * i + 3]
            for lane in range(width):
                work.angles[lane] = 0.0
            _add_angle(tables, inputs, work.angles, r, plain(0))
            waves(work.angles, width, work.c, work.s, r * width)


@njit(**INNER)
def diagonal(tables, inputs, work, i, every):
    """Where the cosines and sines of a diagonal stand, and whether there is a vector of them for each row."""
    small()
    size, width = tables.size, tables.width
    if not (every or tables.ops[6 * i + 5]):
        return i * max(size, 8), False
    for k in range(size * width):
        work.angles[k] = 0.0
    for r in range(tables.ops[6 * i + 3], tables.ops[6 * i + 4]):
        _add_angle(tables, inputs, work.angles, r, tables.masks[r] * width)
    transform(work.angles, size, width, plain(8))
    place = 0 if every else _whole(tables.n_ops * max(size, 8))
    waves(work.angles, size * width, work.pc, work.ps, place)
    return place, True


@njit(**INNER)
def _begin(tables, inputs, work):
    """The first state; the number of passes that made it."""
    once()
    psi, width, ops = work.psi, tables.width, tables.ops
    row = 2 * width
    zero, one = splat(tables.one - tables.one), splat(tables.one)
    if inputs.started:
        for k in range(tables.size):
            for lane in range(width):
                psi[k * row + lane] = inputs.start[inputs.at_features[lane] * tables.size + k]
            store(psi, k * row + width, zero)
        return 0
    if 1 << tables.spread < tables.size:
        for p in range(0, tables.size * row, width):
            store(psi, p, zero)
    store(psi, 0, one)
    store(psi, width, zero)
    work.support[0] = 0
    for i in range(tables.spread):
        place = ops[6 * i + 3] * width
        spread(
            psi,
            work.support,
            1 << i,
            width,
            ops[6 * i + 1],
            ops[6 * i + 2],
            load(work.c, place),
            load(work.s, place),
        )
    return tables.spread


@njit(**INNER)
def forward(tables, inputs, work, every):
    """The final state of a block; ``every`` says that weights too differ between lanes."""
    once()
    ops, size, width = tables.ops, tables.size, tables.width
    c, s, psi = work.c, work.s, work.psi
    i = _begin(tables, inputs, work)
    while i < tables.n_ops:
        x, z, p = ops[6 * i + 1], ops[6 * i + 2], ops[6 * i + 3] * width
        if ops[6 * i]:
            place, lanewise = diagonal(tables, inputs, work, i, every)
            phases(psi, size, width, work.pc, work.ps, place, lanewise)
        elif (
            i + 1 < tables.n_ops
            and not ops[6 * i + 6]
            and merges(x, z, ops[6 * i + 6 + 1], ops[6 * i + 6 + 2])
        ):
            i += 1
            q = ops[6 * i + 3] * width
            quartet(
                psi,
                size,
                width,
                x,
                z,
                load(c, p),
                load(s, p),
                ops[6 * i + 1],
                ops[6 * i + 2],
                load(c, q),
                load(s, q),
            )
        else:
            turn(psi, size, width, x, z, load(c, p), load(s, p))
        i += 1


@njit(**INNER)
def measure(tables, work):
    """The observables of the state."""
    once()
    psi, width, row = work.psi, tables.width, 2 * tables.width
    count = tables.n_outputs
    zero = splat(tables.one - tables.one)
    for j in range(count):
        store(work.values, j * width, zero)
    for g in range(tables.n_groups):
        flips, imaginary = tables.words[2 * g], tables.words[2 * g + 1]
        for k in range(tables.size):
            p, q = k * row, (k ^ flips) * row
            u, v = load_pair(psi, p)
            a, b = load_pair(psi, q)
            product = minus(a, v, b, u) if imaginary else plus(a, u, b, v)
            for j in range(count):
                place = j * width
                scale = splat(tables.coefficients[(g * count + j) * tables.size + k])
                store(work.values, place, fma(scale, product, load(work.values, place)))


@njit(**INNER)
def seed(tables, work, psi, lam):
    """Lam = sum_j seeds[j] O_j psi."""
    once()
    width, row = tables.width, 2 * tables.width
    count = tables.n_outputs
    zero = splat(tables.one - tables.one)
    for p in range(0, tables.size * row, width):
        store(lam, p, zero)
    for g in range(tables.n_groups):
        flips, imaginary = tables.words[2 * g], tables.words[2 * g + 1]
        for k in range(tables.size):
            p, q = k * row, (k ^ flips) * row
            factor = zero
            for j in range(count):
                scale = splat(tables.coefficients[(g * count + j) * tables.size + k])
                factor = fma(scale, load(work.seeds, j * width), factor)
            u, v = factor * load(psi, p), factor * load(psi, p + width)
            if imaginary:
                u, v = v, -u
            store_pair(lam, q, load(lam, q) + u, load(lam, q + width) + v)


@njit(**INNER)
def add(tables, work, r, overlap):
    """Add an angle's derivative, twice the overlap, to its source's."""
    small()
    place = tables.index[r] * tables.width
    factor = splat(tables.gain[r])
    if tables.sources[r] == _WEIGHT:
        store(work.by_weight, place, fma(factor, overlap, load(work.by_weight, place)))
    elif tables.sources[r] == _FEATURE:
        store(work.by_feature, place, fma(factor, overlap, load(work.by_feature, place)))


@njit(**INNER)
def back(tables, inputs, work, every, stop):
    """Undo all passes down to ``stop``, and take the derivatives of their angles on the way."""
    once()
    ops, size, width = tables.ops, tables.size, tables.width
    c, s, psi, lam = work.c, work.s, work.psi, work.lam
    i = tables.n_ops - 1
    while i >= stop:
        x, z, r = ops[6 * i + 1], ops[6 * i + 2], ops[6 * i + 3]
        p = r * width
        if ops[6 * i]:
            place, lanewise = diagonal(tables, inputs, work, i, every)
            phases_back(psi, lam, work.overlaps, size, width, work.pc, work.ps, place, lanewise)
            transform(work.overlaps, size, width, width)
            for j in range(r, ops[6 * i + 4]):
                add(tables, work, j, load(work.overlaps, tables.masks[j] * width))
        elif i > stop and not ops[6 * i - 6] and merges(ops[6 * i - 6 + 1], ops[6 * i - 6 + 2], x, z):
            i -= 1
            q = ops[6 * i + 3] * width
            first, second = quartet_back(
                psi,
                lam,
                size,
                width,
                ops[6 * i + 1],
                ops[6 * i + 2],
                load(c, q),
                load(s, q),
                x,
                z,
                load(c, p),
                load(s, p),
            )
            add(tables, work, r, second)
            add(tables, work, ops[6 * i + 3], first)
        else:
            add(tables, work, r, turn_back(psi, lam, size, width, x, z, load(c, p), load(s, p)))
        i -= 1
