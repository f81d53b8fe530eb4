"""What every rule and every filter keeps to, and what some of them are an exception to: shown to fail for those."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError, UpdateError
from tests.defenses.robust.cases import CASES, KINDS, Case, most, rows

Matrix = np.ndarray[Any, Any]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
N, D = 11, 5


def call(case: Case, updates: Any, f: int, scale: float = 1.0) -> Any:
    return case.call(updates, f, np.random.default_rng(7), scale)


def typical(case: Case, kinds: tuple[str, ...] = ("normal", "far", "colluding")) -> list[tuple[Matrix, int]]:
    """Rows without equal distances, which only the order of rows could decide."""
    return [
        (rows(kind, N, D, f, seed), f) for seed, kind in enumerate(kinds) for f in (0, most(case.name, N))
    ]


def same(found: Any, expected: Any, tolerance: float = 1e-5) -> bool:
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape:
        return False
    return bool(
        np.allclose(found, expected, rtol=tolerance, atol=tolerance * (1 + np.median(np.abs(expected))))
    )


@EACH
def test_kind_precision_and_shape_are_kept(case: Case) -> None:
    for kind in KINDS:
        base = rows(kind, N, D, most(case.name, N), 1)
        f = most(case.name, N)
        for dtype in (np.float32, np.float64):
            updates = base.astype(dtype)
            found = call(case, updates, f)
            tensor = call(case, torch.from_numpy(updates.copy()), f)
            assert isinstance(found, np.ndarray)
            assert found.dtype == dtype
            assert found.shape[-1] == D
            assert found.ndim == (2 if case.filters else 1)
            assert np.isfinite(found).all()
            assert isinstance(tensor, torch.Tensor)
            assert np.array_equal(tensor.numpy(), found)


@EACH
def test_the_callers_rows_stay_and_the_result_is_its_own(case: Case) -> None:
    for updates, f in typical(case, KINDS):
        for dtype in (np.float32, np.float64):
            given = updates.astype(dtype)
            before = given.copy()
            found = call(case, given, f)
            assert np.array_equal(given, before)
            assert not np.shares_memory(found, given)
            given.flags.writeable = False
            call(case, given, f)
            tensor = torch.from_numpy(before.copy())
            assert not np.shares_memory(call(case, tensor, f).numpy(), tensor.numpy())
    assert not call(case, tensor.requires_grad_(), f).requires_grad


@EACH
def test_the_same_generator_gives_the_same_result(case: Case) -> None:
    updates, f = rows("normal", N, D, 2, 0), 2
    for make in (np.random.default_rng, lambda seed: torch.Generator().manual_seed(seed)):
        np.random.seed(1)  # noqa: NPY002 - the process's own generators must not count
        torch.manual_seed(1)
        first = case.call(updates, f, make(5), 1.0)
        np.random.seed(2)  # noqa: NPY002
        torch.manual_seed(2)
        assert np.array_equal(first, case.call(updates, f, make(5), 1.0))


@EACH
def test_the_order_of_rows_does_not_matter(case: Case) -> None:
    orders = [np.random.default_rng(seed).permutation(N) for seed in range(3)]
    equal = []
    for updates, f in typical(case):
        for order in orders:
            found, other = call(case, updates, f), call(case, updates[order], f)
            if case.filters and found.shape == updates.shape and "permutation" not in case.unlike:
                found = found[order]  # a row for each row, in its order
            elif case.filters:
                found, other = (np.array(sorted(part.tolist())) for part in (found, other))
            equal.append(same(other, found))
    assert all(equal) if "permutation" not in case.unlike else not all(equal)


@EACH
def test_a_shift_of_all_rows_shifts_the_result(case: Case) -> None:
    shift = np.linspace(-20.0, 30.0, D)
    equal = [
        same(call(case, updates + shift, f), call(case, updates, f) + shift)
        for updates, f in typical(case, ("normal", "colluding"))
    ]
    assert all(equal) if "translation" not in case.unlike else not all(equal)


@EACH
def test_a_scale_of_all_rows_scales_the_result(case: Case) -> None:
    equal = [
        same(call(case, scale * updates, f, scale) / scale, call(case, updates, f))
        for updates, f in typical(case)
        for scale in (2.0**-20, 1000.0)
    ]
    assert all(equal) if "scale" not in case.unlike else not all(equal)


@EACH
def test_rows_that_are_not_finite_are_dropped_and_counted(case: Case) -> None:
    bad = np.array([[np.nan] * D, [0.0] * (D - 1) + [np.inf], [-np.inf] + [1.0] * (D - 1)])
    for updates, f in typical(case, KINDS):
        both = np.insert(updates, [0, 4, len(updates)], bad, axis=0)
        assert np.array_equal(call(case, both, f + 3), call(case, updates, f))
        if f == 0:  # more of them than were declared: f does not fall below 0
            assert np.array_equal(call(case, both, 2), call(case, updates, 0))


@EACH
def test_equal_rows(case: Case) -> None:
    """Where all clients send the same, that is the result, with every f."""
    row = np.array([3.0, -1.0, 0.5, 2.0, -4.0])
    updates = np.tile(row, (N, 1))
    equal = [
        same(call(case, updates, f), np.tile(row, (len(call(case, updates, f)), 1)) if case.filters else row)
        for f in range(most(case.name, N) + 1)
    ]
    assert all(equal) if "same" not in case.unlike else not all(equal)


@pytest.mark.parametrize(
    "name",
    [
        "mean",
        "trimmed-mean",
        "mean-around-median",
        "multi-krum",
        "minimum-diameter",
        "smea",
        "bulyan",
        "dnc",
        "dnc-drawn",
    ],
)
def test_without_corrupted_clients_it_is_the_mean(name: str) -> None:
    case = next(one for one in CASES if one.name == name)
    for updates, _ in typical(case, KINDS):
        assert same(call(case, updates, 0), updates.mean(axis=0), 1e-12)


def test_without_corrupted_clients_filters_do_little() -> None:
    updates = rows("normal", N, D, 0, 0)
    found = {case.name: call(case, updates, 0) for case in CASES if case.filters}
    assert np.array_equal(found["arc"], updates)
    assert same(found["nnm"], np.tile(updates.mean(axis=0), (N, 1)), 1e-12)
    assert found["bucketing"].shape == (6, D)


@EACH
def test_one_row_is_the_result(case: Case) -> None:
    updates = np.array([[0.1, -0.2, 0.3, 0.1, 0.0]])
    if case.name in {"fltrust", "weak-dp", "crfl", "flame"}:
        assert np.isfinite(call(case, updates, 0)).all()
    else:
        assert same(np.atleast_2d(call(case, updates, 0)), updates, 1e-12)


@EACH
def test_what_is_no_set_of_updates_is_refused(case: Case) -> None:
    wrong = [
        np.zeros((0, D)),
        np.zeros((3, 0)),
        np.zeros(D),
        np.full((2, D), np.nan),
        np.zeros((3, D), dtype=np.float16),
        np.zeros((3, D), dtype=np.int64),
        torch.zeros(3, D, dtype=torch.int32),
        [[1.0] * D] * 3,
    ]
    for updates in wrong:
        if not isinstance(updates, list) or case.name not in {"fltrust", "crfl"}:
            with pytest.raises(UpdateError, match="update"):
                call(case, updates, 0)
    for f in (-1, 0.5, True, None):
        with pytest.raises(ConfigError, match="'f' is no number"):
            call(case, np.zeros((3, D)), f)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "n", "f"),
    [
        ("trimmed-mean", 10, 5),
        ("mean-around-median", 9, 5),
        ("minimum-diameter", 10, 5),
        ("smea", 10, 5),
        ("nnm", 10, 5),
        ("arc", 4, 2),
        ("krum", 4, 2),
        ("multi-krum", 4, 2),
        ("bulyan", 8, 2),
        ("dnc", 3, 3),
    ],
)
def test_so_many_corrupted_rows_that_nothing_is_left_are_refused(name: str, n: int, f: int) -> None:
    case = next(one for one in CASES if one.name == name)
    with pytest.raises(ConfigError, match=r"f = |factor"):
        call(case, np.arange(n * D, dtype=float).reshape(n, D), f)
    assert np.isfinite(call(case, np.arange(n * D, dtype=float).reshape(n, D), f - 1)).all()
