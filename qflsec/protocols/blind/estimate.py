"""Expectation values from tested rounds: the estimate, its bias bound, and what the bound rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.soundness import RoundCounts, soundness_error

__all__ = ["BiasBound", "bias_bound"]

STATUS = (
    "engineering bound, not composable: the hypergeometric tail is exact for a server that corrupts any fixed "
    "number of rounds, each caught by a test with probability 1 / colours or more; that every strategy comes "
    "down to this is a published theorem for majorities (PRX Quantum 2, 040302) and announced for averages "
    "(arXiv:2510.08548); neither proof was checked here"
)


@dataclass(frozen=True, kw_only=True)
class BiasBound:
    """How far a server that passed the tests can have moved the averages of +-1 outcomes.

    Attributes:
        corrupted: The largest fraction of a row's rounds that may be corrupted.
        bias: How far the average of a Pauli word's outcomes can then be off: twice that. An observable's
            bound is this times the sum of its coefficients' magnitudes.
        error: The probability that a server passes and exceeds the bound.
        status: Whether the bound is proved from end to end.
        because: What the status means, in words.

    Units:
        Bias in units of the +-1 outcomes.
    """

    corrupted: float
    bias: float
    error: float
    status: Literal["proved", "engineering"] = "engineering"
    because: str = STATUS


def bias_bound(counts: RoundCounts, *, error: float) -> BiasBound:
    """The smallest bias bound that a server which passes exceeds with at most a given probability.

    Of corrupted rounds that take the fraction f of a row's shots, each moves the sum by at most 2, hence the
    bias by at most 2 f. Noise counts as corruption: what it does to the average is within the bound too.

    Raises:
        BlindError: An error probability out of range.
    """
    if not 0 < error < 1:
        raise BlindError("bad error probability", got=error, expected="between 0 and 1")
    low, high = -1, counts.shots  # all rounds corrupted: nothing is claimed
    while high - low > 1:
        middle = (low + high) // 2
        met = soundness_error(counts, harmless=middle) <= error
        low, high = (low, middle) if met else (middle, high)
    fraction = high / counts.shots
    reached = 0.0 if high == counts.shots else soundness_error(counts, harmless=high)
    return BiasBound(corrupted=fraction, bias=min(2.0, 2 * fraction), error=max(reached, math.ulp(0.0)))
