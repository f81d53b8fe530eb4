"""Trigger search: a planted direction and none, the outlier by SciPy, and backdoors of runs beside clean ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import median_abs_deviation

from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import FoundTrigger, anomaly, search_triggers, suspected_targets
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor
from qflsec.models import Classical, build_model
from qflsec.threat import corrupted_clients

RANGE = (0.0, math.pi)


@pytest.mark.parametrize("planted", [True, False])
def test_a_planted_feature_is_found_and_its_class_stands_apart(planted: bool) -> None:
    """A linear model of six classes: one feature turns every record to class 2, or, as the control, none does."""
    model = Classical(n_features=7, n_classes=6)
    weight = 2.0 * torch.eye(6, 7) + 0.3 * torch.eye(6, 7).roll(1, dims=1)
    weight[2, 6] = 8.0 if planted else 0.0
    params = torch.cat([weight.flatten(), torch.zeros(6)])
    generator = torch.Generator().manual_seed(0)
    records = 2.0 * torch.rand(40, 7, generator=generator)
    records[:, 6] = 0.0
    found = search_triggers(model, params, records, feature_range=RANGE)
    assert [one.target for one in found] == list(range(6))
    for one in found:
        answers = model(params, one.on(records)).argmax(dim=-1)
        assert float((answers == one.target).double().mean()) == one.success >= 0.9
        assert float(one.mask.min()) >= 0.0
        assert float(one.values.max()) <= math.pi
    if planted:
        assert int(found[2].mask.argmax()) == 6
        assert found[2].size < 0.7 * min(one.size for one in found if one.target != 2)
    assert suspected_targets(found) == ((2,) if planted else ())


def test_a_class_that_nothing_turns_to() -> None:
    model = Classical(n_features=2, n_classes=3)
    params = torch.tensor([1.0, 0, 0, 1, 0, 0, 0, 0, -9])
    first, _, last = search_triggers(model, params, torch.rand(9, 2), feature_range=(0.0, 1.0), steps=60)
    assert first.success >= 0.9
    assert (last.size, last.success) == (2.0, 0.0)


def test_the_outlier_is_scipys() -> None:
    for seed in range(20):
        sizes = np.random.default_rng(seed).gamma(4.0, size=3 + seed)
        expected = (np.median(sizes) - sizes) / median_abs_deviation(sizes, scale="normal")
        assert np.allclose(anomaly(torch.from_numpy(sizes)), expected)
    assert anomaly(torch.tensor([1.0, 2.0, 2.0, 2.0])).tolist() == [math.inf, 0.0, 0.0, 0.0]
    with pytest.raises(ConfigError, match="so few classes"):
        anomaly(torch.ones(2))


def test_what_the_search_refuses() -> None:
    model = Classical(n_features=2)
    for bad in (
        {"success": 0.0},
        {"steps": 0},
        {"weights": ()},
        {"weights": (-1.0,)},
        {"feature_range": (1.0, 1.0)},
    ):
        with pytest.raises(ConfigError, match="out of range"):
            search_triggers(
                model, torch.zeros(model.n_params), torch.zeros(2, 2), **{"feature_range": RANGE, **bad}
            )


def searched(seeds: range) -> list[tuple[float, tuple[FoundTrigger, ...], tuple[FoundTrigger, ...]]]:
    """The backdoor's advantage, and what is found after it and without it: ten digits, two of ten clients, 50 records."""
    pipeline = Pipeline(
        data=DataSpec(name="digits", n_features=8, members=600, nonmembers=0, auxiliary=100, test=300),
        model=build_model({"name": "classical", "n_features": 8, "hidden": [16], "n_classes": 10}),
        federation=FederationConfig(n_clients=10, rounds=40, local_steps=5, learning_rate=1.0),
    )
    attack = FeatureTrigger(target_class=3, features=(7,), boost=3.0)
    results = []
    for seed in seeds:
        specs = [
            RunSpec(seed=seed, evaluate="never"),
            RunSpec(seed=seed, evaluate="never", adversary=attack, threat=corrupted_clients(n=2)),
        ]
        honest, lied = run_batch(pipeline, Stack(name="none"), specs)
        after, without = (
            search_triggers(
                pipeline.model,
                run.params,
                run.records("auxiliary").features[:50],
                feature_range=run.feature_range,
            )
            for run in (lied, honest)
        )
        results.append((score_backdoor(attack, lied, honest, seed=seed).advantage, after, without))
    return results


def test_a_backdoor_has_the_smallest_trigger() -> None:
    ((advantage, after, without),) = searched(range(1))
    assert advantage > 0.8
    assert min(after, key=lambda one: one.size).target == 3
    assert after[3].size < 0.8 * without[3].size


@pytest.mark.slow
def test_rates_of_detection_and_of_false_alarms() -> None:
    """Of 20 seeds: how often the class is suspected, has the smallest trigger, and how often a clean model is suspected."""
    results = searched(range(20))
    caught = sum(3 in suspected_targets(after) for _, after, _ in results)
    first = sum(min(after, key=lambda one: one.size).target == 3 for _, after, _ in results)
    alarms = sum(bool(suspected_targets(without)) for *_, without in results)
    wrong = sum(bool({*suspected_targets(after)} - {3}) for _, after, _ in results)
    assert float(np.mean([advantage for advantage, *_ in results])) > 0.75
    assert (caught, first, alarms, wrong) == (
        pytest.approx(10, abs=3),
        pytest.approx(16, abs=3),
        pytest.approx(5, abs=3),
        pytest.approx(2, abs=2),
    )
