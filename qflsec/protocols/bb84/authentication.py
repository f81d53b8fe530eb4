"""Information-theoretic authentication of the public discussion (Wegman and Carter).

A tag is a polynomial hash over GF(2^128), in the bit order of GHASH, encrypted with 128 fresh secret bits.
The hash key is used again; a pad never is. Whatever Eve's computing power, she passes an altered message
with probability at most (L + 1) / 2^128, where L is the message's length in blocks of 16 bytes. A hash keyed
by a block cipher or HMAC would rest on a computational assumption instead, and is not offered.

The first round needs a key shared beforehand: QKD makes a long key from a short one, not from none.
"""

from __future__ import annotations

import hmac

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, ProtocolAbort
from qflsec.protocols.bb84.key_pool import BLOCK_BYTES, SPEAKERS, TAG_BITS, KeyPool
from qflsec.protocols.bb84.transcript import PartyName

__all__ = ["BLOCK_BYTES", "TAG_BITS", "Authenticator", "PolynomialHash", "forgery_bound"]

_REDUCTION = 0xE1 << 120
_LANES = 256


def _times_x(a: int) -> int:
    return (a >> 1) ^ (_REDUCTION if a & 1 else 0)


def _multiply(a: int, b: int) -> int:
    """Product in GF(2^128); the most significant bit of the integer is the coefficient of x^0."""
    product = 0
    for shift in range(127, -1, -1):
        if a >> shift & 1:
            product ^= b
        b = _times_x(b)
    return product


def _power(a: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = _multiply(result, a)
        a = _multiply(a, a)
        exponent >>= 1
    return result


class _FixedMultiplier:
    """Multiplies many elements by one: a table for each byte of the operand (Shoup's method)."""

    def __init__(self, factor: int) -> None:
        basis = np.empty((BLOCK_BYTES, 8, 2), dtype=np.uint64)
        for bit in range(8 * BLOCK_BYTES):
            basis[bit // 8, bit % 8] = np.frombuffer(factor.to_bytes(BLOCK_BYTES, "big"), dtype=np.uint64)
            factor = _times_x(factor)
        tables = np.zeros((BLOCK_BYTES, 256, 2), dtype=np.uint64)
        for bit in range(8):
            width = 1 << bit
            tables[:, width : 2 * width] = tables[:, :width] ^ basis[:, 7 - bit, None]
        self._tables = tables

    def __call__(self, elements: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        """Products of elements given as rows of 16 bytes, seen as two words."""
        octets = elements.view(np.uint8)
        product: npt.NDArray[np.uint64] = self._tables[0, octets[:, 0]]
        for byte in range(1, BLOCK_BYTES):
            product ^= self._tables[byte, octets[:, byte]]
        return product


class PolynomialHash:
    """The polynomial hash of a message at a secret point: GHASH with the message as associated data.

    Args:
        key: 16 secret, uniform bytes: the point H.

    Source:
        Wegman and Carter, J. Comput. Syst. Sci. 22, 265 (1981); den Boer, J. Comput. Secur. 2, 65 (1993);
        NIST SP 800-38D, algorithm 2, for bit order and padding.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != BLOCK_BYTES:
            raise ConfigError("a hash key of the wrong length", got=f"{len(key)} bytes", expected="16 bytes")
        self._point = int.from_bytes(key, "big")
        self._by_lane: _FixedMultiplier | None = None

    def __call__(self, message: bytes) -> bytes:
        """The 16 bytes sum_i m_i H^(L + 2 - i), where the last block m_(L+1) is the message's length.

        The length block makes the padding with zeros injective.
        """
        length = (8 * len(message)).to_bytes(8, "big") + bytes(8)
        padded = message + bytes(-len(message) % BLOCK_BYTES) + length
        blocks = len(padded) // BLOCK_BYTES
        if blocks > 2 * _LANES:
            # Zero blocks in front do not change the value; they fill the last row of lanes.
            padded = bytes(BLOCK_BYTES * (-blocks % _LANES)) + padded
            padded = self._fold(np.frombuffer(padded, dtype=np.uint64).reshape(-1, _LANES, 2))
        value = 0
        for at in range(0, len(padded), BLOCK_BYTES):
            value = _multiply(value ^ int.from_bytes(padded[at : at + BLOCK_BYTES], "big"), self._point)
        return value.to_bytes(BLOCK_BYTES, "big")

    def _fold(self, rows: npt.NDArray[np.uint64]) -> bytes:
        """Horner's rule in H^lanes on every lane at once; what is left is one row."""
        if self._by_lane is None:
            self._by_lane = _FixedMultiplier(_power(self._point, _LANES))
        lanes: npt.NDArray[np.uint64] = rows[0].copy()
        for row in rows[1:]:
            lanes = self._by_lane(lanes)
            lanes ^= row
        return bytes(lanes)


def forgery_bound(n_bytes: int) -> float:
    """Probability bound that one tag accepts an altered message of at most ``n_bytes``.

    Two different messages hash to values that differ by a given amount for at most L + 1 points H.

    Source:
        Krawczyk, CRYPTO '94, theorem 6 (a pad turns an almost-xor-universal hash into a one-time MAC).
    """
    return (-(-n_bytes // BLOCK_BYTES) + 1) / 2.0**TAG_BITS


class Authenticator:
    """One party's half of the authentication: makes its tags and checks the other's.

    Args:
        pool: Its own key pool.
        name: Which party it is.

    Attributes:
        eps: Probability bound that any tag checked so far belonged to an altered message.
    """

    def __init__(self, pool: KeyPool, name: PartyName) -> None:
        self._pool = pool
        self._name = name
        self._other = SPEAKERS[1 - SPEAKERS.index(name)]
        self._hash = PolynomialHash(pool.hash_key)
        self.eps = 0.0

    def tag(self, message: bytes) -> bytes:
        """A tag for one message."""
        return self.tag_hashed(self._hash(message))

    def check(self, message: bytes, tag: bytes) -> None:
        """Check the other's tag.

        Raises:
            ProtocolAbort: It does not belong to this message.
        """
        self.check_hashed(self._hash(message), len(message), tag)

    def digest(self, message: bytes) -> bytes:
        """The bare hash, to be tagged in both directions; it must not leave this party."""
        return self._hash(message)

    def tag_hashed(self, digest: bytes) -> bytes:
        """A tag for a message whose hash is known."""
        return self._encrypted(digest, self._name)

    def check_hashed(self, digest: bytes, n_bytes: int, tag: bytes) -> None:
        """Check the other's tag of a message of ``n_bytes`` whose hash is known.

        Raises:
            ProtocolAbort: It does not belong to this message.
        """
        self.eps += forgery_bound(n_bytes)
        if not hmac.compare_digest(self._encrypted(digest, self._other), tag):
            raise ProtocolAbort("authentication failed")

    def _encrypted(self, digest: bytes, speaker: PartyName) -> bytes:
        return bytes(a ^ b for a, b in zip(digest, self._pool.pad(speaker), strict=True))
