"""Norm bound: the server's bound binds liars, and where a median norm stops helping."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, UpdateError
from qflsec.defenses.clipping import clip_to_norm
from qflsec.defenses.robust import NormBound, median_norm
from qflsec.federation import FedAvg, Stack, layer_from_config


def updates_of(*lengths: float) -> torch.Tensor:
    return torch.tensor([[0.6 * length, 0.8 * length] for length in lengths])


def lengths_of(updates: torch.Tensor) -> list[float]:
    return [float(x) for x in torch.linalg.vector_norm(updates.double(), dim=-1)]


def test_a_fixed_bound(round_updates: Callable[..., Any]) -> None:
    batch = round_updates(updates_of(0.5, 1.0, 40.0))
    bounded = NormBound(max_norm=1.0).bound(batch)
    assert lengths_of(bounded.updates) == pytest.approx([0.5, 1.0, 1.0], rel=1e-5)
    assert torch.equal(bounded.updates[0], batch.updates[0])
    assert bounded.ids == batch.ids
    assert torch.equal(bounded.counts, batch.counts)


def test_a_multiple_of_the_median_norm(round_updates: Callable[..., Any]) -> None:
    batch = round_updates(updates_of(1.0, 2.0, 3.0, 1000.0))
    assert lengths_of(NormBound(factor=2.0).bound(batch).updates) == pytest.approx([1, 2, 3, 5], rel=1e-5)
    assert NormBound(factor=2.0).limit(batch.updates) == pytest.approx(5.0)


def test_the_median_norm_takes_the_midpoint() -> None:
    assert median_norm(updates_of(1.0, 2.0, 4.0, 8.0)) == pytest.approx(3.0)
    with pytest.raises(UpdateError):
        median_norm(torch.zeros(0, 2))


@settings(deadline=None, max_examples=40)
@given(scale=st.floats(1, 1e30), bound=st.floats(1e-3, 1e3), liars=st.integers(0, 4))
def test_no_client_moves_the_mean_by_more_than_its_share(scale: float, bound: float, liars: int) -> None:
    honest = torch.randn(10, 6, generator=torch.Generator().manual_seed(liars))
    sent = honest.clone()
    sent[:liars] *= -scale
    clipped = [NormBound(max_norm=bound).limit(u) for u in (honest, sent)]
    assert clipped == [bound, bound]
    moved = (clip_to_norm(sent, bound) - clip_to_norm(honest, bound)).double().mean(dim=0)
    assert float(torch.linalg.vector_norm(moved)) <= 2 * bound * liars / 10 + 1e-9


def test_half_liars_move_the_median_norm(round_updates: Callable[..., Any]) -> None:
    """The control: once half of the clients are corrupted, a median norm bounds nothing."""
    batch = round_updates(updates_of(1.0, 1.0, 1e6, 1e6))
    bounded = NormBound().bound(batch).updates
    assert lengths_of(bounded)[-1] > 1e5
    assert lengths_of(NormBound(max_norm=1.0).bound(batch).updates)[-1] <= 1.0


def test_all_zero_updates(round_updates: Callable[..., Any]) -> None:
    batch = round_updates(torch.zeros(3, 2))
    assert torch.equal(NormBound().bound(batch).updates, torch.zeros(3, 2))


def test_stacks_with_a_bound_are_not_linear() -> None:
    assert not Stack.from_layers("bounded", [NormBound()]).linear
    assert Stack.from_layers("mean", [FedAvg()]).linear


@pytest.mark.parametrize(
    "values",
    [{"max_norm": 0.0}, {"max_norm": float("nan")}, {"factor": -1.0}, {"factor": float("inf")}],
)
def test_impossible_parameters_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        NormBound(**values)


def test_both_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        NormBound(max_norm=1.0, factor=2.0)


@pytest.mark.parametrize("layer", [NormBound(), NormBound(max_norm=2.0), NormBound(factor=1.5)])
def test_it_is_a_public_value(layer: NormBound) -> None:
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert hash(layer) == hash(layer_from_config(layer.to_config()))
