"""The ring of integer polynomials modulo X^n + 1 and a prime: the number-theoretic transform.

Values are kept in bit-reversed order, as Microsoft SEAL keeps them: entry ``i`` is the polynomial's value at
``psi^(2 r(i) + 1)``, where ``psi`` is the smallest primitive root of order ``2n`` and ``r`` reverses bits.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError

__all__ = ["Integers", "Negacyclic", "negacyclic"]

Integers = npt.NDArray[Any]
"""``int64`` for primes below 2^31, Python integers above."""


class Negacyclic:
    """Transforms modulo one prime.

    Args:
        degree: The ring's degree ``n``, a power of two.
        prime: The prime, 1 modulo ``2n``.

    Raises:
        ConfigError: The prime does not split the ring.

    Source:
        Longa and Naehrig, CANS 2016, eprint 2016/504, algorithms 1 and 2.
    """

    def __init__(self, degree: int, prime: int) -> None:
        if (prime - 1) % (2 * degree):
            raise ConfigError("a prime does not split the ring", got=prime, expected=f"1 modulo {2 * degree}")
        self.degree, self.prime = degree, prime
        self.dtype: type[Any] = np.int64 if prime < 1 << 31 else object
        root = _smallest_root(degree, prime)
        self._forward = self._powers(root)
        self._inverse = self._powers(pow(root, -1, prime))
        self._scale = pow(degree, -1, prime)

    def _powers(self, root: int) -> Integers:
        """Powers of a root in bit-reversed order."""
        plain = [1]
        for _ in range(self.degree - 1):
            plain.append(plain[-1] * root % self.prime)
        bits = self.degree.bit_length() - 1
        return np.array([plain[int(f"{i:0{bits}b}"[::-1], 2)] for i in range(self.degree)], dtype=self.dtype)

    def values(self, coefficients: Integers) -> Integers:
        """From coefficients to values.

        Shapes:
            coefficients: ``(n,)``; returns: ``(n,)``, from 0 to the prime less 1
        """
        found = coefficients.astype(self.dtype) % self.prime
        groups = 1
        while groups < self.degree:
            pairs = found.reshape(groups, 2, -1)
            turned = pairs[:, 1] * self._forward[groups : 2 * groups, None] % self.prime
            found = np.stack([pairs[:, 0] + turned, pairs[:, 0] - turned], axis=1).reshape(-1) % self.prime
            groups *= 2
        return found

    def coefficients(self, values: Integers) -> Integers:
        """From values to coefficients.

        Shapes:
            values: ``(n,)``; returns: ``(n,)``, from 0 to the prime less 1
        """
        found = values.astype(self.dtype) % self.prime
        groups = self.degree // 2
        while groups >= 1:
            pairs = found.reshape(groups, 2, -1)
            turned = (pairs[:, 0] - pairs[:, 1]) * self._inverse[groups : 2 * groups, None] % self.prime
            found = np.stack([(pairs[:, 0] + pairs[:, 1]) % self.prime, turned], axis=1).reshape(-1)
            groups //= 2
        scaled: Integers = found * self._scale % self.prime
        return scaled

    def centred(self, residues: Integers) -> Integers:
        """The representatives nearest to zero."""
        return np.where(residues > self.prime // 2, residues - self.prime, residues)


@cache
def negacyclic(degree: int, prime: int) -> Negacyclic:
    """The transforms modulo one prime, made once."""
    return Negacyclic(degree, prime)


def _smallest_root(degree: int, prime: int) -> int:
    """The smallest element of order ``2 degree``."""
    for base in range(2, 1000):
        root = pow(base, (prime - 1) // (2 * degree), prime)
        if pow(root, degree, prime) == prime - 1:
            break
    square, smallest, current = root * root % prime, root, root
    for _ in range(degree):
        current = current * square % prime
        smallest = min(smallest, current)
    return smallest
