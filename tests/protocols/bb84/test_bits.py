from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import binomtest

from qflsec.base import OsSecrets, SeededSecrets
from qflsec.protocols.bb84.bits import (
    Bits,
    PositionSet,
    draw_biased,
    draw_bits,
    draw_levels,
    pack,
    stated_probability,
    take,
    unpack,
)
from qflsec.protocols.bb84.transcript import TranscriptError

arrays = st.lists(st.integers(0, 1), min_size=1, max_size=200).map(lambda b: np.array(b, dtype=np.uint8))


class Tape:
    """Secrets that play a given tape."""

    seeded = True

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def draw(self, n_bytes: int) -> bytes:
        piece = self._pieces.pop(0)
        assert len(piece) == n_bytes
        return piece


@settings(deadline=None, max_examples=60)
@given(bits=arrays, data=st.data())
def test_packed_bits_are_read_back_wherever_they_are_taken(bits: Bits, data: st.DataObject) -> None:
    positions = np.array(
        data.draw(st.lists(st.integers(0, bits.size - 1), unique=True).map(sorted)), dtype=np.int64
    )
    assert np.array_equal(unpack(pack(bits), bits.size), bits)
    assert np.array_equal(take(pack(bits), positions, bits.size), bits[positions])
    assert np.array_equal(take(pack(bits), None, bits.size), bits)


def test_sparse_and_dense_gathers_agree() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, 10_000, dtype=np.uint8)
    for count in (3, 600, 9000):
        positions = np.sort(rng.choice(bits.size, count, replace=False))
        assert np.array_equal(take(pack(bits), positions, bits.size), bits[positions])


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 500), data=st.data())
def test_position_sets_are_read_back_in_both_encodings(n: int, data: st.DataObject) -> None:
    chosen = sorted(data.draw(st.sets(st.integers(0, n - 1))))
    held = PositionSet.of(np.array(chosen, dtype=np.int64), n)
    assert held.array().tolist() == chosen
    assert len(held.data) <= min(4 * len(chosen), (n + 7) // 8)


@pytest.mark.parametrize(
    ("count", "bitmap", "data"),
    [
        (2, False, np.array([5, 5], dtype="<u4").tobytes()),
        (2, False, np.array([6, 5], dtype="<u4").tobytes()),
        (1, False, np.array([20], dtype="<u4").tobytes()),
        (1, False, b"abc"),
        (3, True, bytes([0b1100_0000, 0, 0])),
        (1, True, bytes([0, 0, 0b0000_1000])),
        (1, True, bytes([0x80])),
    ],
)
def test_a_position_set_that_is_none_is_refused(count: int, bitmap: bool, data: bytes) -> None:
    with pytest.raises(TranscriptError):
        PositionSet(n=20, count=count, bitmap=bitmap, data=data).array()


@settings(deadline=None, max_examples=100)
@given(
    values=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60),
    thresholds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3).map(sorted),
    near=st.lists(st.integers(-2, 2), min_size=60, max_size=60),
)
def test_lazy_draws_are_those_of_whole_32_bit_integers(
    values: list[int], thresholds: list[int], near: list[int]
) -> None:
    # half of the values lie next to a threshold, where the first byte decides nothing
    values = [
        min(2**32 - 1, max(0, thresholds[i % len(thresholds)] + near[i])) if i % 2 else v
        for i, v in enumerate(values)
    ]
    undecided = {t >> 24 for t in thresholds if t & 0xFFFFFF and t < 2**32}
    rest = [v & 0xFFFFFF for v in values if v >> 24 in undecided]
    tape = Tape(bytes(v >> 24 for v in values), np.array(rest, dtype="<u4").tobytes())
    levels = draw_levels(tape, len(values), tuple(thresholds))
    assert levels.tolist() == [sum(v >= t for t in thresholds) for v in values]


@pytest.mark.parametrize("probability", [0.5, 0.9, 1e-3, 0.123456789])
def test_biased_bits_have_their_stated_bias(probability: float) -> None:
    """False alarm 1e-6 for each probability."""
    n = 400_000
    ones = int(unpack(draw_biased(SeededSecrets(1, "bias"), n, probability), n).sum())
    assert binomtest(ones, n, stated_probability(probability)).pvalue > 1e-6
    assert abs(stated_probability(probability) - probability) <= 2**-33


def test_the_test_of_bias_can_fail() -> None:
    n = 400_000
    ones = int(unpack(draw_biased(SeededSecrets(1, "bias"), n, 0.9), n).sum())
    assert binomtest(ones, n, 0.895).pvalue < 1e-6


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9])
def test_drawn_bits_end_in_zeros(n: int) -> None:
    for _ in range(20):
        packed = draw_bits(OsSecrets(), n)
        assert packed.size == (n + 7) // 8
        assert np.array_equal(pack(unpack(packed, n)), packed)
