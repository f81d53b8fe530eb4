"""Fixed point in a ring: exact sums, and no silent wrap."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ProtocolAbort, UpdateError
from qflsec.protocols.secagg import FixedPoint
from qflsec.protocols.secagg.he.bfv import PrimeFixedPoint

RINGS = [FixedPoint(bits=64, fractional_bits=20), FixedPoint(bits=32, fractional_bits=12)]


@settings(deadline=None, max_examples=80)
@given(
    ring=st.sampled_from(RINGS),
    seed=st.integers(0, 10**6),
    n=st.integers(2, 12),
    log_scale=st.floats(-3, 14),
)
def test_a_sum_is_exact_or_refused(ring: FixedPoint, seed: int, n: int, log_scale: float) -> None:
    """The ring's sum equals the sum of Python integers, whatever fits; what does not fit raises."""
    rng = np.random.default_rng(seed)
    updates = torch.from_numpy(rng.normal(size=(n, 7)) * 10.0**log_scale)
    weights = rng.integers(0, 50, size=n).astype(float)
    try:
        words = [ring.encode(updates[i], float(weights[i]), n=n) for i in range(n)]
    except UpdateError:
        largest = np.abs(updates.numpy() * weights[:, None]).max()
        assert max(largest, weights.max()) * (1 + 1e-9) >= ring.largest(n) * (1 - 1e-12)
        return
    assert all(word.dtype == ring.dtype for word in words)
    signed = [[int(v) for v in word.view(np.int64 if ring.bits == 64 else np.int32)] for word in words]
    exact = [sum(column) for column in zip(*signed, strict=True)]
    total = np.sum(words, axis=0, dtype=ring.dtype)
    assert [int(v) for v in total.view(np.int64 if ring.bits == 64 else np.int32)] == exact


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("n", [2, 3, 7, 10])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_boundary(ring: FixedPoint, n: int, sign: float) -> None:
    """All clients at the largest value sum without a wrap; one unit (or one double) more raises."""
    share = float(ring.share(n))
    while int(share) > ring.share(n):
        share = float(np.nextafter(share, 0))
    at = torch.tensor([sign * share / ring.scale], dtype=torch.float64)
    word = ring.encode(at, 1.0, n=n)
    total = np.sum([word] * n, axis=0, dtype=ring.dtype)
    assert float(ring.decode(total)[0]) == pytest.approx(sign * n * share / ring.scale, rel=1e-12)
    beyond = sign * max(share + 1, float(np.nextafter(share, np.inf)))
    with pytest.raises(UpdateError, match=f"{ring.bits}-bit ring with {n} clients.*at most"):
        ring.encode(torch.tensor([beyond / ring.scale], dtype=torch.float64), 1.0, n=n)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(UpdateError, match="cannot be masked"):
        RINGS[0].encode(torch.ones(2), weight, n=2)


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(UpdateError, match="cannot be masked"):
        RINGS[0].encode(torch.tensor([float("nan")]), 1.0, n=2)


@pytest.mark.parametrize("ring", RINGS)
def test_rounding_is_to_the_nearest(ring: FixedPoint) -> None:
    update = torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    values = ring.decode(ring.encode(update, 3.0, n=2))
    assert np.abs(values[:-1] - 3.0 * update.numpy()).max() <= 0.5 / ring.scale
    assert values[-1] == 3.0


def test_an_impossible_weight_is_an_abort() -> None:
    ring = RINGS[0]
    words = ring.encode(torch.ones(3), 5.0, n=2)
    mean, weight = ring.read(words, most=5.0)
    assert mean.tolist() == [1.0, 1.0, 1.0]
    assert weight == 5.0
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        ring.read(words, most=4.9)
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        ring.read(np.zeros(4, dtype=np.uint64))


PRIME = PrimeFixedPoint(fractional_bits=12, modulus=268369921)
NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=6)


@settings(deadline=None, max_examples=200)
@given(
    ring=st.sampled_from([*RINGS, PRIME]), numbers=NUMBERS, weight=st.integers(0, 40), n=st.integers(1, 12)
)
def test_a_liar_gets_the_honest_words_wherever_there_are_such_and_the_nearest_elsewhere(
    ring: FixedPoint, numbers: list[float], weight: int, n: int
) -> None:
    update = torch.tensor(numbers)
    words = ring.encode(update, float(weight), n=n, checked=False)
    assert words.dtype == ring.dtype
    low, high = ring.limits
    signed = [int(v) for v in words.view(np.int64 if ring.bits == 64 else np.int32)]
    assert all(low <= value <= high for value in signed)
    with suppress(UpdateError):
        assert np.array_equal(words, ring.encode(update, float(weight), n=n))
    for number, value in zip(numbers, signed[:-1], strict=True):
        wanted = number * weight * ring.scale
        if math.isnan(wanted):
            assert value == low
        elif abs(wanted) >= max(-low, high):
            # of 64 bits the largest double below 2^63 is 2^63 - 1024
            assert value == (low if wanted < 0 else high) or value == high - 1023
        else:
            assert abs(value - wanted) <= 0.5 + abs(wanted) * 2**-52
