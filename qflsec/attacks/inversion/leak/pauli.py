"""Operators as coefficients of Pauli words, and commutators with words on them.

A word on n wires is a number ``x << n | z``: bit ``n - 1 - wire`` of x says X, of z says Z, of both says Y. With
these numbers, ``P_a P_b`` is the word ``a ^ b`` up to a power of i.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Complexes", "Floats", "anticommute", "bracket", "coefficients", "word_index", "word_matrix"]

Floats = npt.NDArray[np.float64]
Complexes = npt.NDArray[np.complex128]
Ints = npt.NDArray[np.int64]


def word_index(letters: Iterable[tuple[int, str]], n: int) -> int:
    """The number of a word with these letters on these wires, and the identity elsewhere."""
    x = z = 0
    for wire, letter in letters:
        bit = 1 << (n - 1 - wire)
        x |= bit * (letter in "XY")
        z |= bit * (letter in "YZ")
    return x << n | z


def word_matrix(index: int, n: int) -> Complexes:
    """The matrix of a word.

    Shapes:
        returns: ``(2**n, 2**n)``
    """
    x, z = index >> n, index & (2**n - 1)
    columns = np.arange(2**n)
    matrix = np.zeros((2**n, 2**n), dtype=complex)
    matrix[columns ^ x, columns] = 1j ** _count(np.int64(x & z)) * (-1.0) ** _count(columns & z)
    return matrix


def coefficients(matrices: Complexes, n: int) -> Floats:
    """The coefficients ``Tr(P M) / 2**n`` of Hermitian matrices.

    Shapes:
        matrices: ``(..., 2**n, 2**n)``; returns: ``(..., 4**n)``
    """
    size = 2**n
    rows = np.arange(size)
    crossed = _count(rows[:, None] & rows[None, :])
    # Tr(i^|x&z| X^x Z^z M) = i^|x&z| sum_m (-1)^(z.m) M[m, m ^ x]
    picked = matrices[..., rows, rows ^ rows[:, None]]
    summed = picked @ ((-1.0) ** crossed)
    phases = 1j**crossed
    found: Floats = (summed * phases / size).real.reshape(*matrices.shape[:-2], size * size)
    return found


def anticommute(index: int, others: Ints, n: int) -> npt.NDArray[np.bool_]:
    """Which of the other words anticommute with this one."""
    mask = 2**n - 1
    crossed = _count(others & mask & (index >> n)) + _count((others >> n) & (index & mask))
    odd: npt.NDArray[np.bool_] = crossed % 2 == 1
    return odd


def bracket(generator: Floats, vectors: Floats, n: int) -> Floats:
    """``i [H, V]`` for an operator H and each of some operators V.

    Shapes:
        generator: ``(4**n,)``; vectors: ``(k, 4**n)``; returns: ``(k, 4**n)``
    """
    result = np.zeros_like(vectors)
    for index in np.flatnonzero(generator):
        target, factors = _table(int(index), n)
        result[:, target] += generator[index] * factors * vectors
    return result


@cache
def _table(index: int, n: int) -> tuple[Ints, Floats]:
    """Where ``i [P, .]`` takes each word, and with which factor: 2, -2 or 0."""
    mask, words = 2**n - 1, np.arange(4**n)
    xa, za, xb, zb = index >> n, index & mask, words >> n, words & mask
    target = words ^ index
    power = _count(np.int64(xa & za)) + _count(xb & zb) + 2 * _count(za & xb)
    power = (power - _count((target >> n) & (target & mask))) % 4
    return target, np.where(power == 1, -2.0, np.where(power == 3, 2.0, 0.0))


def _count(bits: npt.NDArray[Any] | np.int64) -> Ints:
    return np.asarray(np.bitwise_count(bits), dtype=np.int64)
