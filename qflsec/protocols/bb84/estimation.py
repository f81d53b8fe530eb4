"""Parameter estimation: how many errors the test bits show, and random choices among positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.accounting.statistics import clopper_pearson
from qflsec.base import ConfigError, Secrets

__all__ = ["ErrorEstimate", "estimate_errors", "interval", "random_subset", "split_test_bits"]

Bits = npt.NDArray[np.uint8]
_WORD = 8


@dataclass(frozen=True, kw_only=True)
class ErrorEstimate:
    """The error rate seen in test bits.

    Attributes:
        errors: Test bits that differ.
        n: Test bits compared, all of which are now public and in no key.
        low: Lower end of the interval.
        high: Upper end of the interval.
        confidence: Of the interval, which holds for independent errors only: no security rests on it.
    """

    errors: int
    n: int
    low: float
    high: float
    confidence: float = 0.95

    @property
    def rate(self) -> float:
        """The observed error rate; 1 if nothing was compared."""
        return self.errors / self.n if self.n else 1.0


def estimate_errors(own: Bits, other: Bits, *, confidence: float = 0.95) -> ErrorEstimate:
    """Compare announced test bits with one's own.

    Args:
        own: This party's test bits.
        other: What the other party announced.
        confidence: Of the two-sided interval.
    """
    return interval(int(np.count_nonzero(own != other)), own.size, confidence=confidence)


def interval(errors: int, n: int, *, confidence: float = 0.95) -> ErrorEstimate:
    """The estimate for a number of errors among ``n`` test bits; without any, nothing is known."""
    if n == 0:
        return ErrorEstimate(errors=errors, n=n, low=0.0, high=1.0, confidence=confidence)
    found = clopper_pearson(errors, n, confidence=confidence)
    return ErrorEstimate(errors=errors, n=n, low=found.low, high=found.high, confidence=confidence)


def random_subset(n: int, size: int, secrets: Secrets) -> npt.NDArray[np.bool_]:
    """A uniformly random subset, as a mask.

    Args:
        n: Positions to choose from.
        size: Positions to choose.
        secrets: The choosing party's source; it draws after the bits exist, and announces the choice.
    """
    if not 0 <= size <= n:
        raise ConfigError("impossible subset", got=size, expected=f"from 0 to {n}")
    few = min(size, n - size)
    mask = np.zeros(n, dtype=np.bool_)
    # Distinct positions in the order in which they are first drawn are a uniform ordered sample.
    while few and (missing := few - int(mask.sum())):
        mask[_uniform_below(n, missing, secrets)] = True
    return mask if few == size else ~mask


def _uniform_below(n: int, count: int, secrets: Secrets) -> npt.NDArray[np.int64]:
    """``count`` independent uniform integers below ``n``; words that would favour small ones are redrawn."""
    limit = (1 << 64) - (1 << 64) % n
    found = np.empty(0, dtype=np.uint64)
    while found.size < count:
        words = np.frombuffer(secrets.draw(_WORD * (count - found.size)), dtype="<u8")
        found = np.concatenate([found, words[words < limit] if limit < 1 << 64 else words])
    return (found % np.uint64(n)).astype(np.int64)


def split_test_bits(bits: Bits, tested: npt.NDArray[np.bool_]) -> tuple[Bits, Bits]:
    """Take test bits out of a string: (test bits, bits that remain).

    Args:
        bits: One party's bits.
        tested: Which of them are announced, the same mask for both parties.
    """
    return bits[tested], bits[~tested]
