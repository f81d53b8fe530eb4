"""All clients' records behind sums, and a first layer in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from qflsec.attacks import Blocked, CohortChallenge, InversionClaim
from qflsec.attacks.inversion import CohortInversion, DeepLeakage, FirstLayer
from qflsec.attacks.inversion.cohort import _mixed
from qflsec.base import ConfigError, IncompatibleAttack
from qflsec.federation import FederationConfig, Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import InversionTruth, TrialScore, score_claim
from qflsec.models import Model
from qflsec.threat import NOBODY, Item, ThreatModel, View, coalition, honest_but_curious_server


def judge(
    attack: CohortInversion | DeepLeakage | FirstLayer, result: RunResult, threat: ThreatModel
) -> TrialScore | Blocked:
    asked, truth = challenge_for(attack, result, seed=result.spec.seed, threat=threat)
    claim = attack(result.view(threat), asked)
    return claim if isinstance(claim, Blocked) else score_claim(claim, truth)


def run_of(pipe: Pipeline, layers: Stack) -> RunResult:
    (result,) = run_batch(pipe, layers, [RunSpec(seed=0)])
    return result


def test_two_rounds_of_masked_sums_give_four_clients_records_away(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    """16 unknowns behind 2 x 36 numbers. To an attack on one client the other three are noise."""
    result = run_of(pipeline(members=4, n_clients=4, rounds=2), stack("masked"))
    found = judge(CohortInversion(rounds=2), result, honest_but_curious_server())
    assert isinstance(found, TrialScore)
    assert found.metrics["success_rate"].value == 1
    assert len(found.raw["errors"]) == 4
    alone = judge(DeepLeakage(restarts=8), result, honest_but_curious_server())
    assert isinstance(alone, TrialScore)
    assert alone.metrics["success_rate"].value == 0
    assert "other clients' shares" in str(alone.raw["why"])


@pytest.mark.parametrize("seed", [0, 1])
def test_single_updates_are_searched_apart(
    seed: int, pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    """Which client has which label is found as well, whatever their order, and told in the order of the clients."""
    (result,) = run_batch(pipeline(members=4, n_clients=4, rounds=1), stack(), [RunSpec(seed=seed)])
    asked, truth = challenge_for(CohortInversion(), result, seed=seed, threat=honest_but_curious_server())
    assert isinstance(asked, CohortChallenge)
    assert isinstance(truth, InversionTruth)
    claim = CohortInversion()(result.view(honest_but_curious_server()), asked)
    assert isinstance(claim, InversionClaim)
    assert claim.labels is not None
    assert claim.labels.tolist() == truth.records.labels.tolist()
    assert torch.allclose(claim.features, truth.records.features, atol=1e-4)
    assert claim.misfit is not None
    assert claim.misfit(truth.records.features, truth.records.labels) < 1e-8
    assert claim.misfit(truth.records.features.flip(0), truth.records.labels.flip(0)) > 1e-2


def test_what_sums_connect_is_searched_together() -> None:
    rosters = [frozenset({3, 4}), frozenset({0}), frozenset({4, 5}), frozenset({1, 0})]
    assert _mixed(rosters, range(7)) == [frozenset({0, 1, 2, 6}), frozenset({3, 4, 5})]


def test_which_items_are_read(vqc: Model, item: Callable[..., Item], view: Callable[..., View]) -> None:
    asked = CohortChallenge(
        seed=0,
        attack="cohort",
        clients=(0, 1, 2),
        counts=(1, 2, 1),
        n_features=4,
        feature_range=(0.0, math.pi),
        training=FederationConfig(),
    )
    zeros = torch.zeros(36)
    models = [item("model", zeros, round_index=t) for t in (0, 1)]
    items = [
        item("aggregate", zeros, about=frozenset({0, 1, 2}), round_index=0),
        item("aggregate", zeros, about=frozenset({0, 1}), round_index=0),
        item("update", zeros, about=frozenset({2}), round_index=0),
        item("aggregate", zeros, about=frozenset({0, 1, 2, 3}), round_index=1),  # somebody else is in it
        item("aggregate", zeros, about=frozenset({0, 1, 2}), round_index=1),
    ]
    attack = CohortInversion(rounds=2)
    seen = attack.observations(view(*models, *items, model=vqc), asked)
    assert [one.about for one in seen] == [{2}, {0, 1}, {0, 1, 2}]
    assert attack.missing(view(*items, model=vqc), asked) is not None
    blocked = attack(view(models[0], items[3], model=vqc), asked)
    assert isinstance(blocked, Blocked)
    assert "sum of known honest clients" in blocked.reason


def test_the_cohort_is_honest(pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]) -> None:
    result = run_of(pipeline(members=8, n_clients=4, rounds=1), stack("masked"))
    asked, truth = challenge_for(CohortInversion(), result, seed=0, threat=coalition(server=True, n=2))
    assert isinstance(asked, CohortChallenge)
    assert isinstance(truth, InversionTruth)
    assert (asked.clients, asked.counts, asked.n_records) == ((2, 3), (2, 2), 4)
    assert torch.equal(truth.records.features[2:], result.client_records(3).features)
    with pytest.raises(IncompatibleAttack, match="honest client"):
        challenge_for(CohortInversion(), result, seed=0, threat=coalition(server=True, n=4))
    with pytest.raises(ConfigError, match="rounds"):
        CohortInversion(rounds=0)


HYBRID = {"name": "hybrid", "n_features": 4, "n_qubits": 2, "layers": 1}


@pytest.mark.parametrize("training", [{}, {"local_steps": 3, "momentum": 0.5}], ids=["step", "steps"])
def test_a_first_layer_gives_one_record_in_closed_form(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack], training: dict[str, object]
) -> None:
    result = run_of(pipeline(members=10, rounds=1, model=HYBRID, **training), stack())
    found = judge(FirstLayer(), result, honest_but_curious_server())
    assert isinstance(found, TrialScore)
    assert found.metrics["success_rate"].value == 1
    assert found.advantage > 0.9999


def test_a_first_layer_mixes_several_records(
    pipeline: Callable[..., Pipeline], stack: Callable[..., Stack]
) -> None:
    result = run_of(pipeline(members=20, rounds=1, model=HYBRID), stack())
    asked, truth = challenge_for(FirstLayer(), result, seed=0)
    claim = FirstLayer()(result.view(honest_but_curious_server()), asked)
    assert isinstance(claim, InversionClaim)
    assert isinstance(truth, InversionTruth)
    assert score_claim(claim, truth).metrics["success_rate"].value < 1
    with pytest.raises(IncompatibleAttack, match="classical first layer"):
        FirstLayer().check(pipeline(members=10), NOBODY)
    with pytest.raises(ConfigError, match="rounds"):
        FirstLayer(rounds=0)
