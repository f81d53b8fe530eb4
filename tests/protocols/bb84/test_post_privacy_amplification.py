"""Toeplitz hashing and the verification hash against direct products, and their guarantees."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, SeededSecrets, numpy_stream
from qflsec.protocols.bb84 import privacy_amplification
from qflsec.protocols.bb84.privacy_amplification import (
    draw_seed,
    rounding_bound,
    toeplitz_hash,
    toeplitz_seed_bits,
)
from qflsec.protocols.bb84.verification import verification_bits, verification_seed_bits, verification_tag


def random_bits(seed: int, n: int) -> np.ndarray:
    return numpy_stream(seed, "bits").integers(0, 2, n, dtype=np.uint8)


def direct(bits: np.ndarray, seed: np.ndarray, length: int) -> np.ndarray:
    """The matrix written out, multiplied over GF(2)."""
    n = bits.size
    matrix = seed[np.arange(length)[:, None] - np.arange(n)[None, :] + n - 1]
    return (matrix.astype(np.int64) @ bits % 2).astype(np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 900),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 10**6),
    tile=st.sampled_from([8, 64, 2**20]),
)
def test_it_is_the_matrix_product(n: int, share: float, seed: int, tile: int) -> None:
    length = max(1, int(share * n))
    bits, chosen = random_bits(seed, n), random_bits(seed + 1, toeplitz_seed_bits(n, length))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(privacy_amplification, "_TILE", tile)
        assert np.array_equal(toeplitz_hash(bits, chosen, length), direct(bits, chosen, length))


def test_a_large_product_agrees_with_rows_of_the_matrix() -> None:
    n, length = 3_000_000, 1_200_000
    bits, chosen = random_bits(1, n), random_bits(2, toeplitz_seed_bits(n, length))
    hashed = toeplitz_hash(bits, chosen, length)
    for row in (0, 1, 1_048_575, 1_048_576, length - 1):
        window = chosen[row : row + n][::-1]
        assert hashed[row] == np.bitwise_xor.reduce(window & bits)


def test_it_is_linear_and_universal() -> None:
    """Universal_2: over all seeds, a non-zero difference hashes to zero with probability exactly 2^-length."""
    n, length = 5, 3
    difference = np.array([0, 1, 1, 0, 1], dtype=np.uint8)
    seeds = itertools.product((0, 1), repeat=toeplitz_seed_bits(n, length))
    zero = sum(not toeplitz_hash(difference, np.array(s, dtype=np.uint8), length).any() for s in seeds)
    assert zero == 2 ** (toeplitz_seed_bits(n, length) - length)


def test_rounding_is_provably_safe_up_to_ten_million_bits() -> None:
    """The bound for the worst input of 1e7 bits: all ones in key and seed."""
    tile, n, length = 2**20, 10**7, 10**7
    worst = rounding_bound(2 * tile, np.sqrt(n), np.sqrt(2.0 * (n + length)), terms=10)
    assert worst < 1e-4


def test_the_bound_is_above_the_error_observed() -> None:
    for n in (2**10, 2**16, 2**20):
        key, seed = random_bits(3, n).astype(float), random_bits(4, n).astype(float)
        product = np.fft.irfft(np.fft.rfft(key, 2 * n) * np.fft.rfft(seed, 2 * n), 2 * n)
        off = np.abs(product - np.rint(product)).max()
        assert off < rounding_bound(2 * n, np.linalg.norm(key), np.linalg.norm(seed)) < 0.25


def test_an_unsafe_rounding_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy_amplification, "_RESERVE", 1e14)
    with pytest.raises(AssertionError, match="rounding is not safe"):
        toeplitz_hash(random_bits(1, 100), random_bits(2, 149), 50)


def test_a_million_bits_take_less_than_a_second() -> None:
    """One core, process time; the better of two, since the machine is shared."""
    bits, chosen = random_bits(5, 10**6), random_bits(6, toeplitz_seed_bits(10**6, 500_000))
    best = np.inf
    for _ in range(2):
        start = time.process_time()
        toeplitz_hash(bits, chosen, 500_000)
        best = min(best, time.process_time() - start)
    assert best < 1.0


def test_seeds_are_drawn_afresh_from_the_secrets() -> None:
    secrets = SeededSecrets(1, "seed")
    first, second = draw_seed(secrets, 300_001), draw_seed(secrets, 300_001)
    assert first.size == second.size == 300_001
    # 300,001 fair bits lie within 6 standard deviations of half but for 2e-9.
    assert abs(int(first.sum()) - 150_000) < 6 * 274
    assert abs(int((first ^ second).sum()) - 150_000) < 6 * 274


@pytest.mark.parametrize(("n", "length", "seed"), [(10, 0, 9), (10, 11, 20), (10, 5, 13)])
def test_shapes_that_do_not_fit_are_refused(n: int, length: int, seed: int) -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        toeplitz_hash(random_bits(0, n), random_bits(0, seed), length)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 300), n_tag=st.integers(1, 80), seed=st.integers(0, 10**6))
def test_the_verification_hash_is_a_sliding_window(n: int, n_tag: int, seed: int) -> None:
    bits, chosen = random_bits(seed, n), random_bits(seed + 1, verification_seed_bits(n, n_tag))
    parities = [int(np.bitwise_xor.reduce(chosen[i : i + n] & bits)) for i in range(n_tag)]
    assert verification_tag(bits, chosen, n_tag) == np.packbits(parities).tobytes()


def test_different_keys_pass_verification_exactly_as_often_as_allowed() -> None:
    """All 2^11 seeds: unequal keys of 8 bits share 4 parities for exactly 1 in 16."""
    one, two = random_bits(1, 8), random_bits(2, 8)
    seeds = [
        np.array(s, dtype=np.uint8) for s in itertools.product((0, 1), repeat=verification_seed_bits(8, 4))
    ]
    same = sum(verification_tag(one, s, 4) == verification_tag(two, s, 4) for s in seeds)
    assert same * 16 == len(seeds)


@pytest.mark.parametrize(("eps_cor", "bits"), [(1e-15, 50), (1e-10, 34), (2.0**-20, 20)])
def test_the_hash_is_as_long_as_eps_cor_asks(eps_cor: float, bits: int) -> None:
    assert verification_bits(eps_cor) == bits


def test_impossible_verification_is_refused() -> None:
    with pytest.raises(ConfigError):
        verification_bits(0.0)
    with pytest.raises(ConfigError, match="seed"):
        verification_tag(random_bits(0, 8), random_bits(0, 8), 4)
