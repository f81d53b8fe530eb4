"""Pauli words as bit masks, and the Clifford frame that moves constant gates to the end of a circuit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import numpy.typing as npt

from qflsec.circuits.errors import CircuitError
from qflsec.circuits.gates import Rows

__all__ = ["CliffordFrame", "PauliWord", "clifford_images"]

Matrix = npt.NDArray[np.complex128]
_X = np.array([[0, 1], [1, 0]], complex)
_Z = np.array([[1, 0], [0, -1]], complex)


@dataclass(frozen=True)
class PauliWord:
    """The operator ``i**power X^x Z^z``; bit 0 of a mask is the last wire, as in the index of a basis state.

    Attributes:
        x: The wires that the word flips.
        z: The wires whose sign it reads.
        power: The power of i, modulo 4. A word is Hermitian if it is even exactly where ``x & z`` has an even
            number of bits.
    """

    x: int
    z: int
    power: int

    def times(self, other: PauliWord) -> PauliWord:
        """The product: this word after the other one."""
        crossed = (self.z & other.x).bit_count()
        return PauliWord(self.x ^ other.x, self.z ^ other.z, (self.power + other.power + 2 * crossed) % 4)

    def commutes(self, other: PauliWord) -> bool:
        """Whether the two commute."""
        return ((self.x & other.z).bit_count() + (self.z & other.x).bit_count()) % 2 == 0

    @classmethod
    def of(cls, letters: Iterable[tuple[int, str]], n: int) -> PauliWord:
        """The word with these letters on these wires of ``n``; Y = i X Z."""
        x = z = ys = 0
        for wire, letter in letters:
            bit = 1 << (n - 1 - wire)
            x |= bit if letter in "XY" else 0
            z |= bit if letter in "YZ" else 0
            ys += letter == "Y"
        return cls(x, z, ys % 4)


@lru_cache(maxsize=64)
def clifford_images(matrix: Rows) -> tuple[PauliWord, ...]:
    """``G^dagger X_j G`` and then ``G^dagger Z_j G`` of each wire j of a Clifford gate G.

    Raises:
        CircuitError: The gate is no Clifford gate.
    """
    gate = np.asarray(matrix, complex)
    wires = len(gate).bit_length() - 1
    found = []
    for letter in "XZ":
        for wire in range(wires):
            word = PauliWord.of([(wire, letter)], wires)
            found.append(_read(gate.conj().T @ _matrix(word, wires) @ gate, wires))
    return tuple(found)


def _matrix(word: PauliWord, n: int) -> Matrix:
    result = np.array([[1j**word.power]], complex)
    for bit in reversed(range(n)):
        factor = np.eye(2, dtype=complex)
        if word.x >> bit & 1:
            factor = factor @ _X
        if word.z >> bit & 1:
            factor = factor @ _Z
        result = np.kron(result, factor)
    return result


def _read(matrix: Matrix, n: int) -> PauliWord:
    for x, z, power in product(range(2**n), range(2**n), range(4)):
        word = PauliWord(x, z, power)
        if np.allclose(matrix, _matrix(word, n), rtol=0, atol=1e-9):
            return word
    raise CircuitError("not a Clifford gate", got=matrix.tolist())


class CliffordFrame:
    """The Clifford gates so far, as the map of words Q -> C^dagger Q C.

    A rotation about Q after the gates C is C times a rotation about C^dagger Q C, so that C can wait until the
    observables, where the same map takes it away.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._x = [PauliWord(1 << (n - 1 - wire), 0, 0) for wire in range(n)]
        self._z = [PauliWord(0, 1 << (n - 1 - wire), 0) for wire in range(n)]

    def apply(self, matrix: Rows, wires: Sequence[int]) -> None:
        """Take the next gate."""
        images = clifford_images(matrix)
        local = [self._x[wire] for wire in wires], [self._z[wire] for wire in wires]
        mapped = [self._image(image, *local) for image in images]
        for position, wire in enumerate(wires):
            self._x[wire], self._z[wire] = mapped[position], mapped[len(wires) + position]

    def image(self, word: PauliWord) -> PauliWord:
        """``C^dagger`` word ``C``."""
        return self._image(word, self._x, self._z)

    @staticmethod
    def _image(word: PauliWord, xs: Sequence[PauliWord], zs: Sequence[PauliWord]) -> PauliWord:
        result, count = PauliWord(0, 0, word.power), len(xs)
        # X^x Z^z is a product over the wires, whose factors commute between wires
        for wire in range(count):
            bit = count - 1 - wire
            if word.x >> bit & 1:
                result = result.times(xs[wire])
            if word.z >> bit & 1:
                result = result.times(zs[wire])
        return result
