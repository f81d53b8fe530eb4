"""Members of a mean of metrics: found off single clients and off sums, and not where there is nothing to find."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares

from qflsec.attacks import Blocked, MembershipClaim
from qflsec.attacks.membership import GradientRegression, MetricFit
from qflsec.attacks.uploaded_metrics import metrics_of_records
from qflsec.base import ConfigError
from qflsec.data import DataSpec
from qflsec.federation import (
    FederationConfig,
    Layer,
    NaturalGradient,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.lab.challenges import challenge_for
from qflsec.lab.scoring import score_claim
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import honest_but_curious_server

SERVER = honest_but_curious_server(knows=("architecture", "auxiliary"))
PIPELINE = Pipeline(
    data=DataSpec(
        name="breast-cancer", n_features=4, balanced=True, members=24, nonmembers=24, auxiliary=20, test=10
    ),
    model=build_model({"name": "vqc", "n_qubits": 4, "layers": 2, "n_features": 4, "n_classes": 2}),
    federation=FederationConfig(
        n_clients=6, rounds=1, learning_rate=0.3, natural_gradient=NaturalGradient(solved_by="server")
    ),
)


@cache
def trained(*, masked: bool = False, seed: int = 0) -> RunResult:
    layers: list[Layer] = [Masked()] if masked else []
    specs = [RunSpec(seed=seed, evaluate="never")]
    return run_batch(PIPELINE, Stack.from_layers("s", layers), specs, secrets="seeded")[0]


def advantage(attack: MetricFit | GradientRegression, run: RunResult) -> float:
    challenge, truth = challenge_for(attack, run, seed=run.spec.seed, threat=SERVER)
    claim = attack(run.view(SERVER), challenge)
    assert isinstance(claim, MembershipClaim)
    return score_claim(claim, truth).advantage


def test_every_member_is_found_off_a_sum_over_all_clients() -> None:
    """24 members among 48 candidates behind one sum of one round; its 24 gradients are too few equations for that."""
    for seed in (0, 1):
        assert advantage(MetricFit(), trained(seed=seed)) == 1.0
        assert advantage(MetricFit(), trained(seed=seed, masked=True)) > 0.99
        assert advantage(GradientRegression(), trained(seed=seed, masked=True)) < 0.7


def test_a_members_weight_is_one_record() -> None:
    run = trained()
    challenge, truth = challenge_for(MetricFit(), run, seed=0, threat=SERVER)
    claim = MetricFit()(run.view(SERVER), challenge)
    assert isinstance(claim, MembershipClaim)
    assert torch.allclose(claim.scores, truth.member.double(), atol=0.05)


def test_the_metric_of_one_record_is_the_record() -> None:
    """No candidates: least squares over the features, from six starts, finds the only record of a client, whose label it needs not."""
    alone = replace(
        PIPELINE,
        data=replace(PIPELINE.data, members=6),
        federation=replace(PIPELINE.federation, natural_gradient=NaturalGradient(solved_by="server")),
    )
    (run,) = run_batch(alone, Stack(name="none"), [RunSpec(seed=1, evaluate="never")])
    low, high = run.feature_range
    starts = np.random.default_rng(0)

    def found(metric: torch.Tensor) -> Any:
        def misfit(record: Any) -> Any:
            features = torch.tensor(record, dtype=torch.float32)[None]
            made = metrics_of_records(alone.model, len(metric), run.initial, features)[0]
            return (made - metric.double()).numpy()

        tried = [
            least_squares(misfit, starts.uniform(low, high, 4), bounds=(low, high), diff_step=1e-3)
            for _ in range(6)
        ]
        return min(tried, key=lambda one: float(one.cost)).x

    own = {index: run.client_records(index).features[0].numpy() for index in (0, 1)}
    for index, true in own.items():
        (item,) = run.view(SERVER).readable("update", about=index)
        assert item.metric is not None
        record = found(item.metric)
        assert np.abs(record - true).max() < 1e-4
        assert np.abs(record - own[1 - index]).max() > 0.05


def test_metrics_of_other_records_name_nobody() -> None:
    """The control: the same view, with the metrics of records that are no candidates in the place of the members'."""
    run = trained()
    view, others = run.view(SERVER), run.records("test").features
    swapped = replace(
        view,
        items=tuple(
            item
            if item.metric is None
            else replace(
                item,
                metric=metrics_of_records(
                    view.granted.model, len(item.metric), view.base_of(item), others
                ).mean(dim=0),
            )
            for item in view.items
        ),
    )
    challenge, truth = challenge_for(MetricFit(), run, seed=0, threat=SERVER)
    claim = MetricFit()(swapped, challenge)
    assert isinstance(claim, MembershipClaim)
    assert abs(score_claim(claim, truth).advantage) < 0.4


def test_where_clients_solve_there_is_nothing_to_fit() -> None:
    at_home = replace(PIPELINE.federation, natural_gradient=NaturalGradient())
    run = run_batch(
        replace(PIPELINE, federation=at_home), Stack(name="none"), [RunSpec(seed=0, evaluate="never")]
    )[0]
    challenge, _ = challenge_for(MetricFit(), run, seed=0, threat=SERVER)
    blocked = MetricFit()(run.view(SERVER), challenge)
    assert isinstance(blocked, Blocked)
    assert "no uploaded metric" in blocked.reason
    with pytest.raises(ConfigError, match="'rounds' is too small"):
        MetricFit(rounds=0)
