"""Quick ways that are taken at many clients or parameters alone, against plain ones: networks, direct steps, one product."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest

from qflsec.base import ConfigError
from qflsec.defenses import robust
from qflsec.defenses.robust import mixing, mixing_kernel, order, order_network
from qflsec.defenses.robust.rows import Rows
from tests.defenses.robust import reference
from tests.defenses.robust.cases import KINDS, rows

Matrix = np.ndarray[Any, Any]


@pytest.mark.parametrize("n", range(1, 10))
def test_a_network_orders_the_places_that_are_asked_for(n: int) -> None:
    """By the zero-one principle: what orders every row of zeros and ones orders every row."""
    bits = np.array(list(itertools.product((0, 1), repeat=n)))
    expected = np.sort(bits, axis=1)
    for low, high in itertools.combinations(range(n + 1), 2):
        found = bits.copy()
        for first, second in order_network.sorting_network(n, low, high):
            found[:, [first, second]] = np.sort(found[:, [first, second]], axis=1)
        assert np.array_equal(found[:, low:high], expected[:, low:high])
    assert len(order_network.sorting_network(n, 0, 1)) <= len(order_network.sorting_network(n, 0, n))


def test_a_network_without_one_comparison_does_not_sort() -> None:
    """The control of the test above: none of the comparisons is there for nothing."""
    bits = np.array(list(itertools.product((0, 1), repeat=6)))
    network = order_network.sorting_network(6, 2, 4)
    for left_out in range(len(network)):
        found = bits.copy()
        for first, second in network[:left_out] + network[left_out + 1 :]:
            found[:, [first, second]] = np.sort(found[:, [first, second]], axis=1)
        assert not np.array_equal(found[:, 2:4], np.sort(bits, axis=1)[:, 2:4])


def batcher(n: int) -> list[tuple[int, int]]:
    """Odd-even merge sort as the textbook recursion, of the next power of two, without the places from n on."""

    def merge(places: list[int]) -> list[tuple[int, int]]:
        if len(places) == 2:
            return [(places[0], places[1])]
        inner = merge(places[::2]) + merge(places[1::2])
        return inner + [(places[i], places[i + 1]) for i in range(1, len(places) - 1, 2)]

    def sort(places: list[int]) -> list[tuple[int, int]]:
        half = len(places) // 2
        if half == 0 or places[half] >= n:  # runs of which one is empty are in order
            return sort(places[:half]) if half else []
        return sort(places[:half]) + sort(places[half:]) + merge(places)

    return [(a, b) for a, b in sort(list(range(1 << (n - 1).bit_length()))) if b < n]


@pytest.mark.parametrize("n", [2, 15, 17, 31, 48, 63, 100, 129, 200, 256])
def test_pieces_are_the_textbooks_network(n: int) -> None:
    """Networks are the same where every place is compared with the same places in the same order."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    expected: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for pairs, where in ((order_network.sorting_network(n, 0, n), found), (batcher(n), expected)):
        for pair in pairs:
            for place in pair:
                where[place].append(pair)
    assert found == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(150, 70), (256, 64), (10, 500), (33, 131), (64, 64)])
