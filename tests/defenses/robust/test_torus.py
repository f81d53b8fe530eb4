"""Angles on the torus: reduction of differences, why absolute angles must not be reduced, and circular forms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, UpdateError, find
from qflsec.defenses import robust
from qflsec.federation import FedAvg, RoundUpdates

PI = math.pi
Make = Callable[..., RoundUpdates]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    turns=st.integers(-50, 50),
    period=st.sampled_from([2 * PI, 4 * PI, 1.0, 0.3]),
    single=st.booleans(),
)
def test_whole_periods_are_taken_off_and_nothing_else_is_touched(
    seed: int, turns: int, period: float, single: bool
) -> None:
    dtype = np.float32 if single else np.float64
    inside = np.random.default_rng(seed).uniform(-0.49, 0.49, size=(3, 2)) * period
    updates = inside.astype(dtype)
    periods = (period, None)
    assert robust.reduce_differences(updates, periods) is updates
    shifted = updates.copy()
    shifted[:, 0] += dtype(turns * period)
    before = shifted.copy()
    found = robust.reduce_differences(shifted, periods)
    tolerance = (1 + abs(turns)) * period * (1e-6 if single else 1e-14)
    np.testing.assert_allclose(found[:, 0], updates[:, 0], atol=tolerance)
    assert np.array_equal(found[:, 1], updates[:, 1]), "a parameter without a period"
    assert found.dtype == dtype
    assert np.array_equal(shifted, before)
    assert robust.reduce_differences(found, periods) is found, "once is enough"


def test_the_interval_is_open_below_and_closed_above() -> None:
    for dtype in (np.float32, np.float64):
        half = dtype(PI)
        ends = np.array([[half, -half, np.nextafter(half, dtype(9)), np.nextafter(-half, dtype(9))]])
        found = robust.reduce_differences(ends, [2 * PI] * 4)[0]
        assert found[0] == half
        assert found[1] == pytest.approx(half, rel=1e-6)
        assert -half < found[2] < 0 or found[2] == half
        assert found[3] == ends[0, 3]


def test_what_is_not_finite_stays() -> None:
    updates = np.array([[np.nan, np.inf, -np.inf, 7.0]])
    found = robust.reduce_differences(updates, [2 * PI] * 4)
    assert np.array_equal(found[0, :3], updates[0, :3], equal_nan=True)
    assert found[0, 3] == pytest.approx(7.0 - 2 * PI)


def test_periods_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UpdateError, match="one period for each"):
        robust.reduce_differences(np.zeros((2, 3)), [2 * PI])
    with pytest.raises(UpdateError, match="not positive"):
        robust.reduce_differences(np.zeros((2, 1)), [0.0])


RULES = [
    robust.Mean(),
    robust.Median(),
    robust.TrimmedMean(),
    robust.MeanAroundMedian(),
    robust.GeometricMedian(),
    robust.Krum(),
    robust.MultiKrum(),
    robust.MinimumDiameter(),
    robust.SmallestEigenvalue(),
    robust.CentredClipping(),
    robust.Bulyan(),
    robust.DivideAndConquer(),
    robust.FoolsGold(),
    robust.WeakDp(noise_std=0.0),
    robust.CircularMean(),
    robust.CircularGeometricMedian(),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.card.name)
def test_an_angle_wrap_changes_no_rule_that_reduces(rule: Any, round_updates: Make) -> None:
    """One client adds whole periods, the same circuit: the step is the one without them."""
    honest = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    wrapped = honest.clone()
    wrapped[2] += torch.tensor([2 * PI, -6 * PI, 4 * PI, 0.0], dtype=torch.float64)
    periods = (2 * PI, 2 * PI, 4 * PI, None)

    def step(updates: torch.Tensor) -> torch.Tensor:
        batch = round_updates(updates, periods=periods, broadcast=torch.full((4,), 3.0, dtype=torch.float64))
        found: torch.Tensor = rule.aggregate(batch, rule.start(4))[0]
        return found

    assert torch.allclose(step(wrapped), step(honest), atol=1e-6)


@pytest.mark.parametrize("turns", [1, 7])
def test_an_angle_wrap_moves_the_mean_by_its_share(turns: int, round_updates: Make) -> None:
    """By turns * T * f / n without reduction, as arithmetic says; by nothing with it in front."""
    honest = torch.randn(10, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.2
    wrapped = honest.clone()
    wrapped[:2] += turns * 2 * PI
    batches = [round_updates(updates, periods=(2 * PI,) * 3) for updates in (honest, wrapped)]
    plain = [FedAvg().aggregate(batch, None)[0] for batch in batches]
    assert torch.allclose(plain[1] - plain[0], torch.full((3,), turns * 2 * PI * 0.2, dtype=torch.float64))
    reduced = [FedAvg().aggregate(robust.WrapAngles().bound(batch), None)[0] for batch in batches]
    assert torch.allclose(reduced[1], reduced[0], atol=1e-12)
    loose = robust.Mean(wrap=False).aggregate(batches[1], None)[0]
    assert torch.allclose(loose, plain[1])


def stacked(name: str) -> list[Any]:
    """The layers of a row of the page's table; a filter stands before the mean."""
    layers = [find("layer", part)() for part in name.split(" + ")]
    return layers if isinstance(layers[-1], robust.UpdateRule) else [*layers, robust.Mean()]


