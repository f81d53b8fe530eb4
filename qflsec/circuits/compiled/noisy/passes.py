"""Passes of the compiled noisy kernel over one block of samples.

A state is a flat array of rows of Pauli expectation values, one vector of samples each. A slot maps the four rows of
each quad (the words that differ in one wire's letter alone) by one matrix, from one state to the next. Its row I is
1, 0, 0, 0 (channels keep the trace), so that twelve vectors are its matrix: the rows X, Y and Z.
"""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.simd import fma, load, minus, plus, splat, store

__all__ = ["combine", "combine_back", "quads", "quads_back", "turn", "turn_back"]


@njit(**INNER)
def _row(a, b, c, d, i, x, y, z):
    """A row of a matrix times a column."""
    return fma(d, z, fma(c, y, plus(b, x, a, i)))


@njit(**INNER)
def quads(before, after, inputs, scales, outputs, first, last, matrix, width):
    """One slot: rows are read and scaled, mapped, and written to the next state."""
    a, b, c, d = load(matrix, 0), load(matrix, width), load(matrix, 2 * width), load(matrix, 3 * width)
    e, f, g, h = (
        load(matrix, 4 * width),
        load(matrix, 5 * width),
        load(matrix, 6 * width),
        load(matrix, 7 * width),
    )
    k, m, n, o = (
        load(matrix, 8 * width),
        load(matrix, 9 * width),
        load(matrix, 10 * width),
        load(matrix, 11 * width),
    )
    for q in range(4 * first, 4 * last, 4):
        i = splat(scales[q]) * load(before, inputs[q] * width)
        x = splat(scales[q + 1]) * load(before, inputs[q + 1] * width)
        y = splat(scales[q + 2]) * load(before, inputs[q + 2] * width)
        z = splat(scales[q + 3]) * load(before, inputs[q + 3] * width)
        store(after, outputs[q] * width, i)
        store(after, outputs[q + 1] * width, _row(a, b, c, d, i, x, y, z))
        store(after, outputs[q + 2] * width, _row(e, f, g, h, i, x, y, z))
        store(after, outputs[q + 3] * width, _row(k, m, n, o, i, x, y, z))


@njit(**INNER)
def _four(found, start, width, i, x, y, z):
    """Write one row of a matrix."""
    store(found, start, i)
    store(found, start + width, x)
    store(found, start + 2 * width, y)
    store(found, start + 3 * width, z)


@njit(**INNER)
def quads_back(before, above, below, inputs, scales, outputs, first, last, matrix, found, width):
    """The slot transposed: the cotangent ``above`` of the state after it becomes ``below``, that of the one before.

    The twelve vectors of ``found`` become the cotangent of the matrix.
    """
    a, b, c, d = load(matrix, 0), load(matrix, width), load(matrix, 2 * width), load(matrix, 3 * width)
    e, f, g, h = (
        load(matrix, 4 * width),
        load(matrix, 5 * width),
        load(matrix, 6 * width),
        load(matrix, 7 * width),
    )
    k, m, n, o = (
        load(matrix, 8 * width),
        load(matrix, 9 * width),
        load(matrix, 10 * width),
        load(matrix, 11 * width),
    )
    zero = a - a
    xi, xx, xy, xz = zero, zero, zero, zero
    yi, yx, yy, yz = zero, zero, zero, zero
    zi, zx, zy, zz = zero, zero, zero, zero
    for q in range(4 * first, 4 * last, 4):
        r, s, t, u = splat(scales[q]), splat(scales[q + 1]), splat(scales[q + 2]), splat(scales[q + 3])
        x, y, z = (
            load(above, outputs[q + 1] * width),
            load(above, outputs[q + 2] * width),
            load(above, outputs[q + 3] * width),
        )
        i = fma(k, z, fma(e, y, fma(a, x, load(above, outputs[q] * width))))
        store(below, inputs[q] * width, r * i)
        store(below, inputs[q + 1] * width, s * fma(m, z, plus(f, y, b, x)))
        store(below, inputs[q + 2] * width, t * fma(n, z, plus(g, y, c, x)))
        store(below, inputs[q + 3] * width, u * fma(o, z, plus(h, y, d, x)))
        v = r * load(before, inputs[q] * width)
        xi, yi, zi = fma(x, v, xi), fma(y, v, yi), fma(z, v, zi)
        v = s * load(before, inputs[q + 1] * width)
        xx, yx, zx = fma(x, v, xx), fma(y, v, yx), fma(z, v, zx)
        v = t * load(before, inputs[q + 2] * width)
        xy, yy, zy = fma(x, v, xy), fma(y, v, yy), fma(z, v, zy)
        v = u * load(before, inputs[q + 3] * width)
        xz, yz, zz = fma(x, v, xz), fma(y, v, yz), fma(z, v, zz)
    _four(found, 0, width, xi, xx, xy, xz)
    _four(found, 4 * width, width, yi, yx, yy, yz)
    _four(found, 8 * width, width, zi, zx, zy, zz)


@njit(inline="always")
def _pair(kind, width):
    """Where the two rows stand that a rotation about Z (1), X (2) or Y (3) turns into each other."""
    low = (kind - 1) * 4 * width
    high = (kind % 3) * 4 * width
    return low, high


@njit(**INNER)
def turn(before, after, kind, c, s, width):
    """A matrix followed by a rotation."""
    low, high = _pair(kind, width)
    for j in range(0, 12 * width, width):
        store(after, j, load(before, j))
    for j in range(0, 4 * width, width):
        p, q = load(before, low + j), load(before, high + j)
        store(after, low + j, minus(c, p, s, q))
        store(after, high + j, plus(c, q, s, p))


@njit(**INNER)
def turn_back(after, found, kind, c, s, width):
    """The derivative of the angle, and the cotangent of what came before in place of that of what came after."""
    low, high = _pair(kind, width)
    overlap = s - s
    for j in range(0, 4 * width, width):
        p, q = load(found, low + j), load(found, high + j)
        overlap = overlap + minus(q, load(after, low + j), p, load(after, high + j))
        store(found, low + j, plus(c, p, s, q))
        store(found, high + j, minus(c, q, s, p))
    return overlap


@njit(**INNER)
def combine(before, after, constants, place, width):
    """A matrix followed by a constant one, of twelve numbers from ``place``."""
    for i in range(3):
        k = place + 4 * i
        for j in range(4):
            p = j * width
            value = splat(constants[k + 1]) * load(before, p)
            value = fma(splat(constants[k + 2]), load(before, p + 4 * width), value)
            value = fma(splat(constants[k + 3]), load(before, p + 8 * width), value)
            if j == 0:
                value = value + splat(constants[k])
            store(after, 4 * i * width + p, value)


@njit(**INNER)
def combine_back(found, constants, place, width):
    """The cotangent of what came before a constant matrix in place of that of what came after."""
    for p in range(0, 4 * width, width):
        x, y, z = load(found, p), load(found, p + 4 * width), load(found, p + 8 * width)
        for k in range(3):
            value = plus(splat(constants[place + 5 + k]), y, splat(constants[place + 1 + k]), x)
            store(found, 4 * k * width + p, fma(splat(constants[place + 9 + k]), z, value))
