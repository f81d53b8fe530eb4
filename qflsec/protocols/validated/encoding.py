"""Integers of updates, and the words in which they and their blinding factors are summed under masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ProtocolAbort, Secrets, UpdateError
from qflsec.protocols.secagg.fixed_point import FixedPoint, Words, round_at_random
from qflsec.protocols.validated.group import ORDER
from qflsec.protocols.validated.prover import Opening

__all__ = ["LIMBS", "Quantiser", "SumReader", "from_words", "to_words"]

_LIMB_BITS = 43
LIMBS = 6
"""A blinding factor is cut into 6 limbs of 43 bits, so that up to 2^21 of them add up in 64-bit words."""
_LIMB = (1 << _LIMB_BITS) - 1
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """Updates as integers whose norm stays within a bound.

    Attributes:
        max_norm: The bound on the L2 norm of an update.
        bound: The same for integers.
    """

    max_norm: float
    bound: int

    @property
    def step(self) -> float:
        """What one unit is worth."""
        return self.max_norm / self.bound

    def integers(self, update: torch.Tensor, *, secrets: Secrets, checked: bool = True) -> tuple[int, ...]:
        """Integers of the update, scaled down where it is too long for every rounding of it to stay in the bound.

        An honest client rounds at random without bias. Rounding moves each coordinate by less than 1, and so the
        vector by less than ``sqrt(d)``: of a vector that leaves so much room, every rounding has a proof, and none
        is drawn again, which would bias what stays.

        A corrupted client scales down too: a vector that it cannot prove short counts for nothing, and the longest
        one that it can prove is its best lie, of which it takes the nearest integers. NaN and infinity point nowhere
        that scaling keeps: they become the ends of a coordinate's range, for which no proof holds.

        Args:
            update: The update.
            secrets: The client's own source, which decides what is rounded up.
            checked: Whether the client refuses what is not finite.

        Shapes:
            update: ``(d,)``

        Raises:
            UpdateError: A number is not finite.
        """
        values = update.detach().cpu().numpy().astype(np.float64) / self.step
        if not np.isfinite(values).all():
            if not checked:
                ends = np.clip(np.nan_to_num(values, nan=-np.inf), -self.bound, self.bound)
                return tuple(int(value) for value in ends)
            raise UpdateError(
                "an update cannot be committed to", got="NaN or infinity", expected="finite numbers"
            )
        moved = math.sqrt(len(values)) * (1.0 if checked else 0.5)
        norm = float(np.linalg.norm(values))
        inside = values * min(1.0, (self.bound - moved) / norm) if norm > 0 else values
        rounded = round_at_random(inside, secrets.draw) if checked else np.rint(inside)
        return tuple(int(value) for value in rounded)


def to_words(opening: Opening) -> Words:
    """Values, then the limbs of every blinding factor.

    Shapes:
        returns: ``(7 d,)``
    """
    signed = np.array(opening.values, dtype=np.int64).view(np.uint64)
    limbs = [(r >> (_LIMB_BITS * k)) & _LIMB for r in opening.blindings for k in range(LIMBS)]
    return np.concatenate([signed, np.array(limbs, dtype=np.uint64)])


def from_words(words: Words) -> tuple[Integers, Sequence[int]]:
    """The sums of the values and of the blinding factors.

    Shapes:
        words: ``(7 d,)``
    """
    d = len(words) // (LIMBS + 1)
    values: Integers = words[:d].copy().view(np.int64)
    limbs = [int(word) for word in words[d:]]
    blindings = [
        sum(limb << (_LIMB_BITS * k) for k, limb in enumerate(limbs[i : i + LIMBS])) % ORDER
        for i in range(0, len(limbs), LIMBS)
    ]
    return values, blindings


@dataclass(frozen=True, kw_only=True)
class SumReader(FixedPoint):
    """Reads the mean in a sum of words.

    Attributes:
        n: How many clients are in it.
        step: What one unit is worth.
    """

    n: int
    step: float

    def read(self, words: Words, *, most: float = math.inf) -> tuple[torch.Tensor, float]:
        """The mean, and the number of clients.

        Raises:
            ProtocolAbort: There is no client in it.
        """
        if not 0 < self.n <= most:
            raise ProtocolAbort("a sum over no clients")
        values, _ = from_words(words)
        return torch.from_numpy(values * (self.step / self.n)), float(self.n)
