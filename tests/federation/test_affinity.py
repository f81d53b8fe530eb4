"""A mean for each client: the rule by hand, both limits, and what the server and the clients see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.attacks.poisoning import ScaledSignFlip
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import PartitionSpec
from qflsec.defenses.robust import Median
from qflsec.federation import (
    Affinity,
    FederationConfig,
    Gossip,
    Pipeline,
    RunResult,
    RunSpec,
    Stack,
    affinities,
    run_batch,
)
from qflsec.lab.worlds.federation.own import own_mix, own_mixes
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import ThreatModel, client, corrupted_clients, honest_but_curious_server
from tests.federation.claims import BREAST_CANCER

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


def made(make_pipeline: Maker, topology: Affinity | None, **options: object) -> Pipeline:
    pipeline = make_pipeline(
        members=24,
        n_qubits=2,
        n_clients=4,
        local_steps=2,
        partition=PartitionSpec(kind="dirichlet", alpha=0.5, min_records=2),
        **options,
    )
    return pipeline if topology is None else replace(pipeline, topology=topology)


def run(pipeline: Pipeline, spec: RunSpec | None = None) -> RunResult:
    (result,) = run_batch(pipeline, NONE, [spec or RunSpec(seed=1)], secrets="seeded")
    assert result.outcome == "completed", result.outcome
    return result


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.sampled_from(["euclidean", "cityblock"]), st.floats(0, 5), st.integers(0, 999))
def test_the_weights_are_their_formula(n: int, metric: str, beta: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, counts = torch.randn(n, 3, generator=generator), torch.arange(1, n + 1)
    order = 2 if metric == "euclidean" else 1
    apart = [[float((rows[i].double() - rows[j].double()).norm(p=order)) for j in range(n)] for i in range(n)]
    mean = sum(map(sum, apart)) / (n * (n - 1))
    found = affinities(rows, counts, beta=beta, metric=metric)  # type: ignore[arg-type]
    for k in range(n):
        raw = [(j + 1) * exp(-beta * apart[k][j] / mean) for j in range(n)]
        assert found[k].tolist() == pytest.approx([one / sum(raw) for one in raw])


def test_a_round_by_hand(make_pipeline: Maker) -> None:
    topology = Affinity(beta=2.0)
    one = run(made(make_pipeline, topology, rounds=1))
    # what each client has after its own steps is what it has alone
    alone = run(replace(made(make_pipeline, None, rounds=1), topology=Gossip(neighbours="none")))
    counts = torch.tensor([len(rows) for rows in one.clients])
    weights = torch.from_numpy(affinities(alone.models, counts, beta=2.0, metric="euclidean"))
    assert torch.allclose(one.models.double(), weights @ alone.models.double(), atol=1e-6)
    assert float(weights.max(dim=1).values.min()) > float((counts / counts.sum()).min())


def test_both_limits_federated_averaging_and_training_alone(make_pipeline: Maker) -> None:
    averaged = run(made(make_pipeline, None))
    equal = run(made(make_pipeline, Affinity(beta=0.0)))
    assert torch.allclose(equal.models, averaged.params.expand_as(equal.models), atol=2e-6)
    alone = run(replace(made(make_pipeline, None), topology=Gossip(neighbours="none")))
    apart = run(made(make_pipeline, Affinity(beta=1e6)))
    assert torch.equal(apart.models, alone.models), "weight 1 on itself"
    between = run(made(make_pipeline, Affinity(beta=2.0)))
    assert not torch.allclose(between.models, equal.models, atol=1e-3)
    assert not torch.allclose(between.models, alone.models, atol=1e-3)


def test_batched_equals_single_and_who_is_away_keeps_its_model(make_pipeline: Maker) -> None:
    pipeline = made(make_pipeline, Affinity(), participation=0.6)
    liar = RunSpec(seed=1, adversary=ScaledSignFlip(scale=5.0), threat=corrupted_clients(n=1))
    specs = [RunSpec(seed=1), RunSpec(seed=2), liar]
    for one, spec in zip(run_batch(pipeline, NONE, specs), specs, strict=True):
        alone = run(pipeline, spec)
        assert torch.equal(one.models, alone.models)
        assert one.accuracy == alone.accuracy
    short = run(made(make_pipeline, Affinity(), participation=0.5, rounds=1))
    here = short.participants[0]
    assert len(here) == 2
    for index in range(4):
        assert torch.equal(short.models[index], short.initial) == (index not in here)


def test_the_server_reads_single_updates_and_a_client_its_own_model_alone(make_pipeline: Maker) -> None:
    result = run(made(make_pipeline, Affinity()))
    server = result.view(honest_but_curious_server())
    items = server.readable("update", round_index=1)
    assert {item.named for item in items} == {frozenset({index}) for index in range(4)}
    peer = result.view(ThreatModel(name="peer", corrupted=frozenset({client(1)})))
    received = [item for item in peer.readable("model") if not item.derived]
    assert received
    assert {item.receiver for item in received} == {client(1)}
    assert not [item for item in peer.readable("update") if item.named != frozenset({1})]


def test_three_accuracies_stand_side_by_side_and_layers_of_a_star_do_not_fit(make_pipeline: Maker) -> None:
    pipeline = made(make_pipeline, Affinity(beta=0.0))
    mixes = own_mixes(run(pipeline))
    assert set(mixes) == {"personal", "alone", "shared"}
    assert mixes["personal"] == pytest.approx(mixes["shared"])
    for layer in (Median(), Masked()):
        with pytest.raises(IncompatibleStack, match="a server makes a model"):
            Stack.from_layers("star", [layer]).check(pipeline)
    for wrong in ({"metric": "hamming"}, {"beta": -1.0}, {"beta": float("nan")}):
        with pytest.raises(ConfigError):
            Affinity(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_a_mean_of_ones_own_gains_and_what_it_tells() -> None:
    """wpQFL (IEEE TAI 2025): weighted personal models beat one shared model where records are uneven.

    Ten clients, Dirichlet 0.2, twenty records each, 24 seeds; differences seed by seed, on each client's own classes.
    """
    pipeline = Pipeline(
        data=BREAST_CANCER,
        partition=PartitionSpec(kind="dirichlet", alpha=0.2, min_records=4),
        model=build_model({"name": "layered", "n_qubits": 4, "layers": 3, "n_features": 4}),
        federation=FederationConfig(n_clients=10, rounds=25, local_steps=5, learning_rate=0.5),
        topology=Affinity(beta=2.0),
    )
    threat, liar = corrupted_clients(n=1), ScaledSignFlip(scale=5.0)
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(24)]
    lied = [replace(spec, adversary=liar, threat=threat) for spec in specs]
    runs, attacked = (run_batch(pipeline, NONE, part) for part in (specs, lied))
    found = torch.tensor(
        [[*own_mixes(run).values(), own_mix(bad)] for run, bad in zip(runs, attacked, strict=True)]
    )
    told = torch.tensor([_told(run) for run in runs])
    for name, values in (
        ("own mean less shared", found[:, 0] - found[:, 2]),
        ("own mean less alone", found[:, 0] - found[:, 1]),
        ("lost to a liar", found[:, 0] - found[:, 3]),
        ("rank correlation of distances of models and of class shares", told),
    ):
        half = float(stats.t.ppf(0.975, 23) * values.std() / 24**0.5)
        mean = float(values.mean())
        print(f"{name}: {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]")  # noqa: T201
    assert float((found[:, 0] - found[:, 2]).mean()) > 0
    assert float(told.mean()) > 0.3


def _told(run: RunResult) -> float:
    """How far the distances between clients' models rank pairs of clients as their shares of class 1 do."""
    shares = [float(run.client_records(index).labels.double().mean()) for index in range(10)]
    pairs = list(combinations(range(10), 2))
    models = [float((run.models[i] - run.models[j]).norm()) for i, j in pairs]
    return float(stats.spearmanr(models, [abs(shares[i] - shares[j]) for i, j in pairs]).statistic)
