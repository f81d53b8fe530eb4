"""Fixed point in a ring: exact sums, and no silent wrap."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort, UpdateError
from qflsec.federation import Setup
from qflsec.protocols.secagg import FixedPoint, fixed_point
from qflsec.protocols.secagg.fixed_point import round_at_random
from qflsec.protocols.secagg.he.bfv import PrimeFixedPoint
from qflsec.threat import SERVER, client

PRIME = PrimeFixedPoint(fractional_bits=12, modulus=268369921)
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
        words = [ring.encode(updates[i], float(weights[i]), n=n, secrets=OsSecrets()) for i in range(n)]
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
    word = ring.encode(at, 1.0, n=n, secrets=OsSecrets())
    total = np.sum([word] * n, axis=0, dtype=ring.dtype)
    assert float(ring.decode(total)[0]) == pytest.approx(sign * n * share / ring.scale, rel=1e-12)
    beyond = sign * max(share + 1, float(np.nextafter(share, np.inf)))
    with pytest.raises(UpdateError, match=f"{ring.bits}-bit ring with {n} clients.*at most"):
        ring.encode(torch.tensor([beyond / ring.scale], dtype=torch.float64), 1.0, n=n, secrets=OsSecrets())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_impossible_weights_are_refused(weight: float) -> None:
    with pytest.raises(UpdateError, match="cannot be masked"):
        RINGS[0].encode(torch.ones(2), weight, n=2, secrets=OsSecrets())


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(UpdateError, match="cannot be masked"):
        RINGS[0].encode(torch.tensor([float("nan")]), 1.0, n=2, secrets=OsSecrets())


class Scripted:
    """Secrets that round everything down, or everything up that is not whole."""

    seeded = True

    def __init__(self, *, up: bool) -> None:
        self._byte = b"\x00" if up else b"\xff"

    def draw(self, n_bytes: int) -> bytes:
        return self._byte * n_bytes


@pytest.mark.parametrize("ring", RINGS)
def test_a_number_becomes_one_of_its_two_neighbours(
    ring: FixedPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixed_point, "coins_of", lambda secrets: secrets.draw)
    update = torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    wanted = 3.0 * update.numpy() * ring.scale
    down, up = (
        ring.decode(ring.encode(update, 3.0, n=2, secrets=Scripted(up=up))) * ring.scale
        for up in (False, True)
    )
    assert down[:-1].tolist() == np.floor(wanted).tolist()
    assert up[:-1].tolist() == np.ceil(wanted).tolist()
    assert down[-1] == up[-1] == 3.0 * ring.scale


@pytest.mark.parametrize("value", [1e-5, 5e-6, -1e-5, 1.0 + 1e-5])
def test_small_numbers_are_read_without_bias(value: float) -> None:
    """`he-bfv` with 16 examples, where rounding to the nearest read 1e-5 as 1.53e-5 and 5e-6 as 0.

    100,000 roundings of one value: the mean within 5 standard errors, false-alarm rate 6e-7 for each value. The
    standard error is below half a step over sqrt(100,000), so that a bias of .8 % of a step is found.
    """
    n, weight = 100_000, 16.0
    words = PRIME.encode(torch.full((n,), value, dtype=torch.float64), weight, n=3, secrets=OsSecrets())
    fraction = value * weight * PRIME.scale % 1.0
    read = PRIME.decode(words)[:-1] * PRIME.scale
    deviation = math.sqrt(fraction * (1 - fraction) / n)
    assert abs(read.mean() - value * weight * PRIME.scale) <= 5 * deviation
    assert abs(np.rint(value * weight * PRIME.scale) - value * weight * PRIME.scale) > 30 * deviation, (
        "control"
    )


def test_the_probability_of_rounding_up_is_the_fraction_to_53_bits() -> None:
    """Every threshold counts: the word below the fraction rounds up, the fraction itself rounds down."""

    class One:
        seeded = True

        def __init__(self, word: int) -> None:
            self._word = word

        def draw(self, n_bytes: int) -> bytes:
            return (self._word << 11).to_bytes(8, "little") * (n_bytes // 8)

    for fraction in (0.5, 0.25 + 2.0**-40, 2.0**-53, 1 - 2.0**-53):
        word = int(fraction * 2**53)
        assert round_at_random(np.array([fraction]), One(word - 1).draw).tolist() == [1.0]
        assert round_at_random(np.array([fraction]), One(word).draw).tolist() == [0.0]
    assert round_at_random(np.array([3.0, -2.0, 0.0]), One(0).draw).tolist() == [3.0, -2.0, 0.0]


@pytest.mark.parametrize("n", [2, 3, 7])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rounding_up_cannot_leave_a_clients_share(
    n: int, sign: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies above the last whole number of the share is refused, though its nearest would fit."""
    monkeypatch.setattr(fixed_point, "coins_of", lambda secrets: secrets.draw)
    for ring in (RINGS[1], PRIME):
        share = ring.share(n)
        inside = torch.tensor([sign * (share - 0.75) / ring.scale], dtype=torch.float64)
        word = ring.encode(inside, 1.0, n=n, secrets=Scripted(up=True))
        assert abs(float(ring.decode(word)[0]) * ring.scale) <= share
        beyond = torch.tensor([sign * (share + 0.25) / ring.scale], dtype=torch.float64)
        with pytest.raises(UpdateError, match="does not fit"):
            ring.encode(beyond, 1.0, n=n, secrets=OsSecrets())


