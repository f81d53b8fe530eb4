"""Coordinate-wise median against NumPy, and its breakdown point."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import IncompatibleStack, UpdateError
from qflsec.defenses.robust import Median, coordinate_median
from qflsec.federation import SummedUpdates, layer_from_config


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 12),
    n_params=st.integers(1, 40),
    ties=st.booleans(),
)
def test_it_equals_numpy_and_does_not_depend_on_the_order(
    seed: int, n: int, n_params: int, ties: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, n_params))
    updates = torch.from_numpy((np.round(rows) if ties else rows).astype(np.float32))
    before = updates.clone()
    median = coordinate_median(updates)
    assert np.array_equal(
        median.numpy(), np.median(updates.numpy().astype(np.float64), axis=0).astype(np.float32)
    )
    assert torch.equal(median, coordinate_median(updates[torch.from_numpy(rng.permutation(n))]))
    assert torch.equal(updates, before), "the caller's rows must not be sorted in place"
    assert median.dtype == updates.dtype


def test_the_midpoint_of_an_even_number_of_rows_and_not_the_lower_one() -> None:
    updates = torch.tensor([[0.0], [1.0], [3.0], [100.0]])
    assert coordinate_median(updates).tolist() == [2.0]
    assert updates.median(dim=0).values.tolist() == [1.0]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(3, 11), size=st.floats(-1e30, 1e30))
def test_fewer_than_half_corrupted_rows_stay_between_honest_values(seed: int, n: int, size: float) -> None:
    updates = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32))
    f = (n - 1) // 2
    updates[:f] = size
    honest = updates[f:]
    median = coordinate_median(updates)
    assert bool((median >= honest.min(dim=0).values).all())
    assert bool((median <= honest.max(dim=0).values).all())


def test_half_corrupted_rows_break_it() -> None:
    """The control: at the breakdown point the bound is gone."""
    updates = torch.tensor([[0.0], [0.0], [1e9], [1e9]])
    assert coordinate_median(updates).item() == pytest.approx(5e8)


def test_double_precision_is_kept() -> None:
    rows = torch.tensor([[1.0], [1.0 + 2**-40]], dtype=torch.float64)
    assert coordinate_median(rows).dtype == torch.float64
    assert coordinate_median(rows).item() == 1.0 + 2**-41


@pytest.mark.parametrize(
    "updates",
    [
        torch.zeros(0, 3),
        torch.zeros(3),
        torch.tensor([[float("nan")], [float("inf")]]),
    ],
)
def test_what_is_no_set_of_updates_is_refused(updates: torch.Tensor) -> None:
    with pytest.raises(UpdateError, match="update"):
        coordinate_median(updates)


def test_the_layer_ignores_stated_counts(round_updates: Callable[..., Any]) -> None:
    updates = torch.tensor([[1.0, 5.0], [2.0, 4.0], [30.0, -3.0]])
    step, state = Median().aggregate(round_updates(updates, counts=(1, 1, 1000)), Median().start(2))
    assert step.tolist() == [2.0, 4.0]
    assert state is None
    assert not Median.linear


def test_a_sum_is_refused() -> None:
    summed = SummedUpdates(
        round=0,
        mean=torch.zeros(2),
        weight=1.0,
        ids=(0,),
        broadcast=torch.zeros(2),
        generator=torch.Generator(),
    )
    with pytest.raises(IncompatibleStack, match="only their sum"):
        Median().aggregate(summed, None)


def test_it_is_a_public_value() -> None:
    assert pickle.loads(pickle.dumps(Median())) == Median()
    assert hash(Median()) == hash(Median())
    assert layer_from_config(Median().to_config()) == Median()
