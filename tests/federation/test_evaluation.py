"""When runs are evaluated, runs on given data, and shadow models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.base import ConfigError, stream_seed
from qflsec.data import DataSpec, load
from qflsec.federation import FederationConfig, Pipeline, RunSpec, Stack, layer_from_config, run_batch
from qflsec.federation.round.lanes import lane_of, prepare_lane
from qflsec.federation.shadows import ShadowTrainer
from qflsec.models import build_model
from qflsec.threat import Records

NONE = Stack(name="none")


@pytest.fixture
def make() -> Callable[..., Pipeline]:
    def made(*, test: int = 10, **federation: object) -> Pipeline:
        return Pipeline(
            data=DataSpec(
                name="breast-cancer",
                n_features=2,
                members=8,
                nonmembers=8,
                auxiliary=12,
                test=test,
                balanced=True,
            ),
            model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}),
            federation=FederationConfig(**{"n_clients": 2, "rounds": 3, "learning_rate": 0.4, **federation}),  # type: ignore[arg-type]
        )

    return made


def test_when_it_is_evaluated_changes_the_curve_and_nothing_else(make: Callable[..., Pipeline]) -> None:
    specs = [RunSpec(seed=1, evaluate=when) for when in ("every-round", "last", "never")]  # type: ignore[arg-type]
    every, last, never = run_batch(make(), NONE, specs)
    assert [len(run.accuracy) for run in (every, last, never)] == [3, 1, 0]
    assert (last.accuracy[-1], last.loss[-1]) == (every.accuracy[-1], every.loss[-1])
    assert every.train_loss == last.train_loss == never.train_loss
    assert torch.equal(every.params, last.params)
    assert torch.equal(every.params, never.params)
    alone = run_batch(make(), NONE, [RunSpec(seed=1)])[0]
    assert (alone.accuracy, alone.loss) == (every.accuracy, every.loss), "whoever is evaluated beside it"


def test_without_test_records_there_is_no_accuracy_and_no_error(make: Callable[..., Pipeline]) -> None:
    run = run_batch(make(test=0), NONE, [RunSpec(seed=0)])[0]
    assert (run.outcome, run.accuracy, run.loss, len(run.train_loss)) == ("completed", (), (), 3)


def test_a_run_on_given_data_is_the_run_that_draws_them(make: Callable[..., Pipeline]) -> None:
    pipeline = make()
    given = [lane_of(pipeline, load(pipeline.data, seed), seed) for seed in (0, 1)]
    specs = [RunSpec(seed=seed) for seed in (0, 1)]
    for first, second in zip(
        run_batch(pipeline, NONE, specs, lanes=given), run_batch(pipeline, NONE, specs), strict=True
    ):
        assert torch.equal(first.params, second.params)
        assert first.accuracy == second.accuracy


def trainer(pipeline: Pipeline, seed: int = 0) -> tuple[ShadowTrainer, Records]:
    data = prepare_lane(pipeline, seed).dataset
    rows = torch.cat([data.member_idx, data.nonmember_idx])
    pool = Records(features=data.features[rows], labels=data.labels[rows])
    return ShadowTrainer(pipeline=pipeline, like=data, seed=seed), pool


def test_a_shadow_is_the_pipeline_on_the_records_that_were_chosen(make: Callable[..., Pipeline]) -> None:
    """Shadow 0 on the members is the run of its seed with the target's partition rule, worked out by hand."""
    pipeline = make()
    train, pool = trainer(pipeline)
    members = torch.zeros(3, 16, dtype=torch.bool)
    members[0, :8] = True
    members[1, 8:] = True
    members[2, ::2] = True
    found = train(pool, members)
    seed = stream_seed(0, "shadow", 0)
    none = torch.zeros(0, dtype=torch.long)
    data = replace(
        load(pipeline.data, 0),
        features=pool.features,
        labels=pool.labels,
        member_idx=torch.arange(8),
        nonmember_idx=none,
        auxiliary_idx=none,
        test_idx=none,
    )
    by_hand = run_batch(pipeline, NONE, [RunSpec(seed=seed)], lanes=[lane_of(pipeline, data, seed)])[0]
    assert torch.equal(found[0], by_hand.params)
    assert len({tuple(row.tolist()) for row in found}) == 3
    assert torch.equal(train(pool, members)[1], found[1]), "the same again"
    assert torch.equal(train(pool, members[:2])[1], found[1]), "whoever is trained beside it"


def test_shadows_are_trained_under_the_defenses_that_are_known(make: Callable[..., Pipeline]) -> None:
    train, pool = trainer(make())
    members = torch.arange(16)[None, :] < 8
    clip = Stack.from_layers("clip", [layer_from_config({"name": "client-clip", "clip_norm": 1e-6})])
    plain, clipped = train(pool, members), train(pool, members, clip)
    assert float((plain - clipped).norm()) > 1e-2
    masked = Stack.from_layers("masked", [layer_from_config({"name": "masked"})])
    assert torch.equal(train(pool, members, masked), train(pool, members, masked)), (
        "no secret makes them differ"
    )


@pytest.mark.parametrize("shape", [(16,), (2, 15), (2, 16)])
def test_training_sets_that_do_not_fit_are_refused(
    make: Callable[..., Pipeline], shape: tuple[int, ...]
) -> None:
    train, pool = trainer(make())
    with pytest.raises(ConfigError, match="needs a training set from the pool"):
        train(pool, torch.zeros(shape, dtype=torch.bool))
