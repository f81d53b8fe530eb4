"""Clean records at the server, and measurements of records: what they stop, and what they let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.attacks.backdoor import FeatureTrigger
from qflsec.attacks.poisoning import ModelReplacement
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import DataSpec
from qflsec.defenses.backdoor import ValidationGate, measured, measurement_clusters, suspects
from qflsec.federation import FederationConfig, Pipeline, RoundUpdates, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.scoring import score_backdoor, score_poisoning, screened
from qflsec.models import build_model
from qflsec.threat import corrupted_clients

MakeRound = Callable[..., RoundUpdates]
NONE = Stack(name="none")


def pipeline(qubits: int, rounds: int, **data: Any) -> Pipeline:
    sizes = {"members": 100, "nonmembers": 0, "auxiliary": 50, "test": 250}
    return Pipeline(
        data=DataSpec(name="breast-cancer", n_features=qubits, **{**sizes, **data}),
        model=build_model({"name": "vqc", "n_qubits": qubits, "layers": 3}),
        federation=FederationConfig(n_clients=10, rounds=rounds, local_steps=2, learning_rate=0.5),
    )


# -- the gate ---------------------------------------------------------------------------------------


def test_the_gate_lets_through_what_is_no_worse(round_updates: MakeRound) -> None:
    rows = torch.tensor([[0.0], [1.0], [0.5], [9e9], [-1.0]])

    def loss(models: torch.Tensor) -> torch.Tensor:
        found = 1.0 - models[:, 0].double()
        return torch.where(models[:, 0] > 1e9, torch.nan, found)

    batch = round_updates(rows, broadcast=torch.zeros(1), validation=loss)
    assert ValidationGate(tolerance=0.0).bound(batch).ids == (0, 1, 2)
    assert ValidationGate(tolerance=2.0).bound(batch).ids == (0, 1, 2, 4)
    worse = batch.with_updates(torch.tensor([[-1.0], [-0.2], [-3.0], [9e9], [-2.0]]))
    assert ValidationGate(tolerance=0.1).bound(worse).ids == (1,), "a round has a result"
    assert ValidationGate().bound(replace(batch, validation=None)).ids == batch.ids


def test_the_gate_stops_an_enlarged_update_and_not_a_quiet_trigger() -> None:
    """Three runs side by side and one alone: the server's records are the run's own."""
    gate, threat = Stack.from_layers("gate", [ValidationGate()]), corrupted_clients(n=2)
    replaced, quiet = ModelReplacement(round=9), FeatureTrigger(target_class=0, features=(1,), boost=1.0)
    specs = [RunSpec(seed=0), *(RunSpec(seed=0, adversary=a, threat=threat) for a in (replaced, quiet))]
    honest, stopped, let_through = run_batch(pipeline(4, 10), gate, specs)
    open_honest, broken = run_batch(pipeline(4, 10), NONE, specs[:2])
    assert score_poisoning(broken, open_honest).advantage > 0.5
    assert score_poisoning(stopped, honest).advantage < 0.1
    assert score_backdoor(quiet, let_through, honest, seed=0).metrics["accuracy"].value > 0.8
    (alone,) = run_batch(pipeline(4, 10), gate, specs[1:2])
    assert torch.equal(alone.params, stopped.params)


def test_what_the_gate_refuses() -> None:
    for make in (lambda: ValidationGate(records=0), lambda: ValidationGate(tolerance=-1.0)):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(IncompatibleStack, match="auxiliary"):
        ValidationGate().check(pipeline(2, 1, auxiliary=0, preprocessing="fixed-range", reduction="first"))
    hybrid = build_model({"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 2})
    with pytest.raises(IncompatibleStack, match="keep parts"):
        ValidationGate().check(replace(pipeline(2, 1), model=hybrid, personal=("circuit",)))


# -- measurements -----------------------------------------------------------------------------------


def test_a_small_group_apart_is_found_and_a_cloud_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    cloud = 0.3 * torch.randn(100, 4, generator=generator)
    few = torch.tensor([2.0, 0, 0, 0]) + 0.1 * torch.randn(10, 4, generator=generator)
    answers = torch.zeros(110, dtype=torch.long)
    (found,) = measurement_clusters(torch.cat([cloud, few]), answers)
    assert found.rows == tuple(range(100, 110))
    assert found.share == pytest.approx(10 / 110)
    assert found.silhouette > 0.6
    (vague,) = measurement_clusters(cloud, answers[:100])
    assert vague.silhouette < 0.4
    (shuffled,) = measurement_clusters(torch.cat([few, cloud]), answers)
    assert shuffled.rows == tuple(range(10))
    assert measurement_clusters(cloud[:3], answers[:3]) == []
    assert measurement_clusters(cloud[:1].expand(50, -1), answers[:50]) == [], "one point is no two groups"


def test_every_wire_is_measured() -> None:
    model = build_model({"name": "vqc", "n_qubits": 3, "layers": 1})
    params, records = torch.zeros(9), torch.tensor([[0.0, 1.0, 2.0]])
    points = measured(model, params, records)
    # RX(x) leaves <Z> = cos x, and the ring of CNOTs multiplies: 0->1, 1->2, 2->0
    first, second, third = torch.cos(records[0])
    assert torch.allclose(
        points[0], torch.stack([second * third, first * second, first * second * third]), atol=1e-5
    )
    classical = build_model({"name": "classical", "n_features": 3, "n_classes": 2})
    drawn = classical.initial(torch.Generator().manual_seed(0))
    assert torch.equal(measured(classical, drawn, records), classical(drawn, records))


def attacked(attack: FeatureTrigger, seeds: range) -> list[RunResult]:
    threat = corrupted_clients(n=2)
    specs = [RunSpec(seed=seed, adversary=attack, threat=threat, evaluate="never") for seed in seeds]
    return run_batch(pipeline(4, 20), NONE, specs)


def test_a_trigger_is_found_where_it_forms_a_group() -> None:
    """In one run of three here; of clean records few are suspected."""
    attack = FeatureTrigger(target_class=0, features=(1, 3))
    runs = attacked(attack, range(1, 4))
    tenth = [screened(attack, run, share=0.1) for run in runs]
    assert max(found["recall"].value for found in tenth) > 0.9
    assert min(found["recall"].value for found in tenth) < 0.1
    best = max(range(3), key=lambda row: tenth[row]["f1"].value)
    assert tenth[best]["f1"].value > 3 * tenth[best]["f1"].baseline
    for run in runs:
        clean = screened(attack, run, share=0.0)
        assert set(clean) == {"false_alarms"}
        assert clean["false_alarms"].value < 0.1
    run = runs[best]
    # of a batch of nothing but triggers most pass
    test = run.records("test")
    marked = attack.trigger(test.features[attack.victims(test)], torch.Generator())
    assert float(suspects(run.pipeline.model, run.params, marked).double().mean()) <= 0.4
    with pytest.raises(ConfigError, match="no such batch"):
        screened(attack, run, share=0.9)
    for change in ({"largest": 0.0}, {"separation": 2.0}):
        with pytest.raises(ConfigError):
            suspects(run.pipeline.model, run.params, marked, **change)


@pytest.mark.slow
def test_published_figures_of_measurement_clustering_are_not_reached_here() -> None:
    """Published (arXiv:2511.15376, abstract): F1 of 0.758, 0.857 and 0.932 at 1, 5 and 10 % of triggers.

    Thresholds were chosen on seeds 0 to 3; these are others. Four features, two of which are the trigger.
    """
    attack = FeatureTrigger(target_class=0, features=(1, 3))
    runs = attacked(attack, range(4, 16))
    found = {
        share: mean_over_seeds([screened(attack, run, share=share)["f1"].value for run in runs])
        for share in (0.01, 0.05, 0.1)
    }
    for share, published in ((0.01, 0.758), (0.05, 0.857), (0.1, 0.932)):
        assert found[share].high < published