def share_of_the_means_move(layers: list[Any], *, wrap: bool, seed: int, make: Make) -> float:
    """How far two of ten clients that add a whole turn to 36 angles move the step, over how far they move a mean."""
    honest = 0.1 + 0.2 * torch.randn(10, 36, generator=torch.Generator().manual_seed(seed)).double()
    wrapped = honest.clone()
    wrapped[:2] += 2 * PI
    steps = []
    for updates in (honest, wrapped):
        start = torch.zeros(36, dtype=torch.float64)
        batch = make(updates, periods=(2 * PI,) * 36, f=2, broadcast=start)
        *filters, rule = [replace(layer, wrap=wrap) for layer in layers]
        for one in filters:
            batch = one.bound(batch)
        steps.append(rule.aggregate(batch, rule.start(36))[0])
    return float((steps[1] - steps[0]).norm() / (2 * PI * 0.2 * 6))


def test_what_an_angle_wrap_does_to_every_rule_is_what_the_page_says(round_updates: Make) -> None:
    """The table of docs/attacks.md: the rules that the page lists are all that need individual updates alone."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z -]+)` \| (\d\.\d\d) \| (\d\.\d\d) \|$", text, re.MULTILINE)
    assert {rule.card.name for rule in RULES} <= {name for name, *_ in rows}
    for name, *cells in rows:
        for wrap, cell in zip((False, True), cells, strict=True):
            found = [
                share_of_the_means_move(stacked(name), wrap=wrap, seed=seed, make=round_updates)
                for seed in range(1 if wrap else 5)
            ]
            assert sum(found) / len(found) == pytest.approx(float(cell), abs=0.006), (name, wrap)


def test_reducing_absolute_angles_breaks_honest_clients() -> None:
    """The control: no attacker, clients at either side of the cut, and the mean points the other way."""
    models = np.array([[PI - 0.1], [PI + 0.1]])
    broadcast = np.array([PI])
    right = broadcast + robust.reduce_differences(models - broadcast, [2 * PI]).mean(axis=0)
    assert right[0] == pytest.approx(PI)
    wrong = robust.reduce_differences(models, [2 * PI]).mean(axis=0)
    assert wrong[0] == pytest.approx(0.0), "half a turn away from both"
    assert math.cos(right[0] - wrong[0]) == pytest.approx(-1.0)
    circular = robust.circular_mean(
        robust.reduce_differences(models, [2 * PI]), periods=[2 * PI], around=broadcast
    )
    assert circular[0] == pytest.approx(PI)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6), spread=st.floats(0.01, 0.2))
def test_circular_forms_turn_with_the_circle(seed: int, spread: float) -> None:
    """Rotating all clients rotates the result, adding periods to some changes nothing, numbers stay numbers."""
    rng = np.random.default_rng(seed)
    periods = (2 * PI, 4 * PI, None)
    models = rng.normal(size=(7, 3)) * spread
    turned = models + np.array([2.5, -5.0, 100.0])
    wrapped = turned + rng.integers(-3, 4, size=(7, 3)) * np.array([2 * PI, 4 * PI, 0.0])
    for rule in (robust.circular_mean, robust.circular_geometric_median):
        here, there = rule(models, periods=periods), rule(wrapped, periods=periods)
        apart = robust.reduce_differences((there - here - np.array([2.5, -5.0, 100.0]))[None], periods)
        np.testing.assert_allclose(apart, 0.0, atol=1e-5)
        assert (np.abs(there[:2]) <= np.array([PI, 2 * PI])).all()
        order = rng.permutation(7)
        np.testing.assert_allclose(rule(wrapped[order], periods=periods), there, atol=1e-5)
    np.testing.assert_allclose(
        robust.circular_geometric_median(models, periods=periods), robust.geometric_median(models), atol=1e-4
    )


def test_the_circular_mean_of_known_angles() -> None:
    angles = np.array([[0.0], [PI / 2], [PI / 2]])
    assert robust.circular_mean(angles, periods=[2 * PI])[0] == pytest.approx(math.atan2(2, 1))
    opposite = np.array([[0.3], [0.3 + PI]])
    assert robust.circular_mean(opposite, periods=[2 * PI], around=np.array([1.0]))[0] == 1.0, (
        "no mean: it stays"
    )
    halved = np.array([[0.1], [PI - 0.1]])
    assert robust.circular_mean(halved, periods=[PI], around=np.array([0.01]))[0] == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_circular_geometric_median_against_a_grid(seed: int) -> None:
    """No point of a grid has a smaller sum of distances on the torus, for clients close together and one anywhere."""
    rng = np.random.default_rng(seed)
    models = np.array([PI, -PI]) + 0.5 * rng.normal(size=(6, 2))
    models[0] = rng.uniform(-PI, PI, size=2)
    periods = (2 * PI, 2 * PI)

    def total(points: Any) -> Any:
        apart = robust.reduce_differences(models[:, None] - points, periods)
        return np.linalg.norm(apart, axis=2).sum(axis=0)

    found = robust.circular_geometric_median(models, periods=periods)
    line = np.linspace(-PI, PI, 121)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    assert total(found[None])[0] <= total(grid).min() + 1e-9


@pytest.mark.parametrize("rule", [robust.circular_mean, robust.circular_geometric_median])
def test_circular_forms_keep_kind_and_precision(rule: Any) -> None:
    models = np.random.default_rng(0).normal(size=(5, 2))
    for dtype in (np.float32, np.float64):
        given = models.astype(dtype)
        before = given.copy()
        found = rule(given, periods=(2 * PI, None))
        tensor = rule(torch.from_numpy(given), periods=(2 * PI, None))
        assert found.dtype == dtype
        assert np.array_equal(tensor.numpy(), found)
        assert np.array_equal(given, before)
    bad = np.vstack([models, [[np.nan, 0.0]]])
    assert np.array_equal(rule(bad, periods=(2 * PI, None), f=1), rule(models, periods=(2 * PI, None)))
    with pytest.raises(UpdateError, match="one period for each"):
        rule(models, periods=(2 * PI,))
    with pytest.raises(UpdateError, match="around"):
        rule(models, periods=(2 * PI, None), around=np.zeros(3))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="tolerance"):
        robust.CircularGeometricMedian(tolerance=0.0)
