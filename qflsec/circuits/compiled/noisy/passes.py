"""Passes of the compiled noisy kernel over one block of samples.

A state is a flat array of rows of Pauli expectation values, one vector of samples each. A slot maps the four rows of
each quad (the words that differ in one wire's letter alone) by one matrix, from one state to the next. Its row I is
1, 0, 0, 0 (channels keep the trace), so that twelve vectors are its matrix: the rows X, Y and Z.
"""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.passes import INNER
from qflsec.circuits.compiled.simd import load, splat, store

__all__ = ["combine", "combine_back", "quads", "quads_back", "turn", "turn_back"]


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
        store(after, outputs[q + 1] * width, a * i + b * x + c * y + d * z)
        store(after, outputs[q + 2] * width, e * i + f * x + g * y + h * z)
        store(after, outputs[q + 3] * width, k * i + m * x + n * y + o * z)


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
        i = load(above, outputs[q] * width) + a * x + e * y + k * z
        store(below, inputs[q] * width, r * i)
        store(below, inputs[q + 1] * width, s * (b * x + f * y + m * z))
        store(below, inputs[q + 2] * width, t * (c * x + g * y + n * z))
        store(below, inputs[q + 3] * width, u * (d * x + h * y + o * z))
        v = r * load(before, inputs[q] * width)
        xi, yi, zi = xi + x * v, yi + y * v, zi + z * v
        v = s * load(before, inputs[q + 1] * width)
        xx, yx, zx = xx + x * v, yx + y * v, zx + z * v
        v = t * load(before, inputs[q + 2] * width)
        xy, yy, zy = xy + x * v, yy + y * v, zy + z * v
        v = u * load(before, inputs[q + 3] * width)
        xz, yz, zz = xz + x * v, yz + y * v, zz + z * v
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
        store(after, low + j, c * p - s * q)
        store(after, high + j, c * q + s * p)


@njit(**INNER)
def turn_back(after, found, kind, c, s, width):
    """The derivative of the angle, and the cotangent of what came before in place of that of what came after."""
    low, high = _pair(kind, width)
    overlap = s - s
    for j in range(0, 4 * width, width):
        p, q = load(found, low + j), load(found, high + j)
        overlap = overlap + (q * load(after, low + j) - p * load(after, high + j))
        store(found, low + j, c * p + s * q)
        store(found, high + j, c * q - s * p)
    return overlap


@njit(**INNER)
def combine(before, after, constants, place, width):
    """A matrix followed by a constant one, of twelve numbers from ``place``."""
    for i in range(3):
        k = place + 4 * i
        for j in range(4):
            p = j * width
            value = splat(constants[k + 1]) * load(before, p) + splat(constants[k + 2]) * load(
                before, p + 4 * width
            )
            value = value + splat(constants[k + 3]) * load(before, p + 8 * width)
            if j == 0:
                value = value + splat(constants[k])
            store(after, 4 * i * width + p, value)


@njit(**INNER)
def combine_back(found, constants, place, width):
    """The cotangent of what came before a constant matrix in place of that of what came after."""
    for p in range(0, 4 * width, width):
        x, y, z = load(found, p), load(found, p + 4 * width), load(found, p + 8 * width)
        for k in range(3):
            value = splat(constants[place + 1 + k]) * x + splat(constants[place + 5 + k]) * y
            store(found, 4 * k * width + p, value + splat(constants[place + 9 + k]) * z)