def test_the_kernel_gives_numpys_bits(n: int, d: int, dtype: Any) -> None:
    for kind in KINDS:
        updates = rows(kind, n, d, n // 5, n).astype(dtype)
        updates = np.asfortranarray(updates) if kind == "ties" else updates
        assert np.array_equal(order.sorted_rows(updates), np.sort(updates, axis=0))
        for low, high in ((n // 5, n - n // 5), ((n - 1) // 2, n // 2 + 1), (0, n)):
            plain = np.sort(updates, axis=0)[low:high].mean(axis=0, dtype=np.float64)
            found = order.mean_of_ranks(updates, low, high)
            assert np.array_equal(found.astype(dtype), plain.astype(dtype))
            assert np.allclose(found, plain, rtol=0.0, atol=1e-14 * np.abs(updates).max())


def piece_by_piece(n: int, low: int, high: int, numbers: Matrix, *, ordered: bool) -> Matrix:
    """The plan of the kernel in plain steps."""
    patterns = (*order_network.PATTERNS, [(0, 1)])
    found = np.full((order_network.places_of(n), numbers.shape[1]), np.inf)
    found[:n] = numbers
    for kind, start, step in order_network.planned(n, low, high, ordered=ordered):
        for a, b in patterns[kind]:
            pair = [start + step * a, start + step * b]
            found[pair] = np.sort(found[pair], axis=0)
    return found[:n]


@pytest.mark.parametrize(
    ("n", "low", "high"), [(100, 20, 80), (100, 49, 51), (30, 0, 30), (17, 16, 17), (150, 3, 9)]
)
def test_pieces_in_plain_steps_order_the_places(n: int, low: int, high: int) -> None:
    """In order, and as a set: for that fewer comparisons are left, and they do not order."""
    numbers = np.random.default_rng(n).normal(size=(n, 40))
    expected = np.sort(numbers, axis=0)[low:high]
    assert np.array_equal(piece_by_piece(n, low, high, numbers, ordered=True)[low:high], expected)
    chosen = piece_by_piece(n, low, high, numbers, ordered=False)[low:high]
    assert np.array_equal(np.sort(chosen, axis=0), expected)
    if 2 < high - low < n:
        assert not np.array_equal(chosen, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [20, 100])
def test_the_kernel_sees_what_is_not_finite(n: int, dtype: Any) -> None:
    """One number anywhere, in rows that whole pieces read and in the rest: the row counts as one of the f."""
    updates = rows("normal", n, 300, 4, n).astype(dtype)
    for bad, row, column in itertools.product((np.nan, np.inf, -np.inf), (0, n // 2, n - 1), (0, 130, 299)):
        spoiled = updates.copy()
        spoiled[row, column] = bad
        left = np.delete(updates, row, axis=0)
        for rule, f in ((robust.trimmed_mean, 4), (robust.coordinate_median, 0)):
            assert np.array_equal(rule(spoiled, f=f), rule(left, f=max(0, f - 1)))


def test_f_is_refused_by_the_rows_that_are_left() -> None:
    """Ten rows allow an f of 4; of eleven of which one is not finite, the 5 that are declared are 4 of ten."""
    updates = rows("normal", 11, 600, 2, 0)
    updates[3, 5] = np.nan
    assert np.isfinite(robust.trimmed_mean(updates, f=5)).all()
    with pytest.raises(ConfigError, match=r"n = 10 finite updates, f = 5"):
        robust.trimmed_mean(updates, f=6)
    with pytest.raises(ConfigError, match=r"n = 11 finite updates, f = 6"):
        robust.trimmed_mean(np.nan_to_num(updates), f=6)


def test_without_numba_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    updates = rows("normal", 12, 400, 2, 0)
    rules = (robust.trimmed_mean, robust.coordinate_median, robust.mean_around_median)
    with_it = [rule(updates, f=2) for rule in rules]
    monkeypatch.setattr(order, "has_numba", lambda: False)
    assert all(np.array_equal(rule(updates, f=2), one) for rule, one in zip(rules, with_it, strict=True))


def test_mixing_without_numba_chooses_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The means differ by what sums of single precision are rounded by."""
    updates = rows("colluding", 50, 100, 10, 4).astype(np.float32)
    kernels = robust.nearest_neighbour_mixing(updates, f=10)
    monkeypatch.setattr(mixing, "has_numba", lambda: False)
    plain = robust.nearest_neighbour_mixing(updates, f=10)
    assert not np.array_equal(kernels, plain), "the control: another way was taken"
    assert np.allclose(kernels, plain, atol=1e-6)


def test_huge_numbers_have_a_mean() -> None:
    updates = np.full((8, 600), 1.7e308)
    assert np.array_equal(robust.coordinate_median(updates), updates[0])
    assert np.allclose(robust.trimmed_mean(updates, f=2), updates[0], rtol=1e-15)
    single = np.full((80, 100), 3e38, dtype=np.float32)
    assert np.allclose(robust.nearest_neighbour_mixing(single, f=16), single, rtol=1e-6)


MANY = (40, 60)
"""More differences than are formed one by one."""


@pytest.mark.parametrize("kind", [*KINDS, "offset", "at-a-row"])
def test_the_geometric_median_of_many_rows(kind: str) -> None:
    """No point around has a smaller sum of distances, whichever way it was found."""
    n, d = MANY
    rng = np.random.default_rng(3)
    if kind == "offset":
        updates = rng.normal(size=MANY) + 1e7
    elif kind == "at-a-row":  # opposite directions at other lengths: the row between them is the median
        half = rng.normal(size=(20, d))
        updates = np.concatenate([np.zeros((1, d)), half, -half * rng.uniform(0.2, 3.0, size=(20, 1))])
    else:
        updates = rows(kind, n, d, 8, 1)
    found = robust.geometric_median(updates)

    def total(point: Matrix) -> float:
        return float(np.linalg.norm(updates - point, axis=1).sum())

    assert all(
        total(found) <= total(found + size * step / max(np.linalg.norm(step), 1e-9)) * (1 + 2.5e-6)
        for size in (1e-4, 1e-2, 1.0, 30.0)
        for step in (*rng.normal(size=(6, d)), *(updates[:4] - found))
    )
    if kind == "at-a-row":
        assert np.array_equal(found, np.zeros(d))
    turned = rng.permutation(len(updates))
    assert np.allclose(robust.geometric_median(updates[turned]), found, rtol=1e-5, atol=1e-5)


def test_two_rows_have_the_same_median_at_every_length() -> None:
    """Every point between them is one; it is the one in the middle, on the direct way and on the other."""
    for d in (3, 20_000):
        updates = np.random.default_rng(0).normal(size=(2, d))
        assert np.allclose(robust.geometric_median(updates), updates.mean(axis=0), atol=1e-12)


def test_direct_steps_and_steps_on_distances_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    # the function of the same name hides its module
    module = sys.modules["qflsec.defenses.robust.geometric_median"]
    updates = rows("normal", *MANY, 8, 5)
    direct = module._directly(updates, 1e-9, 1e-9, 100)
    assert direct is not None
    monkeypatch.setattr(module, "_directly", lambda *_: None)
    assert np.allclose(direct, robust.geometric_median(updates, tolerance=1e-9), atol=1e-7)


@pytest.mark.parametrize("smoothing", [0.7, 0.9])
def test_smoothing_is_not_left_out_by_direct_steps(smoothing: float) -> None:
    """Rows within nu count alike: with a large nu the result is no geometric median any more."""
    updates = np.random.default_rng(6).exponential(size=MANY)
    found = robust.geometric_median(updates, smoothing=smoothing, tolerance=1e-9)
    reference_point = reference.smoothed_median(updates, smoothing)
    assert np.allclose(found, reference_point, atol=1e-6)


def compared(updates: Matrix, f: int) -> float:
    """How far mixing is from the paper's formula, as a part of the largest number."""
    plain = reference.nnm(updates.astype(np.float64), f)
    return float(np.abs(robust.nearest_neighbour_mixing(updates, f=f) - plain).max() / np.abs(updates).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [MANY, (30, 150)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mixing_many_rows_as_the_paper_writes_it(kind: str, size: tuple[int, int], dtype: Any) -> None:
    """By products of matrices, and by kernels from 64 columns on: ties go to the first rows on both ways."""
    n, d = size
    for f in (1, n // 5, (n - 1) // 2):
        assert compared(rows(kind, n, d, f, 3).astype(dtype), f) < 8 * np.finfo(dtype).eps


def quick(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether kernels served each call from now on."""
    served, kernels = [], mixing._quickly

    def watched(given: Rows, count: int) -> Matrix | None:
        found = kernels(given, count)
        served.append(found is not None)
        return found

    monkeypatch.setattr(mixing, "_quickly", watched)
    return served


def test_the_last_digits_of_distances_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six rows at distances that products cannot tell apart, of which three are near; the control is a bound of zero."""
    served = quick(monkeypatch)
    rng = np.random.default_rng(2)
    lengths = np.concatenate([np.full(20, 0.5), 1.0 + 1e-7 * rng.permutation(6), np.full(17, 2.0)])
    turned = np.linalg.qr(rng.normal(size=(100, 100)))[0][:43]
    updates = (lengths[:, None] * turned).astype(np.float32)
    assert compared(updates, 20) < 1e-6
    single = mixing_kernel.bounds
    monkeypatch.setattr(mixing_kernel, "bounds", lambda gram, _, *rest: single(gram, 0.0, *rest))
    assert compared(updates, 20) > 1e-3
    assert served == [True] * 2


def test_products_that_cannot_tell_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest rows differ by less than a product of single precision sees, or numbers leave its range."""
    served = quick(monkeypatch)
    rng = np.random.default_rng(0)
    ring = rng.normal(size=(40, 100))
    ring *= 1.0 / np.linalg.norm(ring, axis=1, keepdims=True)
    ring[20:] = -ring[:20]
    close = (1.0 + 1e-9 * ring).astype(np.float64)
    assert compared(close, 9) < 1e-14
    for scale in (1e-25, 1e25):
        assert compared((scale * ring).astype(np.float32), 9) < 1e-6
    long = ring.copy()
    long[:25] *= 1e6  # the many are long: what the others share with them would lose its digits
    assert compared(long, 9) < 1e-14
    assert compared(1000 * rng.normal(size=(1, 100)) + ring, 9) < 1e-13
    assert served.count(False) >= 2
    assert served[-1], "rows are centred"


def test_a_liars_far_rows_do_not_make_mixing_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    served = quick(monkeypatch)
    for far in (1e2, 1e6, 1e12):
        updates = np.random.default_rng(1).normal(size=(60, 80))
        updates[48:] *= far
        updates = updates.astype(np.float32)
        assert compared(updates, 12) < 1e-6
        honest = np.abs(robust.nearest_neighbour_mixing(updates, f=12)[:48] - reference.nnm(updates, 12)[:48])
        assert honest.max() < 1e-6
    assert served == [True] * 6
