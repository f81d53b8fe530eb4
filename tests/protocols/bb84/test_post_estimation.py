"""Parameter estimation and random choices among positions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError, SeededSecrets
from qflsec.protocols.bb84.estimation import estimate_errors, interval, random_subset, split_test_bits


@pytest.mark.parametrize(("errors", "n"), [(0, 50), (3, 200), (50, 50), (1200, 60_000)])
def test_the_interval_is_clopper_pearsons(errors: int, n: int) -> None:
    """Against SciPy's own exact binomial interval."""
    ours, theirs = interval(errors, n), stats.binomtest(errors, n).proportion_ci(0.95, method="exact")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert ours.low <= ours.rate <= ours.high


def test_nothing_compared_means_nothing_known() -> None:
    empty = interval(0, 0)
    assert (empty.rate, empty.low, empty.high) == (1.0, 0.0, 1.0)


def test_errors_are_counted_between_own_and_announced_bits() -> None:
    own, other = np.array([0, 1, 1, 0], dtype=np.uint8), np.array([0, 1, 0, 1], dtype=np.uint8)
    assert estimate_errors(own, other).errors == 2


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 300), share=st.floats(0.0, 1.0), seed=st.integers(0, 10**6))
def test_tested_bits_leave_the_key(n: int, share: float, seed: int) -> None:
    tested = random_subset(n, int(share * n), SeededSecrets(seed, "subset"))
    bits = np.arange(n, dtype=np.uint8)
    test, rest = split_test_bits(bits, tested)
    assert test.size == int(share * n)
    assert np.array_equal(np.sort(np.concatenate([test, rest])), np.sort(bits))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_subset_is_equally_likely(size: int) -> None:
    """Chi-squared over all subsets of five; false alarm below 1e-4."""
    secrets = SeededSecrets(11, "uniform")
    seen: dict[tuple[bool, ...], int] = {}
    for _ in range(4000):
        chosen = tuple(bool(each) for each in random_subset(5, size, secrets))
        seen[chosen] = seen.get(chosen, 0) + 1
    subsets = {1: 5, 2: 10, 3: 10, 4: 5}[size]
    assert len(seen) == subsets
    assert stats.chisquare(list(seen.values())).pvalue > 1e-4


class Scripted:
    """Secrets that say what they are told to."""

    seeded = True

    def __init__(self, *words: int) -> None:
        self._bytes = b"".join(word.to_bytes(8, "little") for word in words)

    def draw(self, n_bytes: int) -> bytes:
        drawn, self._bytes = self._bytes[:n_bytes], self._bytes[n_bytes:]
        return drawn


def test_words_that_would_favour_small_positions_are_drawn_again() -> None:
    """2^64 - 1 is 0 modulo 3 and one of one multiple of 3 too many."""
    chosen = random_subset(3, 1, Scripted(2**64 - 1, 2**64 - 2))
    assert chosen.tolist() == [False, False, True]
    assert random_subset(4, 1, Scripted(2**64 - 1)).tolist() == [False, False, False, True]


def test_an_impossible_subset_is_refused() -> None:
    with pytest.raises(ConfigError, match="impossible subset"):
        random_subset(3, 4, SeededSecrets(1, "x"))
