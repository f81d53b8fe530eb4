"""Signed permutations of the rows of a real state.

The kernel stores a state of n wires as 2 * 2**n real rows: the real parts of all amplitudes, then the
imaginary parts. Every gate whose matrix has one entry of 1, -1, i or -i in each row (X, Y, Z, S, CNOT, CZ,
CY, SWAP and all Pauli words) then moves rows and flips signs, and so does a change of the wires' order.
They are composed when a circuit is compiled, and cost one gather, or nothing, when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SignedPermutation", "identity", "monomial", "pauli_word", "wires_first"]

Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SignedPermutation:
    """The map ``new[row] = sign[row] * old[index[row]]``.

    Attributes:
        index: Where each new row comes from.
        sign: 1 or -1 for each new row.
    """

    index: Ints
    sign: Ints

    def after(self, first: SignedPermutation) -> SignedPermutation:
        """The map that does ``first`` and then this one."""
        return SignedPermutation(first.index[self.index], self.sign * first.sign[self.index])

    def inverse(self) -> SignedPermutation:
        """The map that undoes this one."""
        index = np.empty_like(self.index)
        index[self.index] = np.arange(len(index))
        return SignedPermutation(index, self.sign[index])

    @property
    def moves(self) -> bool:
        """Whether any row changes its place."""
        return not np.array_equal(self.index, np.arange(len(self.index)))

    @property
    def flips(self) -> bool:
        """Whether any sign changes."""
        return bool((self.sign < 0).any())


def identity(n: int) -> SignedPermutation:
    """The map that changes nothing, for n wires."""
    rows = np.arange(2 ** (n + 1))
    return SignedPermutation(rows, np.ones_like(rows))


def monomial(matrix: Sequence[Sequence[complex]], wires: Sequence[int], n: int) -> SignedPermutation:
    """The map of a gate whose matrix has one entry of 1, -1, i or -i in each row.

    Args:
        matrix: The gate's matrix.
        wires: The wires it acts on, the most significant first.
        n: Number of wires of the register.
    """
    entries = np.asarray(matrix, dtype=complex)
    column = np.abs(entries).argmax(1)
    power = np.round(np.angle(entries[np.arange(len(column)), column]) / (np.pi / 2)).astype(np.int64) % 4
    states = np.arange(2**n)
    shifts = [n - 1 - wire for wire in wires]
    local = sum(((states >> shift) & 1) << (len(wires) - 1 - k) for k, shift in enumerate(shifts))
    source = states.copy()
    for k, shift in enumerate(shifts):
        bit = (column[local] >> (len(wires) - 1 - k)) & 1
        source = (source & ~(1 << shift)) | (bit << shift)
    return _times_i(source, power[local])


def _times_i(source: Ints, power: Ints) -> SignedPermutation:
    """The map ``new[d] = i**power[d] * old[source[d]]`` on real and imaginary rows."""
    size = len(source)
    swaps = power % 2
    real = SignedPermutation(source + size * swaps, np.where((power == 1) | (power == 2), -1, 1))
    imaginary = SignedPermutation(source + size * (1 - swaps), np.where(power >= 2, -1, 1))
    return SignedPermutation(
        np.concatenate([real.index, imaginary.index]), np.concatenate([real.sign, imaginary.sign])
    )


def pauli_word(letters: Mapping[int, str], n: int, *, power: int = 0) -> SignedPermutation:
    """The map of ``i**power`` times a Pauli word.

    Args:
        letters: The letter X, Y or Z on each wire of the word's support.
        n: Number of wires of the register.
        power: The power of i in front.
    """
    states = np.arange(2**n)
    source, phase = states.copy(), np.full_like(states, power)
    for wire, letter in letters.items():
        bit = (states >> (n - 1 - wire)) & 1
        if letter in "XY":
            source ^= 1 << (n - 1 - wire)
        if letter == "Z":
            phase += 2 * bit
        if letter == "Y":  # the rows of Y are (0, -i) and (i, 0)
            phase += np.where(bit == 1, 1, 3)
    return _times_i(source, phase % 4)


def wires_first(wires: Sequence[int], n: int) -> SignedPermutation:
    """The map to the order in which ``wires`` are the most significant bits, the others following."""
    order = [*wires, *(wire for wire in range(n) if wire not in wires)]
    new = np.arange(2**n)
    source = np.zeros_like(new)
    for place, wire in enumerate(order):
        source |= ((new >> (n - 1 - place)) & 1) << (n - 1 - wire)
    return _times_i(source, np.zeros_like(source))
