"""Exact sampling from secret bytes: integers, coins, and the discrete Gaussian.

Everything here is exact on rational parameters: no floating point decides a draw. The running time depends on
what is drawn, so that whoever can time a party learns something of its noise.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from qflsec.base import Secrets

__all__ = ["SecretIntegers", "centred_binomial", "discrete_gaussian", "ternary", "uniform_words"]

_BUFFER_BYTES = 4096
_CENTRED_BINOMIAL_BYTES = 6
_COINS = 21


class SecretIntegers:
    """Uniform integers and biased coins from a source of secret bytes.

    Args:
        secrets: The source.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._buffer = b""
        self._used = 0

    def _take(self, n_bytes: int) -> int:
        if self._used + n_bytes > len(self._buffer):
            self._buffer, self._used = self._secrets.draw(max(_BUFFER_BYTES, n_bytes)), 0
        part = self._buffer[self._used : self._used + n_bytes]
        self._used += n_bytes
        return int.from_bytes(part, "little")

    def below(self, n: int) -> int:
        """A uniform integer from 0 to ``n - 1``, by rejection."""
        bits = (n - 1).bit_length()
        n_bytes = -(-bits // 8)
        while True:
            drawn = self._take(n_bytes) >> (8 * n_bytes - bits)
            if drawn < n:
                return drawn

    def coin(self, numerator: int, denominator: int) -> bool:
        """True with probability ``numerator / denominator``."""
        return self.below(denominator) < numerator

    def exponential_coin(self, numerator: int, denominator: int) -> bool:
        """True with probability ``exp(-numerator / denominator)``.

        Source:
            Canonne, Kamath and Steinke: The discrete Gaussian for differential privacy, NeurIPS 2020,
            arXiv:2004.00010, algorithm 1.
        """
        while numerator > denominator:
            if not self._small_coin(1, 1):
                return False
            numerator -= denominator
        return self._small_coin(numerator, denominator)

    def _small_coin(self, numerator: int, denominator: int) -> bool:
        k = 1
        while self.coin(numerator, denominator * k):
            k += 1
        return k % 2 == 1


def discrete_gaussian(source: SecretIntegers, variance: Fraction, n: int) -> list[int]:
    """Integers with probability proportional to ``exp(-k^2 / (2 variance))``.

    Args:
        source: Secret integers.
        variance: The parameter; the true variance is not larger.
        n: How many.

    Source:
        Canonne, Kamath and Steinke, arXiv:2004.00010 (2020), algorithm 3.
    """
    width = math.isqrt(variance.numerator // variance.denominator) + 1
    top, bottom = variance.numerator, variance.denominator
    found: list[int] = []
    while len(found) < n:
        drawn = _discrete_laplace(source, width)
        # exp(-(|y| - variance / width)^2 / (2 variance)) with integers alone
        distance = abs(drawn) * width * bottom - top
        if source.exponential_coin(distance * distance, 2 * top * bottom * width * width):
            found.append(drawn)
    return found


def _discrete_laplace(source: SecretIntegers, width: int) -> int:
    """An integer with probability proportional to ``exp(-|k| / width)`` (algorithm 2 of the same paper)."""
    while True:
        low = source.below(width)
        if not source.exponential_coin(low, width):
            continue
        high = 0
        while source.exponential_coin(1, 1):
            high += 1
        magnitude = low + width * high
        negative = source.coin(1, 2)
        if magnitude or not negative:
            return -magnitude if negative else magnitude


def uniform_words(secrets: Secrets, n: int, bits: int) -> list[int]:
    """Uniform integers of ``bits`` bits, centred on zero: from ``-2^(bits-1)`` to ``2^(bits-1) - 1``."""
    n_bytes = -(-bits // 8)
    drawn = secrets.draw(n * n_bytes)
    half, spare = 1 << (bits - 1), 8 * n_bytes - bits
    return [
        (int.from_bytes(drawn[i : i + n_bytes], "little") >> spare) - half
        for i in range(0, n * n_bytes, n_bytes)
    ]


def ternary(secrets: Secrets, n: int) -> npt.NDArray[np.int64]:
    """Uniform in {-1, 0, 1}, by rejection of bytes.

    Shapes:
        returns: ``(n,)``
    """
    found = np.zeros(0, dtype=np.uint8)
    while found.size < n:
        drawn = np.frombuffer(secrets.draw(n), dtype=np.uint8)
        found = np.concatenate([found, drawn[drawn < 255] % 3])
    return found[:n].astype(np.int64) - 1


def centred_binomial(secrets: Secrets, n: int) -> npt.NDArray[np.int64]:
    """The difference of two sums of 21 fair bits: standard deviation 3.24, as the libraries draw errors.

    Shapes:
        returns: ``(n,)``
    """
    drawn = np.frombuffer(secrets.draw(n * _CENTRED_BINOMIAL_BYTES), dtype=np.uint8)
    bits = np.unpackbits(drawn.reshape(n, _CENTRED_BINOMIAL_BYTES), axis=1)
    found: npt.NDArray[np.int64] = bits[:, :_COINS].sum(axis=1, dtype=np.int64) - bits[
        :, _COINS : 2 * _COINS
    ].sum(axis=1, dtype=np.int64)
    return found
