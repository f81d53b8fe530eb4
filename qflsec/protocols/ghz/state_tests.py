"""Which copies are tested, and how: drawn from common coins, the same for everybody."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.protocols.ghz.physics import Bits, Floats, Mask

__all__ = ["StateTests"]


@dataclass(frozen=True, kw_only=True, eq=False)
class StateTests:
    """Random stabiliser tests on randomly chosen copies.

    Attributes:
        tested: Which copies are tested.
        across: Whether a test measures X and Y on all qubits; else Z on some.
        marked: The qubits on which Y, or Z, is measured: an even number.

    Shapes:
        tested: ``(copies,)``; across: ``(tests,)``; marked: ``(n, tests)``
    """

    tested: Mask
    across: Mask
    marked: Mask

    @classmethod
    def draw(cls, coins: bytes, *, n: int, copies: int, tests: int) -> StateTests:
        """The tests that these coins give.

        Args:
            coins: The common coins of the round.
            n: The number of clients.
            copies: The number of copies that were sent.
            tests: How many of them are tested.
        """
        order = np.argsort(_words(coins, b"which", copies), kind="stable")
        tested = np.zeros(copies, dtype=bool)
        tested[order[:tests]] = True
        bits = np.unpackbits(
            np.frombuffer(_stream(coins, b"how", n * tests), dtype=np.uint8)[: n * tests, None], axis=1
        )
        flips = bits[:, 0].reshape(n, tests).astype(bool)
        marked = flips.copy()
        marked[0] = flips[1:].sum(axis=0) % 2  # an even number in all; the first bit chooses the kind
        return cls(tested=tested, across=flips[0], marked=marked)

    def radians(self, index: int) -> Floats:
        """A client's angle in each test."""
        return np.where(self.across & self.marked[index], math.pi / 2, 0.0)

    @property
    def along_z(self) -> Mask:
        """The tests in which Z is measured."""
        return ~self.across

    def failures(self, outcomes: npt.NDArray[np.uint8]) -> int:
        """How many tests failed.

        Shapes:
            outcomes: ``(n, tests)``
        """
        counted = self.marked | self.across
        parity = (outcomes * counted).sum(axis=0) % 2
        # X Z = -i Y: with 2k of Y, the element is (-1)^k times the product
        expected = np.where(self.across, self.marked.sum(axis=0) // 2 % 2, 0)
        return int((parity != expected).sum())


def _stream(coins: bytes, purpose: bytes, n_bytes: int) -> bytes:
    return hashlib.shake_256(b"qflsec/ghz/" + purpose + coins).digest(n_bytes)


def _words(coins: bytes, purpose: bytes, n: int) -> npt.NDArray[np.uint64]:
    return np.frombuffer(_stream(coins, purpose, 8 * n), dtype="<u8")


def pack(bits: Bits) -> bytes:
    """Outcomes as bytes."""
    return np.packbits(bits).tobytes()


def unpack(packed: bytes, n: int) -> Bits | None:
    """What :func:`pack` wrote; None where the size is wrong."""
    if len(packed) != -(-n // 8):
        return None
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=n)
