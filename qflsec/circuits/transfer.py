"""Pauli transfer matrices: a density operator as the real vector of its Pauli expectation values.

Entry Q of the vector is Tr(Q rho), the words being counted in base 4 (I, X, Y, Z), wire 0 first. A channel
is a real matrix. One that only moves entries and scales them (a Clifford gate, a Pauli channel, a change of
the wires' order) is a :class:`WeightedPermutation`; they compose when a circuit is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product

import numpy as np
import numpy.typing as npt

__all__ = [
    "PAULIS",
    "Real",
    "WeightedPermutation",
    "clifford",
    "diagonal",
    "identity",
    "rotation_parts",
    "transfer_matrix",
    "wires_first",
    "word_number",
    "word_rotation",
]

Ints = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

PAULIS = {
    "I": np.eye(2, dtype=complex),
    "X": np.array([[0, 1], [1, 0]], complex),
    "Y": np.array([[0, -1j], [1j, 0]], complex),
    "Z": np.array([[1, 0], [0, -1]], complex),
}
_LETTERS = "IXYZ"
_ROUNDING = 1e-10


def _products() -> tuple[Ints, npt.NDArray[np.complex128]]:
    """For the letters P and Q: the letter and the phase of P Q."""
    letters, phases = np.zeros((4, 4), np.int64), np.zeros((4, 4), complex)
    for p, q, k in product(range(4), repeat=3):
        overlap = np.trace(PAULIS[_LETTERS[k]] @ PAULIS[_LETTERS[p]] @ PAULIS[_LETTERS[q]]) / 2
        if abs(overlap) > 0.5:
            letters[p, q], phases[p, q] = k, overlap
    return letters, phases


_LETTER, _PHASE = _products()


@dataclass(frozen=True, eq=False)
class WeightedPermutation:
    """The map ``new[row] = weight[row] * old[index[row]]``.

    Attributes:
        index: Where each new row comes from.
        weight: The factor of each new row.
    """

    index: Ints
    weight: Real

    def after(self, first: WeightedPermutation) -> WeightedPermutation:
        """The map that does ``first`` and then this one."""
        return WeightedPermutation(first.index[self.index], self.weight * first.weight[self.index])

    @property
    def moves(self) -> bool:
        """Whether any row changes its place."""
        return not np.array_equal(self.index, np.arange(len(self.index)))

    @property
    def scales(self) -> bool:
        """Whether any row changes its value."""
        return bool((self.weight != 1).any())


def identity(n: int) -> WeightedPermutation:
    """The map that changes nothing, for n wires."""
    return WeightedPermutation(np.arange(4**n), np.ones(4**n))


def transfer_matrix(kraus: Sequence[npt.NDArray[np.complex128]]) -> Real:
    """The matrix of a channel on its own wires: entry (P, Q) is Tr(P K(Q)) / 2**k."""
    wires = len(kraus[0]).bit_length() - 1
    words = [reduce(np.kron, [PAULIS[c] for c in word]) for word in product(_LETTERS, repeat=wires)]
    images = [sum(k @ word @ k.conj().T for k in kraus) for word in words]
    matrix: Real = np.array([[np.trace(p @ image).real for image in images] for p in words]) / 2**wires
    matrix[np.abs(matrix) < 1e-15] = 0.0
    return matrix


def rotation_parts(axis: str) -> tuple[Real, Real, Real]:
    """The matrices whose sum with 1, cos a and sin a is that of exp(-i a P / 2) on one wire."""
    kept = np.diag([1.0 if letter in ("I", axis) else 0.0 for letter in _LETTERS])
    quarter = transfer_matrix([(PAULIS["I"] - 1j * PAULIS[axis]) * np.sqrt(0.5)])
    return kept, np.eye(4) - kept, np.round(quarter - kept)


def word_rotation(letters: Mapping[int, str], n: int) -> tuple[Real, WeightedPermutation]:
    """What a rotation about a Pauli word P mixes: Tr(Q rho) turns with Tr(i P Q rho) where they anticommute.

    Returns:
        1 for the rows that turn and 0 for the others; and the map that goes with the sine.
    """
    digits, phase = _digits(n), np.full(4**n, 1j)
    for wire, letter in letters.items():
        p = _LETTERS.index(letter)
        phase = phase * _PHASE[p, digits[wire]]
        digits[wire] = _LETTER[p, digits[wire]]
    turns = np.abs(phase.real) > 0.5
    index = np.where(turns, _numbers(digits), np.arange(4**n))
    return turns.astype(np.float64), WeightedPermutation(index, np.where(turns, np.round(phase.real), 0.0))


def clifford(unitary: npt.NDArray[np.complex128], wires: Sequence[int], n: int) -> WeightedPermutation:
    """The map of a gate that takes Pauli words to Pauli words.

    Raises:
        ValueError: The gate is no Clifford gate.
    """
    matrix = transfer_matrix([unitary])
    column = np.abs(matrix).argmax(1)
    value = matrix[np.arange(len(column)), column]
    # a small angle shows in the other words in first order, and in the word itself only by its square
    if (np.abs(matrix).sum(1) - np.abs(value)).max() > _ROUNDING:
        raise ValueError("not a Clifford gate")
    digits, local = _digits(n), _local(wires, n)
    for place, wire in enumerate(wires):
        digits[wire] = column[local] // 4 ** (len(wires) - 1 - place) % 4
    return WeightedPermutation(_numbers(digits), np.round(value)[local])


def diagonal(factors: Real, wires: Sequence[int], n: int) -> WeightedPermutation:
    """The map that scales each word by the factor of its letters on ``wires``."""
    return WeightedPermutation(np.arange(4**n), factors[_local(wires, n)])


def wires_first(wires: Sequence[int], n: int) -> tuple[WeightedPermutation, WeightedPermutation]:
    """The map to the order in which ``wires`` come first, the others following, and its inverse."""
    order = [*wires, *(wire for wire in range(n) if wire not in wires)]
    index = np.arange(4**n).reshape([4] * n).transpose(order).ravel()
    one = np.ones(4**n)
    return WeightedPermutation(index, one), WeightedPermutation(np.argsort(index), one)


def word_number(word: str) -> int:
    """The row of a Pauli word."""
    return int("".join(str(_LETTERS.index(letter)) for letter in word), 4)


def _digits(n: int) -> Ints:
    return np.indices([4] * n).reshape(n, -1)


def _numbers(digits: Ints) -> Ints:
    numbers: Ints = np.ravel_multi_index(tuple(digits), (4,) * len(digits)).astype(np.int64)
    return numbers


def _local(wires: Sequence[int], n: int) -> Ints:
    return _numbers(_digits(n)[list(wires)])
