"""Passes over a state and its tangent: how it moves when the angles move in a given direction.

A tangent is stored as a state is. A pass exp(h K) whose half angle h moves by d maps the tangent t of a state to
exp(h K) t + d K exp(h K) psi, where K is -i P. Undone, it takes d K psi off first. The tangent of lam, which goes
back with psi, is undone alike.
"""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.passes import INNER, highest, odd, row_wave
from qflsec.circuits.compiled.pointers import small
from qflsec.circuits.compiled.simd import fma, fnma, load, load_pair, minus, plus, store, store_pair

__all__ = ["moved_phases", "moved_phases_back", "moved_turn", "moved_turn_back"]


@njit(**INNER)
def _pair(psi, tan, a, b, width, real, c, s, d):
    """A turn of one pair of amplitudes; where it is not real, s and d have the pair's sign."""
    ur, ui = load_pair(psi, a)
    vr, vi = load_pair(psi, b)
    fr, fi = load_pair(tan, a)
    gr, gi = load_pair(tan, b)
    if real:
        ur, vr = minus(c, ur, s, vr), plus(c, vr, s, ur)
        ui, vi = minus(c, ui, s, vi), plus(c, vi, s, ui)
        fr, gr = fnma(d, vr, minus(c, fr, s, gr)), fma(d, ur, plus(c, gr, s, fr))
        fi, gi = fnma(d, vi, minus(c, fi, s, gi)), fma(d, ui, plus(c, gi, s, fi))
    else:
        ur, vi = plus(c, ur, s, vi), minus(c, vi, s, ur)
        ui, vr = minus(c, ui, s, vr), plus(c, vr, s, ui)
        fr, gi = fma(d, vi, plus(c, fr, s, gi)), fnma(d, ur, minus(c, gi, s, fr))
        fi, gr = fnma(d, vr, minus(c, fi, s, gr)), fma(d, ui, plus(c, gr, s, fi))
    store_pair(psi, a, ur, ui)
    store_pair(psi, b, vr, vi)
    store_pair(tan, a, fr, fi)
    store_pair(tan, b, gr, gi)


@njit(**INNER)
def _pair_back(psi, tan, a, b, width, real, c, s, d):
    """Undo :func:`_pair`."""
    ur, ui = load_pair(psi, a)
    vr, vi = load_pair(psi, b)
    fr, fi = load_pair(tan, a)
    gr, gi = load_pair(tan, b)
    if real:
        fr, gr, fi, gi = fma(d, vr, fr), fnma(d, ur, gr), fma(d, vi, fi), fnma(d, ui, gi)
        ur, vr = plus(c, ur, s, vr), minus(c, vr, s, ur)
        ui, vi = plus(c, ui, s, vi), minus(c, vi, s, ui)
        fr, gr = plus(c, fr, s, gr), minus(c, gr, s, fr)
        fi, gi = plus(c, fi, s, gi), minus(c, gi, s, fi)
    else:
        fr, gi, fi, gr = fnma(d, vi, fr), fma(d, ur, gi), fma(d, vr, fi), fnma(d, ui, gr)
        ur, vi = minus(c, ur, s, vi), plus(c, vi, s, ur)
        ui, vr = plus(c, ui, s, vr), minus(c, vr, s, ui)
        fr, gi = minus(c, fr, s, gi), plus(c, gi, s, fr)
        fi, gr = plus(c, fi, s, gr), minus(c, gr, s, fi)
    store_pair(psi, a, ur, ui)
    store_pair(psi, b, vr, vi)
    store_pair(tan, a, fr, fi)
    store_pair(tan, b, gr, gi)


@njit(**INNER)
def moved_turn(psi, tan, size, width, x, z, c, s, d):
    """A turn of a state and its tangent."""
    small()
    pivot, row, real = highest(x), 2 * width, odd(x & z)
    for high in range(0, size, 2 * pivot):
        for k in range(high, high + pivot):
            a, b = k * row, (k ^ x) * row
            if not odd(k & z):
                _pair(psi, tan, a, b, width, real, c, s, d)
            elif real:
                _pair(psi, tan, b, a, width, real, c, s, d)
            else:
                _pair(psi, tan, a, b, width, real, c, -s, -d)


@njit(**INNER)
def _overlap(lam, psi, a, b, width, real):
    """Re <lam| K |psi> of one pair."""
    ur, ui = load_pair(psi, a)
    vr, vi = load_pair(psi, b)
    lr, li = load_pair(lam, a)
    mr, mi = load_pair(lam, b)
    if real:
        return minus(mr, ur, lr, vr) + minus(mi, ui, li, vi)
    return minus(lr, vi, li, vr) + minus(mr, ui, mi, ur)


@njit(**INNER)
def moved_turn_back(psi, tan, lam, moved, size, width, x, z, c, s, d):
    """Undo a turn of both states and their tangents, and return how the overlap of each lane moves."""
    small()
    pivot, row, real = highest(x), 2 * width, odd(x & z)
    found = s - s
    for high in range(0, size, 2 * pivot):
        for k in range(high, high + pivot):
            a, b, g, e = k * row, (k ^ x) * row, s, d
            flip = odd(k & z)
            if flip and real:
                a, b = b, a
            part = _overlap(moved, psi, a, b, width, real) + _overlap(lam, tan, a, b, width, real)
            if flip and not real:
                g, e, part = -s, -d, -part
            found = found + part
            _pair_back(psi, tan, a, b, width, real, c, g, e)
            _pair_back(lam, moved, a, b, width, real, c, g, e)
    return found


@njit(**INNER)
def moved_phases(psi, tan, size, width, cosines, sines, start, lanewise, angles):
    """A diagonal of a state and its tangent; ``angles`` holds how each row's angle moves, for all lanes."""
    small()
    for k in range(size):
        p = 2 * width * k
        c, s = row_wave(cosines, sines, start, k, width, lanewise)
        d = load(angles, k * width)
        u, v = load_pair(psi, p)
        f, g = load_pair(tan, p)
        u, v = plus(c, u, s, v), minus(c, v, s, u)
        store_pair(psi, p, u, v)
        store_pair(tan, p, fma(d, v, plus(c, f, s, g)), fnma(d, u, minus(c, g, s, f)))


@njit(**INNER)
def moved_phases_back(psi, tan, lam, moved, overlaps, size, width, cosines, sines, start, lanewise, angles):
    """Undo a diagonal; row k of ``overlaps`` becomes how Im conj(lam[k]) psi[k] moves."""
    small()
    for k in range(size):
        p = 2 * width * k
        c, s = row_wave(cosines, sines, start, k, width, lanewise)
        d = load(angles, k * width)
        u, v = load_pair(psi, p)
        f, g = load_pair(tan, p)
        a, b = load_pair(lam, p)
        m, n = load_pair(moved, p)
        store(overlaps, k * width, minus(m, v, n, u) + minus(a, g, b, f))
        f, g, m, n = fnma(d, v, f), fma(d, u, g), fnma(d, b, m), fma(d, a, n)
        store_pair(psi, p, minus(c, u, s, v), plus(c, v, s, u))
        store_pair(tan, p, minus(c, f, s, g), plus(c, g, s, f))
        store_pair(lam, p, minus(c, a, s, b), plus(c, b, s, a))
        store_pair(moved, p, minus(c, m, s, n), plus(c, n, s, m))
