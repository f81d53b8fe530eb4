"""Heuristics: they do what they say, and no mechanism without a proof adds a row that claims an epsilon."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats

from qflsec.accounting import LedgerContext
from qflsec.base import ConfigError, find, names
from qflsec.defenses.compression import GradientPruning, MeanSign, Ternary, UpdateQuantization
from qflsec.defenses.privacy import GradientNoise, LocalDp
from qflsec.federation import layer_from_config

LAYERS = [
    GradientPruning(keep=0.3),
    UpdateQuantization(bits=3),
    GradientNoise(noise_std=0.1),
    MeanSign(),
    Ternary(),
]
UPDATES = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", names("layer"))
def test_a_mechanism_without_a_proof_adds_no_row(name: str, context: Callable[..., LedgerContext]) -> None:
    kind = find("layer", name)
    if kind.card.assumption != "heuristic" and not kind.card.claim.lower().startswith("no"):
        return
    for seen in ({}, {"smallest_k": 10}, {"server": False, "reads_clients": False}):
        rows = kind().ledger(context(**seen))
        assert not [row for row in rows if row.guarantee == "differential privacy" or row.epsilon is not None]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.card.name)
def test_heuristics_say_that_they_are(layer: Any, context: Callable[..., LedgerContext]) -> None:
    assert layer.card.assumption == "heuristic"
    assert layer.card.claim.startswith("None")
    assert "epsilon" in layer.card.does_not[0]
    assert layer.ledger(context()) == ()
    assert LocalDp().ledger(context()), "the control: clip and noise together have a row"


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.card.name)
def test_all_at_once_equals_the_loop_over_lanes(layer: Any, streams: Callable[..., Any]) -> None:
    at_once = layer.shape(UPDATES, streams(0, 1))
    for lane in range(2):
        assert torch.equal(
            at_once[lane : lane + 1], layer.shape(UPDATES[lane : lane + 1].clone(), streams(lane))
        )


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.card.name)
def test_they_are_public_values(layer: Any) -> None:
    assert pickle.loads(pickle.dumps(layer)) == layer
    assert layer_from_config(layer.to_config()) == layer


def test_pruning_keeps_the_largest_entries(streams: Callable[..., Any]) -> None:
    pruned = GradientPruning(keep=0.3).shape(UPDATES, streams(0, 1))
    kept = pruned != 0
    assert bool((kept.sum(dim=-1) == 6).all())
    assert torch.equal(pruned[kept], UPDATES[kept])
    for lane in range(2):
        for index in range(3):
            least = pruned[lane, index][kept[lane, index]].abs().min()
            assert bool((UPDATES[lane, index][~kept[lane, index]].abs() <= least).all())
    assert torch.equal(GradientPruning(keep=1.0).shape(UPDATES, streams(0, 1)), UPDATES)
    ties = GradientPruning(keep=0.5).shape(torch.ones(1, 1, 4), streams(0))
    assert ties.tolist() == [[[1.0, 1.0, 0.0, 0.0]]]


def test_quantised_updates_lie_on_the_grid_and_keep_the_mean(streams: Callable[..., Any]) -> None:
    """The mean over 4,000 roundings: an entry off by 6 standard errors has probability below 2e-9."""
    layer = UpdateQuantization(bits=3)
    one = UPDATES[:1]
    step = one.abs().amax(dim=-1, keepdim=True) / 3
    total = torch.zeros_like(one, dtype=torch.float64)
    asked = streams(5)
    for _ in range(4000):
        rounded = layer.shape(one, asked)
        total += rounded
    levels = rounded / step
    assert torch.allclose(levels, levels.round(), atol=1e-5)
    assert len(levels[0, 0].round().unique()) <= 7
    assert bool(((total / 4000 - one).abs() <= 6 * 0.5 * step / math.sqrt(4000) + 1e-6).all())
    assert torch.equal(layer.shape(torch.zeros(1, 2, 4), streams(0)), torch.zeros(1, 2, 4))


def test_noise_has_its_size_and_no_bound(streams: Callable[..., Any]) -> None:
    """Chi-square of 20,000 draws at two sides of 1e-6; an update of any length goes through unclipped."""
    n = 20_000
    noisy = GradientNoise(noise_std=0.3).shape(torch.full((1, 1, n), 1e4), streams(3))
    scaled = ((noisy.double() - 1e4) / 0.3).square().sum()
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], n)
    assert low < float(scaled) < high
    assert torch.equal(GradientNoise(noise_std=0.0).shape(UPDATES, streams(0, 1)), UPDATES)


def test_local_noise_has_its_size_and_its_bound(streams: Callable[..., Any]) -> None:
    n = 20_000
    layer = LocalDp(clip_norm=0.7, noise_multiplier=1.5)
    noisy = layer.shape(torch.zeros(1, 1, n), streams(4))
    scaled = (noisy.double() / (0.7 * 1.5)).square().sum()
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], n)
    assert low < float(scaled) < high
    silent = replace(layer, noise_multiplier=0.0).shape(UPDATES * 1e6, streams(0, 1))
    assert float(torch.linalg.vector_norm(silent.double(), dim=-1).max()) <= 0.7


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (GradientPruning, {"keep": 0.0}),
        (GradientPruning, {"keep": 1.1}),
        (UpdateQuantization, {"bits": 1}),
        (UpdateQuantization, {"bits": 17}),
        (GradientNoise, {"noise_std": -1.0}),
        (GradientNoise, {"noise_std": math.nan}),
    ],
)
def test_impossible_values_are_refused(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values)
