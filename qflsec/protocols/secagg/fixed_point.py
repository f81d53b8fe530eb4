"""Fixed point in a ring: weighted updates as integers modulo a power of two.

A client sends the numbers ``w x 2^f`` of its weighted update as integers, and ``w 2^f`` of its weight, so that the
weight is masked like everything else. Each number is rounded up or down at random so that its expectation is the
number itself (:func:`round_at_random`): to the nearest integer, what is small would be read as nothing or as much too
much, by every client and in every round alike. A weight is a number of examples, and exact. The sum over the clients
is the sum of their integers as long as no partial sum leaves the ring's signed range; each client therefore refuses
values that could be rounded beyond its share of that range.

A corrupted client refuses nothing. Its words may be any elements of the ring; for a number that has none
(:meth:`FixedPoint.nearest`) it takes the one that lies farthest in the number's direction. To reduce the number
modulo the ring instead would make most large lies harmless: 1e30 is a multiple of 2^32. What wraps is the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from qflsec.base import ConfigError, LostRound, Secrets, UpdateError, finite
from qflsec.federation import Setup

__all__ = ["Coins", "FixedPoint", "Words", "coins_of", "round_at_random"]

_BLOCK = 1 << 14
Words = npt.NDArray[np.unsignedinteger[Any]]


Coins = Callable[[int], bytes]
"""So many uniform bytes, new ones at every call."""


def coins_of(secrets: Secrets) -> Coins:
    """Coins for the rounding of one vector: the ChaCha20 keystream under a key of its own.

    Eight bytes for each value are many; from the operating system they would cost more than all masks of a round.
    """
    stream = Cipher(ChaCha20(secrets.draw(32), bytes(16)), mode=None).encryptor()
    return lambda n_bytes: stream.update(bytes(n_bytes))


def round_at_random(values: npt.NDArray[np.float64], coins: Coins) -> npt.NDArray[np.float64]:
    """Whole numbers next to values: up with the probability of the fraction, down otherwise, each by itself.

    The probability is exact but for less than ``2^-53``, which is all that the expectation can be off. A whole number
    stays what it is. The error of one value is below 1, its variance at most 1/4.

    Source:
        Gupta, Agrawal, Gopalakrishnan and Narayanan: Deep learning with limited numerical precision, ICML 2015,
        section 3.

    Args:
        values: The values.
        coins: Whoever rounds tosses its own (:func:`coins_of`): what is rounded away is as secret as the values.

    Shapes:
        values: ``(n,)``; returns: ``(n,)``
    """
    below = np.floor(values)
    words = np.frombuffer(coins(8 * values.size), dtype="<u8") >> np.uint64(11)
    rounded: npt.NDArray[np.float64] = below + (words * 2.0**-53 < values - below)
    return rounded


@finite
@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """Integers of ``bits`` bits, ``fractional_bits`` of them behind the point.

    Attributes:
        bits: The size of the ring's elements, 32 or 64.
        fractional_bits: The resolution is ``2^-fractional_bits``.

    Raises:
        ConfigError: A number is out of range.
    """

    bits: int
    fractional_bits: int

    def __post_init__(self) -> None:
        if self.bits not in {32, 64}:
            raise ConfigError("'bits' is out of range", got=self.bits, expected="32 or 64")
        if not 1 <= self.fractional_bits <= self.bits - 8:
            raise ConfigError(
                "'fractional_bits' is out of range",
                got=self.fractional_bits,
                expected=f"1 to {self.bits - 8} with bits={self.bits}",
            )

    def check_room(self, layer: str, setup: Setup) -> None:
        """Refuse a session whose largest weight does not fit.

        Raises:
            ConfigError: It does not.
        """
        n = len(setup.clients)
        if setup.max_count > self.largest(n):
            raise ConfigError(
                f"the ring of {layer!r} is too small for {n} clients with up to {setup.max_count} examples",
                got=f"bits={self.bits}, fractional_bits={self.fractional_bits}",
                expected=f"at most {self.largest(n):.6g} examples",
                fix="use bits=64 or lower 'fractional_bits'",
            )

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Unsigned words of the ring: sums wrap as the ring does."""
        return np.dtype(np.uint64 if self.bits == 64 else np.uint32)

    @property
    def scale(self) -> float:
        """What a value is multiplied by."""
        return float(2**self.fractional_bits)

    def share(self, n: int) -> int:
        """The largest absolute integer that each of ``n`` clients may send."""
        return ((1 << (self.bits - 1)) - 1) // n

    def largest(self, n: int) -> float:
        """The largest absolute value of a weighted coordinate, or of a weight, of each of ``n`` clients."""
        return self.share(n) / self.scale

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest integer that one client's words can carry."""
        half = 1 << (self.bits - 1)
        return -half, half - 1

    def encode(
        self, update: torch.Tensor, weight: float, *, n: int, secrets: Secrets, checked: bool = True
    ) -> Words:
        """The weighted update, rounded at random without bias, and the weight as words.

        Args:
            update: An update.
            weight: Its weight.
            n: The number of clients that the ring must have room for.
            secrets: The client's own source, which decides what is rounded up.
            checked: Whether the client refuses what does not fit; without it see :meth:`nearest`.

        Shapes:
            update: ``(P,)``; returns: ``(P + 1,)``

        Raises:
            UpdateError: A number is not finite, the weight is negative, or a value exceeds its share of the ring.
        """
        if not checked:
            return self.nearest(update, weight)
        if not (math.isfinite(weight) and weight >= 0):
            raise self._refusal(weight, n)
        source = update.detach().cpu().numpy()
        signed = np.empty(source.size + 1, dtype=np.int64 if self.bits == 64 else np.int32)
        # a power of two scales without rounding, so that this is the weighted value and its scaling in one pass
        factor = weight * self.scale
        # rounding and scaling keep the order, so that the extremes speak for every value, whichever way it is rounded
        extremes = np.array([source.max(initial=0), source.min(initial=0), 1.0], dtype=np.float64)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity times a weight of 0 is refused as NaN
            self._check(_outwards(extremes * factor), n)
        coins, block = coins_of(secrets), np.empty(min(_BLOCK, source.size))
        for start in range(0, source.size, _BLOCK):
            part = source[start : start + _BLOCK]
            values = np.multiply(part, factor, out=block[: part.size], dtype=np.float64)
            signed[start : start + part.size] = round_at_random(values, coins)
        signed[-1] = round(factor)
        return signed.view(self.dtype)

    def nearest(self, update: torch.Tensor, weight: float) -> Words:
        """The words nearest to any numbers; NaN takes the smallest.

        Shapes:
            update: ``(P,)``; returns: ``(P + 1,)``
        """
        low, high = self.limits
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.append(update.detach().cpu().numpy().astype(np.float64), 1.0) * (weight * self.scale)
        whole = np.nan_to_num(np.rint(values), nan=low, posinf=high, neginf=low)
        # the nearest double to the largest integer of 64 bits lies above it
        top = float(high) if int(float(high)) <= high else math.nextafter(float(high), 0.0)
        signed = np.clip(whole, float(low), top).astype(np.int64)
        words: Words = signed.astype(np.int64 if self.bits == 64 else np.int32).view(self.dtype)
        return words

    def _check(self, values: npt.NDArray[np.float64], n: int) -> None:
        """Refuse whole numbers that exceed a client's share of the ring."""
        limit = float(self.share(n))
        if int(limit) > self.share(n):  # the nearest double may lie above the integer
            limit = math.nextafter(limit, 0.0)
        largest = max(float(values.max()), -float(values.min()))  # NaN where any value is
        if not largest <= limit:
            raise self._refusal(largest / self.scale, n)

    def _refusal(self, value: float, n: int) -> UpdateError:
        if not math.isfinite(value) or value < 0:
            return UpdateError(
                "an update or its weight cannot be masked",
                got="NaN, infinity or a negative weight",
                expected="finite numbers and a weight of 0 or more",
            )
        return UpdateError(
            f"a weighted coordinate does not fit into the {self.bits}-bit ring with {n} clients",
            got=f"{value:.6g}",
            expected=f"at most {self.largest(n):.6g} in absolute value",
            fix="use bits=64, lower 'fractional_bits', or clip updates first",
        )

    def decode(self, words: Words) -> npt.NDArray[np.float64]:
        """The values of words, read as signed integers.

        Shapes:
            words: ``(P + 1,)``; returns: ``(P + 1,)``
        """
        signed = np.int64 if self.bits == 64 else np.int32
        values: npt.NDArray[np.float64] = words.view(signed).astype(np.float64) / self.scale
        return values

    def inside(self, words: Words, like: torch.Tensor) -> torch.Tensor:
        """What whoever removes the protection reads in a client's words: its update as rounded, then its weight.

        Shapes:
            words: ``(P + 1,)``; returns: ``(P + 1,)``, of the type of ``like``
        """
        values = torch.from_numpy(self.decode(words)).to(like)
        if float(values[-1]) > 0:
            values[:-1] /= values[-1]
        return values

    def read(self, words: Words, *, most: float = math.inf) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight behind words.

        Args:
            words: A client's words, or a sum of them.
            most: The largest weight that can be true.

        Shapes:
            words: ``(P + 1,)``; returns: ``(P,)`` in double precision

        Raises:
            LostRound: The weight is not positive, or above ``most``.
        """
        values = self.decode(words)
        weight = float(values[-1])
        if not 0 < weight <= most:
            raise LostRound(
                "a masked sum opened to an impossible weight",
                got=f"{weight:g}",
                expected=f"above 0, at most {most:g}",
                fix="a payload was altered, or clients did not mask for the same participants",
            )
        return torch.from_numpy(values[:-1] / weight), weight


def _outwards(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The largest that each may be rounded to, away from zero."""
    return np.copysign(np.ceil(np.abs(values)), values)