def test_an_impossible_weight_is_an_abort() -> None:
    ring = RINGS[0]
    words = ring.encode(torch.ones(3), 5.0, n=2, secrets=OsSecrets())
    mean, weight = ring.read(words, most=5.0)
    assert mean.tolist() == [1.0, 1.0, 1.0]
    assert weight == 5.0
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        ring.read(words, most=4.9)
    with pytest.raises(ProtocolAbort, match="impossible weight"):
        ring.read(np.zeros(4, dtype=np.uint64))


NUMBERS = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=6)


@settings(deadline=None, max_examples=200)
@given(
    ring=st.sampled_from([*RINGS, PRIME]), numbers=NUMBERS, weight=st.integers(0, 40), n=st.integers(1, 12)
)
def test_a_liar_gets_the_nearest_words_which_are_those_of_an_honest_client_to_a_unit(
    ring: FixedPoint, numbers: list[float], weight: int, n: int
) -> None:
    update = torch.tensor(numbers)
    words = ring.encode(update, float(weight), n=n, secrets=OsSecrets(), checked=False)
    assert words.dtype == ring.dtype
    low, high = ring.limits
    signed = [int(v) for v in words.view(np.int64 if ring.bits == 64 else np.int32)]
    assert all(low <= value <= high for value in signed)
    with suppress(UpdateError):
        honest = ring.encode(update, float(weight), n=n, secrets=OsSecrets())
        assert np.abs((words - honest).view(ring.dtype.str.replace("u", "i"))).max() <= 1
    for number, value in zip(numbers, signed[:-1], strict=True):
        wanted = number * weight * ring.scale
        if math.isnan(wanted):
            assert value == low
        elif abs(wanted) >= max(-low, high):
            # of 64 bits the largest double below 2^63 is 2^63 - 1024
            assert value == (low if wanted < 0 else high) or value == high - 1023
        else:
            assert abs(value - wanted) <= 0.5 + abs(wanted) * 2**-52


def test_the_largest_weight_that_fits_is_accepted_and_the_next_refused() -> None:
    fixed = FixedPoint(bits=32, fractional_bits=16)
    largest = int(fixed.largest(2))
    for count in (largest, largest + 1):
        setup = Setup(
            session=b"s",
            clients=(client(0), client(1)),
            server=SERVER,
            n_params=3,
            rounds=1,
            max_count=count,
        )
        if count == largest:
            fixed.check_room("masked", setup)
            continue
        with pytest.raises(ConfigError, match="the ring of 'masked' is too small for 2 clients"):
            fixed.check_room("masked", setup)
