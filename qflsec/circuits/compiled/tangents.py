"""Passes over a state and its tangent: how it moves when the angles move in a given direction.

A tangent is stored as a state is. A pass exp(h K) whose half angle h moves by d maps the tangent t of a state to
exp(h K) t + d K exp(h K) psi, where K is -i P. Undone, it takes d K psi off first. The tangent of lam, which goes
back with psi, is undone alike.
"""

from __future__ import annotations

from numba import njit

from qflsec.circuits.compiled.passes import INNER, highest, odd
from qflsec.circuits.compiled.simd import load, splat, store

__all__ = ["moved_phases", "moved_phases_back", "moved_turn", "moved_turn_back"]


@njit(**INNER)
def _pair(psi, tan, a, b, width, real, c, s, d):
    """A turn of one pair of amplitudes; where it is not real, s and d have the pair's sign."""
    ur, ui, vr, vi = load(psi, a), load(psi, a + width), load(psi, b), load(psi, b + width)
    fr, fi, gr, gi = load(tan, a), load(tan, a + width), load(tan, b), load(tan, b + width)
    if real:
        ur, vr = c * ur - s * vr, c * vr + s * ur
        ui, vi = c * ui - s * vi, c * vi + s * ui
        fr, gr = c * fr - s * gr - d * vr, c * gr + s * fr + d * ur
        fi, gi = c * fi - s * gi - d * vi, c * gi + s * fi + d * ui
    else:
        ur, vi = c * ur + s * vi, c * vi - s * ur
        ui, vr = c * ui - s * vr, c * vr + s * ui
        fr, gi = c * fr + s * gi + d * vi, c * gi - s * fr - d * ur
        fi, gr = c * fi - s * gr - d * vr, c * gr + s * fi + d * ui
    store(psi, a, ur)
    store(psi, a + width, ui)
    store(psi, b, vr)
    store(psi, b + width, vi)
    store(tan, a, fr)
    store(tan, a + width, fi)
    store(tan, b, gr)
    store(tan, b + width, gi)


@njit(**INNER)
def _pair_back(psi, tan, a, b, width, real, c, s, d):
    """Undo :func:`_pair`."""
    ur, ui, vr, vi = load(psi, a), load(psi, a + width), load(psi, b), load(psi, b + width)
    fr, fi, gr, gi = load(tan, a), load(tan, a + width), load(tan, b), load(tan, b + width)
    if real:
        fr, gr, fi, gi = fr + d * vr, gr - d * ur, fi + d * vi, gi - d * ui
        ur, vr = c * ur + s * vr, c * vr - s * ur
        ui, vi = c * ui + s * vi, c * vi - s * ui
        fr, gr = c * fr + s * gr, c * gr - s * fr
        fi, gi = c * fi + s * gi, c * gi - s * fi
    else:
        fr, gi, fi, gr = fr - d * vi, gi + d * ur, fi + d * vr, gr - d * ui
        ur, vi = c * ur - s * vi, c * vi + s * ur
        ui, vr = c * ui + s * vr, c * vr - s * ui
        fr, gi = c * fr - s * gi, c * gi + s * fr
        fi, gr = c * fi + s * gr, c * gr - s * fi
    store(psi, a, ur)
    store(psi, a + width, ui)
    store(psi, b, vr)
    store(psi, b + width, vi)
    store(tan, a, fr)
    store(tan, a + width, fi)
    store(tan, b, gr)
    store(tan, b + width, gi)


@njit(**INNER)
def moved_turn(psi, tan, size, width, x, z, c, s, d):
    """A turn of a state and its tangent."""
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
    ur, ui, vr, vi = load(psi, a), load(psi, a + width), load(psi, b), load(psi, b + width)
    lr, li, mr, mi = load(lam, a), load(lam, a + width), load(lam, b), load(lam, b + width)
    if real:
        return (mr * ur - lr * vr) + (mi * ui - li * vi)
    return (lr * vi - li * vr) + (mr * ui - mi * ur)


@njit(**INNER)
def moved_turn_back(psi, tan, lam, moved, size, width, x, z, c, s, d):
    """Undo a turn of both states and their tangents, and return how the overlap of each lane moves."""
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
    for k in range(size):
        p = 2 * width * k
        if lanewise:
            c, s = load(cosines, start + k * width), load(sines, start + k * width)
        else:
            c, s = splat(cosines[start + k]), splat(sines[start + k])
        d = load(angles, k * width)
        u, v, f, g = load(psi, p), load(psi, p + width), load(tan, p), load(tan, p + width)
        u, v = c * u + s * v, c * v - s * u
        store(psi, p, u)
        store(psi, p + width, v)
        store(tan, p, c * f + s * g + d * v)
        store(tan, p + width, c * g - s * f - d * u)


@njit(**INNER)
def moved_phases_back(psi, tan, lam, moved, overlaps, size, width, cosines, sines, start, lanewise, angles):
    """Undo a diagonal; row k of ``overlaps`` becomes how Im conj(lam[k]) psi[k] moves."""
    for k in range(size):
        p = 2 * width * k
        if lanewise:
            c, s = load(cosines, start + k * width), load(sines, start + k * width)
        else:
            c, s = splat(cosines[start + k]), splat(sines[start + k])
        d = load(angles, k * width)
        u, v, f, g = load(psi, p), load(psi, p + width), load(tan, p), load(tan, p + width)
        a, b, m, n = load(lam, p), load(lam, p + width), load(moved, p), load(moved, p + width)
        store(overlaps, k * width, (m * v - n * u) + (a * g - b * f))
        f, g, m, n = f - d * v, g + d * u, m - d * b, n + d * a
        store(psi, p, c * u - s * v)
        store(psi, p + width, c * v + s * u)
        store(tan, p, c * f - s * g)
        store(tan, p + width, c * g + s * f)
        store(lam, p, c * a - s * b)
        store(lam, p + width, c * b + s * a)
        store(moved, p, c * m - s * n)
        store(moved, p + width, c * n + s * m)
