"""Passes of the compiled kernel over the state of one block of samples.

A state is a flat array of ``2**n`` rows; a row holds the real and then the imaginary parts of one amplitude for all
samples of the block, one vector each. All of a pass is local to its lane.

A turn about a word with an odd number of Y is real: it maps the pair (a, b) of amplitudes, a the one with an even
number of bits in ``k & z``, to (c a - s b, c b + s a). With an even number it maps both (a, b) and (b, a) to
c a - i g b, where g is s or -s by the parity of ``k & z``. Where two real turns follow each other whose words touch
each other's signs nowhere, one pass does both: four amplitudes are read and written once.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from qflsec.circuits.compiled.pointers import plain
from qflsec.circuits.compiled.simd import (
    floor,
    fma,
    fnma,
    load,
    load_pair,
    minus,
    narrow,
    plus,
    splat,
    store,
    store_pair,
)

__all__ = [
    "INNER",
    "JIT",
    "highest",
    "merges",
    "odd",
    "phases",
    "phases_back",
    "quartet",
    "quartet_back",
    "row_wave",
    "spread",
    "transform",
    "transform_numbers",
    "turn",
    "turn_back",
    "waves",
]

JIT: dict[str, Any] = {"error_model": "numpy", "boundscheck": False}
INNER: dict[str, Any] = {**JIT, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_TURN, _INVERSE = 2 * math.pi, 0.5 / math.pi
# Taylor's series of the sine and of 1 - cosine, each coefficient over the one before
_S = tuple(1 / (k * (k + 1)) for k in range(2, 16, 2))
_V = tuple(1 / (k * (k + 1)) for k in range(3, 17, 2))
_S1, _S2, _S3, _S4, _S5, _S6, _S7 = _S
_V1, _V2, _V3, _V4, _V5, _V6, _V7 = _V


@njit(**INNER)
def odd(mask: int) -> int:
    """1 for an odd number of bits, up to 32."""
    mask ^= mask >> 16
    mask ^= mask >> 8
    mask ^= mask >> 4
    return (0x6996 >> (mask & 15)) & 1


@njit(**INNER)
def highest(mask: int) -> int:
    """The highest bit."""
    bit = 1
    while bit * 2 <= mask:
        bit *= 2
    return bit


@njit(**INNER)
def waves(angles, count, cosines, sines, start):
    """Cosines and sines of float64 angles, to places from ``start``; the count is a multiple of 8.

    An angle is reduced to a quarter of [-pi, pi], where Taylor's series to x^16 is exact to 1e-16; two doublings
    bring it back.
    """
    one, half = splat(1.0), splat(0.5)
    for i in range(0, count, 8):
        # of an angle beyond 1e15 a reduction leaves a rounding error, which may be large itself
        angle = _reduced(_reduced(_reduced(load(angles, i))))
        x = splat(0.25) * angle
        y = x * x
        s = fnma(y * splat(_S6), fnma(y, splat(_S7), one), one)
        s = fnma(y * splat(_S4), fnma(y * splat(_S5), s, one), one)
        s = fnma(y * splat(_S2), fnma(y * splat(_S3), s, one), one)
        s = x * fnma(y * splat(_S1), s, one)
        v = fnma(y * splat(_V6), fnma(y, splat(_V7), one), one)
        v = fnma(y * splat(_V4), fnma(y * splat(_V5), v, one), one)
        v = fnma(y * splat(_V2), fnma(y * splat(_V3), v, one), one)
        # 1 - cos rather than cos, so that no digits are lost near 1
        v = half * y * fnma(y * splat(_V1), v, one)
        s, c = _doubled(s, one - v)
        s, c = _doubled(s, c)
        narrow(cosines, start + i, c)
        narrow(sines, start + i, s)


@njit(**INNER)
def _reduced(angle):
    """An angle less whole turns."""
    return fnma(splat(_TURN), floor(fma(angle, splat(_INVERSE), splat(0.5))), angle)


@njit(**INNER)
def _doubled(s, c):
    """Sine and cosine of twice an angle."""
    twice = s + s
    return twice * c, fnma(twice, s, splat(1.0))


@njit(**INNER)
def _stage(values, first, last, step, row, width):
    """One stage of a Walsh-Hadamard transform, of rows from first to last."""
    for high in range(first, last, 2 * step):
        for p in range(high * row, (high + step) * row, width):
            q = p + step * row
            u, v = load(values, p), load(values, q)
            store(values, p, u + v)
            store(values, q, u - v)


@njit(**INNER)
def _two_stages(values, first, last, step, row, width):
    """Two stages at once, of steps ``step`` and ``2 * step``."""
    ahead = step * row
    for high in range(first, last, 4 * step):
        for p in range(high * row, (high + step) * row, width):
            a, b = load(values, p), load(values, p + ahead)
            c, d = load(values, p + 2 * ahead), load(values, p + 3 * ahead)
            a, b, c, d = a + b, a - b, c + d, c - d
            store(values, p, a + c)
            store(values, p + ahead, b + d)
            store(values, p + 2 * ahead, a - c)
            store(values, p + 3 * ahead, b - d)


@njit(**INNER)
def transform(values, size, row, width):
    """The Walsh-Hadamard transform of rows: row z becomes the sum over k of (-1)^|z & k| row k.

    The first stages stay within 64 rows, which the nearest cache holds; the others go two at a time.
    """
    near = min(size, 64)
    for first in range(0, size, near):
        step = plain(1)
        while 2 * step < near:
            _two_stages(values, first, first + near, step, row, width)
            step *= 4
        if step < near:
            _stage(values, first, first + near, step, row, width)
    step = near
    while 2 * step < size:
        _two_stages(values, plain(0), size, step, row, width)
        step *= 4
    if step < size:
        _stage(values, plain(0), size, step, row, width)


@njit(**INNER)
def transform_numbers(values, size):
    """The Walsh-Hadamard transform of numbers."""
    step = plain(1)
    while step < size:
        for high in range(0, size, 2 * step):
            for k in range(high, high + step):
                u, v = values[k], values[k + step]
                values[k], values[k + step] = u + v, u - v
        step *= 2


@njit(**INNER)
def row_wave(cosines, sines, start, k, width, lanewise):
    """Cosine and sine of row k of a diagonal: one number for all lanes, or a vector."""
    if lanewise:
        return load(cosines, start + k * width), load(sines, start + k * width)
    return splat(cosines[start + k]), splat(sines[start + k])


@njit(**INNER)
def phases(psi, size, width, cosines, sines, start, lanewise):
    """Multiply row k by cos - i sin of its angle."""
    for k in range(size):
        p = 2 * width * k
        c, s = row_wave(cosines, sines, start, k, width, lanewise)
        u, v = load_pair(psi, p)
        store_pair(psi, p, plus(c, u, s, v), minus(c, v, s, u))


@njit(**INNER)
def spread(psi, support, known, width, x, z, c, s):
    """A turn of a state that is zero outside of ``support[:known]``, none of which it flips into another."""
    row = 2 * width
    real = odd(x & z)
    negative = -s
    for i in range(known):
        k = support[i]
        support[known + i] = k ^ x
        a, b = k * row, (k ^ x) * row
        g = negative if odd(k & z) else s
        u, v = load_pair(psi, a)
        store_pair(psi, a, c * u, c * v)
        if real:
            store_pair(psi, b, g * u, g * v)
        else:
            store_pair(psi, b, g * v, -(g * u))


@njit(**INNER)
def phases_back(psi, lam, overlaps, size, width, cosines, sines, start, lanewise):
    """Undo a diagonal of two states; row k of ``overlaps`` becomes Im conj(lam[k]) psi[k]."""
    for k in range(size):
        p = 2 * width * k
        c, s = row_wave(cosines, sines, start, k, width, lanewise)
        u, v = load_pair(psi, p)
        a, b = load_pair(lam, p)
        store(overlaps, k * width, minus(a, v, b, u))
        store_pair(psi, p, minus(c, u, s, v), plus(c, v, s, u))
        store_pair(lam, p, minus(c, a, s, b), plus(c, b, s, a))


@njit(**INNER)
def turn(psi, size, width, x, z, c, s):
    """exp(-i angle P / 2) of a word P that flips wires; c and s are the cosine and the sine of the half angle."""
    pivot, row = highest(x), 2 * width
    real = odd(x & z)
    negative = -s
    for high in range(0, size, 2 * pivot):
        for k in range(high, high + pivot):
            a, b = k * row, (k ^ x) * row
            flip = odd(k & z)
            if real:
                if flip:
                    a, b = b, a
                ur, ui = load_pair(psi, a)
                vr, vi = load_pair(psi, b)
                store_pair(psi, a, minus(c, ur, s, vr), minus(c, ui, s, vi))
                store_pair(psi, b, plus(c, vr, s, ur), plus(c, vi, s, ui))
            else:
                g = negative if flip else s
                ur, ui = load_pair(psi, a)
                vr, vi = load_pair(psi, b)
                store_pair(psi, a, plus(c, ur, g, vi), minus(c, ui, g, vr))
                store_pair(psi, b, plus(c, vr, g, ui), minus(c, vi, g, ur))


@njit(**INNER)
def turn_back(psi, lam, size, width, x, z, c, s):
    """Undo a turn of two states, and return the overlap Re <lam| -i P |psi> of each lane."""
    pivot, row = highest(x), 2 * width
    real = odd(x & z)
    negative = -s
    found = s - s
    for high in range(0, size, 2 * pivot):
        for k in range(high, high + pivot):
            a, b = k * row, (k ^ x) * row
            flip = odd(k & z)
            if real and flip:
                a, b = b, a
            ur, ui = load_pair(psi, a)
            vr, vi = load_pair(psi, b)
            lr, li = load_pair(lam, a)
            mr, mi = load_pair(lam, b)
            if real:
                found = found + (minus(mr, ur, lr, vr) + minus(mi, ui, li, vi))
                store_pair(psi, a, plus(c, ur, s, vr), plus(c, ui, s, vi))
                store_pair(psi, b, minus(c, vr, s, ur), minus(c, vi, s, ui))
                store_pair(lam, a, plus(c, lr, s, mr), plus(c, li, s, mi))
                store_pair(lam, b, minus(c, mr, s, lr), minus(c, mi, s, li))
            else:
                g = negative if flip else s
                part = minus(lr, vi, li, vr) + minus(mr, ui, mi, ur)
                found = found - part if flip else found + part
                store_pair(psi, a, minus(c, ur, g, vi), plus(c, ui, g, vr))
                store_pair(psi, b, minus(c, vr, g, ui), plus(c, vi, g, ur))
                store_pair(lam, a, minus(c, lr, g, mi), plus(c, li, g, mr))
                store_pair(lam, b, minus(c, mr, g, li), plus(c, mi, g, lr))
    return found


@njit(**INNER)
def merges(x1: int, z1: int, x2: int, z2: int) -> bool:
    """Whether one pass can do two turns: both real, neither flips what the other reads, and different flips."""
    return odd(x1 & z1) == 1 and odd(x2 & z2) == 1 and odd(x1 & z2) == 0 and odd(x2 & z1) == 0 and x1 != x2


@njit(**INNER)
def _corner(i: int, low: int, high: int, x1: int, z1: int, x2: int, z2: int) -> int:
    """The amplitude of the i-th quartet that both words read an even number of bits of."""
    k = (i & (low - 1)) | ((i & ~(low - 1)) << 1)
    k = (k & (high - 1)) | ((k & ~(high - 1)) << 1)
    if odd(k & z1):
        k ^= x1
    if odd(k & z2):
        k ^= x2
    return k


@njit(**INNER)
def _pivots(x1: int, x2: int) -> tuple[int, int]:
    """Two bits such that each quartet k ^ {0, x1, x2, x1 ^ x2} has one member without them."""
    first = highest(x1)
    second = highest(x2 ^ x1) if x2 & first else highest(x2)
    return min(first, second), max(first, second)


@njit(**INNER)
def quartet(psi, size, width, x1, z1, c1, s1, x2, z2, c2, s2):
    """Two real turns that merge, the first one first."""
    row = 2 * width
    low, high = _pivots(x1, x2)
    for i in range(size // 4):
        k = _corner(i, low, high, x1, z1, x2, z2)
        p, q, r, t = k * row, (k ^ x1) * row, (k ^ x2) * row, (k ^ x1 ^ x2) * row
        for h in range(0, row, width):
            a, b, d, e = load(psi, p + h), load(psi, q + h), load(psi, r + h), load(psi, t + h)
            a, b = minus(c1, a, s1, b), plus(c1, b, s1, a)
            d, e = minus(c1, d, s1, e), plus(c1, e, s1, d)
            store(psi, p + h, minus(c2, a, s2, d))
            store(psi, r + h, plus(c2, d, s2, a))
            store(psi, q + h, minus(c2, b, s2, e))
            store(psi, t + h, plus(c2, e, s2, b))


@njit(**INNER)
def quartet_back(psi, lam, size, width, x1, z1, c1, s1, x2, z2, c2, s2):
    """Undo two merged turns of two states, and return both overlaps."""
    row = 2 * width
    low, high = _pivots(x1, x2)
    first, second = s1 - s1, s2 - s2
    for i in range(size // 4):
        k = _corner(i, low, high, x1, z1, x2, z2)
        p, q, r, t = k * row, (k ^ x1) * row, (k ^ x2) * row, (k ^ x1 ^ x2) * row
        for h in range(0, row, width):
            a, b, d, e = load(psi, p + h), load(psi, q + h), load(psi, r + h), load(psi, t + h)
            u, v, w, y = load(lam, p + h), load(lam, q + h), load(lam, r + h), load(lam, t + h)
            second = second + (minus(w, a, u, d) + minus(y, b, v, e))
            a, d = plus(c2, a, s2, d), minus(c2, d, s2, a)
            b, e = plus(c2, b, s2, e), minus(c2, e, s2, b)
            u, w = plus(c2, u, s2, w), minus(c2, w, s2, u)
            v, y = plus(c2, v, s2, y), minus(c2, y, s2, v)
            first = first + (minus(v, a, u, b) + minus(y, d, w, e))
            store(psi, p + h, plus(c1, a, s1, b))
            store(psi, q + h, minus(c1, b, s1, a))
            store(psi, r + h, plus(c1, d, s1, e))
            store(psi, t + h, minus(c1, e, s1, d))
            store(lam, p + h, plus(c1, u, s1, v))
            store(lam, q + h, minus(c1, v, s1, u))
            store(lam, r + h, plus(c1, w, s1, y))
            store(lam, t + h, minus(c1, y, s1, w))
    return first, second
