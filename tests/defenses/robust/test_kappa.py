"""Proved bounds: no subset of the updates can call itself honest and be farther from the result than kappa allows."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qflsec.defenses import robust
from qflsec.defenses.robust.guarantee import share

Matrix = np.ndarray[Any, Any]
RULES: list[robust.UpdateRule] = [
    robust.Median(),
    robust.TrimmedMean(),
    robust.GeometricMedian(),
    robust.Krum(),
    robust.Krum(neighbours=3),
    robust.MultiKrum(),
    robust.MultiKrum(selected=2),
    robust.MinimumDiameter(),
    robust.SmallestEigenvalue(),
]
EACH = pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.card.name}{rule.to_config()}")


def step_of(rule: robust.UpdateRule, updates: Matrix, f: int) -> Matrix:
    tensor = torch.from_numpy(updates)
    if isinstance(rule, robust.Krum):
        return robust.krum(tensor, f=f, neighbours=rule.neighbours).numpy()
    if isinstance(rule, robust.MultiKrum):
        return robust.multi_krum(tensor, f=f, selected=rule.selected).numpy()
    assert isinstance(rule, robust.RobustRule)
    return rule.rule(tensor, f=f).numpy()


def hostile(n: int, f: int, seed: int) -> Iterator[Matrix]:
    """Honest rows in one or two clusters or with a far one, and corrupted ones where they harm a rule."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n - f, 3))
    clusters = rng.normal(size=(n - f, 3)) * 0.01
    clusters[:f] += 1.0
    outlier = 0.1 * honest
    outlier[0] += 3.0
    for good in (honest, clusters, outlier):
        middle, spread = good.mean(axis=0), good.std(axis=0)
        for bad in (
            middle + 1e4,
            middle + 1.5 * spread,
            middle - 3 * spread,
            good[0],
            good.max(axis=0),
            2 * good[0] - middle,
            middle + rng.normal(size=(f, 3)),
        ):
            yield np.concatenate([good, np.broadcast_to(bad, (f, 3))])


def worst_ratio(updates: Matrix, step: Matrix, f: int) -> float:
    """The largest squared error over the variance, whichever rows are the honest ones."""
    n = len(updates)
    sets = np.array(list(itertools.combinations(range(n), n - f)))
    means = updates[sets].mean(axis=1)
    scatter = ((updates[sets] - means[:, None]) ** 2).sum(axis=2).mean(axis=1)
    errors = ((step - means) ** 2).sum(axis=1)
    floor = 1e-18 * (updates**2).sum(axis=1).max()
    return float(np.max(np.maximum(errors - floor, 0.0) / np.maximum(scatter, floor)))


@EACH
def test_nothing_exceeds_a_proved_kappa(rule: robust.UpdateRule) -> None:
    largest = 0.0
    for n in (4, 5, 7, 10):
        for f in range(1, rule.most(n) + 1):
            bound = rule.kappa(n, f)
            if bound is None:
                continue
            assert bound >= share(n, f) * (1 - 1e-12), "no rule has a smaller one"
            for updates in hostile(n, f, seed=n):
                ratio = worst_ratio(updates, step_of(rule, updates, f), f)
                assert ratio <= bound * (1 + 1e-6), (n, f)
                largest = max(largest, ratio / bound)
    assert largest > 0.02, "inputs that come nowhere near the bound test nothing"


@EACH
def test_mixing_multiplies_a_bound_by_its_factor(rule: robust.UpdateRule) -> None:
    mixing = robust.NearestNeighbourMixing()
    for n in (5, 7, 10):
        for f in range(1, rule.most(n) + 1):
            bound = mixing.kappa(n, f, rule.kappa(n, f))
            if bound is None:
                continue
            for updates in hostile(n, f, seed=n):
                mixed = robust.nearest_neighbour_mixing(updates, f=f)
                assert worst_ratio(updates, step_of(rule, mixed, f), f) <= bound * (1 + 1e-6), (n, f)


@pytest.mark.parametrize(("n", "f"), [(3, 1), (10, 2), (10, 4), (21, 10)])
def test_the_trimmed_mean_reaches_the_lower_bound_of_all_rules(n: int, f: int) -> None:
    """Equality: f honest clients at one value and the others at another, which the corrupted ones send too."""
    updates = np.ones((n, 1))
    updates[:f] = 0.0
    honest = updates[: n - f]
    error = float((robust.trimmed_mean(updates, f=f)[0] - honest.mean()) ** 2)
    assert error / honest.var() == pytest.approx(share(n, f))
    assert robust.TrimmedMean().kappa(n, f) == share(n, f)


def test_mixing_tames_the_variance_of_krum() -> None:
    """One step among honest clients: Krum's error is the noise of a client, and mixing averages it away."""
    errors = {"krum": [], "nnm": []}
    for seed in range(20):
        updates = np.random.default_rng(seed).normal(size=(20, 50))
        mean = updates.mean(axis=0)
        errors["krum"].append(((robust.krum(updates, f=4) - mean) ** 2).sum())
        mixed = robust.nearest_neighbour_mixing(updates, f=4)
        errors["nnm"].append(((robust.krum(mixed, f=4) - mean) ** 2).sum())
    assert np.mean(errors["nnm"]) < np.mean(errors["krum"]) / 5


@pytest.mark.parametrize("rule", [robust.TrimmedMean(), robust.MultiKrum(), robust.MinimumDiameter()])
def test_more_corrupted_clients_than_declared(rule: robust.UpdateRule) -> None:
    """The control: a declared f that is too small costs every bound."""
    honest = np.random.default_rng(0).normal(size=(8, 3))
    for size in (10.0, 1000.0):
        updates = np.concatenate([honest, size + 0.01 * np.random.default_rng(1).normal(size=(3, 3))])
        assert np.abs(step_of(rule, updates, 1)).max() > size / 20
        assert np.abs(step_of(rule, updates, 3)).max() < 2


def test_without_a_bound_there_is_none() -> None:
    for rule in (robust.Bulyan(), robust.DivideAndConquer(), robust.FoolsGold(), robust.Flame()):
        assert rule.kappa(11, 2) is None
        assert not rule.robustness.proved
    assert robust.Krum(neighbours=1).kappa(10, 2) is None, "no honest neighbour is certain"
    assert robust.MultiKrum(selected=9).kappa(10, 2) is None
    assert math.isclose(robust.MinimumDiameter().kappa(20, 4), 8.0)


def test_the_table_of_the_page() -> None:
    """The numbers in docs/robust.md are those of the code."""
    text = (Path(__file__).resolve().parents[3] / "docs" / "robust.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+), (\d+) \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 4
    mixing = robust.NearestNeighbourMixing()
    stacks = [
        (robust.TrimmedMean(),),
        (robust.Median(),),
        (robust.Krum(),),
        (robust.MinimumDiameter(),),
        (mixing, robust.TrimmedMean()),
        (mixing, robust.Krum()),
    ]
    for n, f, cells in rows:
        for layers, cell in zip(stacks, cells.split(" | "), strict=True):
            bound = robust.proved_kappa(layers, n=int(n), f=int(f))
            assert bound == pytest.approx(float(cell), abs=0.0051), (n, f, layers)
