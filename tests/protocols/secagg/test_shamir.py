"""Shamir's shares: any threshold of them opens, fewer fit every secret, and their width says nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort
from qflsec.protocols.secagg.rounds.shamir import (
    PRIME,
    SHARE_BYTES,
    combine_shares,
    share_secret,
    weights_at_zero,
)


def opened(shares: dict[int, bytes], points: tuple[int, ...]) -> bytes:
    return combine_shares({p: shares[p] for p in points}, weights_at_zero(points))


def test_the_modulus_is_the_smallest_prime_above_2_to_the_256() -> None:
    """Miller-Rabin with 40 bases; a composite passes with probability below 4^-40."""

    def probably_prime(n: int) -> bool:
        d, s = n - 1, 0
        while d % 2 == 0:
            d, s = d // 2, s + 1
        for base in range(2, 42):
            x = pow(base, d, n)
            if x not in {1, n - 1} and all((x := x * x % n) != n - 1 for _ in range(s - 1)):
                return False
        return True

    assert probably_prime(PRIME)
    assert not any(probably_prime(n) for n in range(2**256 + 1, PRIME, 2))


@settings(deadline=None, max_examples=40)
@given(secret=st.binary(min_size=32, max_size=32), n=st.integers(1, 9), data=st.data())
def test_any_threshold_of_shares_opens(secret: bytes, n: int, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, n))
    shares = share_secret(secret, threshold=t, points=range(1, n + 1), secrets=OsSecrets())
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    points = data.draw(st.sets(st.integers(1, n), min_size=t))
    assert opened(shares, tuple(points)) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_extreme_secrets(secret: bytes) -> None:
    shares = share_secret(secret, threshold=3, points=range(1, 6), secrets=OsSecrets())
    for points in itertools.combinations(range(1, 6), 3):
        assert opened(shares, points) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """For t - 1 shares and any candidate there is a polynomial: its value at one more point completes them."""
    shares = share_secret(b"a" * 32, threshold=3, points=range(1, 6), secrets=OsSecrets())
    for candidate in (bytes(32), b"b" * 32, b"\xff" * 32):
        weights = weights_at_zero((1, 2, 3))
        known = sum(weights[p] * int.from_bytes(shares[p], "big") for p in (1, 2))
        third = (int.from_bytes(candidate, "big") - known) * pow(weights[3], -1, PRIME) % PRIME
        forged = {**shares, 3: third.to_bytes(SHARE_BYTES, "big")}
        assert opened(forged, (1, 2, 3)) == candidate


def test_two_shares_below_the_threshold_are_jointly_uniform() -> None:
    """Chi-square on the low four bits of two shares of one fixed secret; false-alarm rate 1e-6."""
    counts = np.zeros(256)
    for _ in range(4000):
        shares = share_secret(bytes(32), threshold=3, points=(1, 2, 3), secrets=OsSecrets())
        counts[(shares[1][-1] & 15) * 16 + (shares[2][-1] & 15)] += 1
    assert stats.chisquare(counts).pvalue > 1e-6
    counts[:] = 0
    for _ in range(4000):  # the control: with threshold 2, two shares determine the secret
        shares = share_secret(bytes(32), threshold=2, points=(1, 2, 3), secrets=OsSecrets())
        first, second = (int.from_bytes(shares[p], "big") for p in (1, 2))
        assert (2 * first - second) % PRIME == 0


def test_altered_shares_open_to_something_else() -> None:
    secret = b"s" * 32
    shares = share_secret(secret, threshold=2, points=(1, 2, 3), secrets=OsSecrets())
    for bit in range(8 * SHARE_BYTES):
        altered = (int.from_bytes(shares[2], "big") ^ (1 << bit)).to_bytes(SHARE_BYTES, "big")
        try:
            assert opened({**shares, 2: altered}, (1, 2)) != secret
        except ProtocolAbort:
            continue
    with pytest.raises(ProtocolAbort, match="no element"):
        opened({**shares, 2: PRIME.to_bytes(SHARE_BYTES, "big")}, (1, 2))


@pytest.mark.parametrize(
    ("secret", "points", "threshold"),
    [
        (b"short", (1, 2), 2),
        (bytes(32), (1, 1), 2),
        (bytes(32), (0, 1), 2),
        (bytes(32), (1, 2), 3),
        (bytes(32), (1, 2), 0),
    ],
)
def test_what_cannot_be_shared(secret: bytes, points: tuple[int, ...], threshold: int) -> None:
    with pytest.raises(ConfigError):
        share_secret(secret, threshold=threshold, points=points, secrets=OsSecrets())
