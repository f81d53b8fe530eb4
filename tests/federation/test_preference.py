"""Clients that weigh each other's models by their own loss: the rules by hand, both limits, and what peers and a liar get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qflsec.attacks.poisoning import Constant, ScaledSignFlip
from qflsec.base import ConfigError, IncompatibleStack
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import DpSgd
from qflsec.defenses.robust import Median, ReceivedAudit
from qflsec.federation import (
    Affinity,
    FederationConfig,
    Gossip,
    Pipeline,
    Preference,
    RunResult,
    RunSpec,
    Stack,
    preferences,
    run_batch,
)
from qflsec.federation.round.weighing import held_back
from qflsec.lab.worlds.federation.own import alone, own_mix, own_mixes
from qflsec.models import build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import ThreatModel, client, corrupted_clients
from tests.federation.claims import BREAST_CANCER

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


def made(make_pipeline: Maker, topology: Preference | Affinity | None, **options: object) -> Pipeline:
    pipeline = make_pipeline(
        members=24,
        n_qubits=2,
        n_clients=4,
        local_steps=2,
        partition=PartitionSpec(kind="dirichlet", alpha=0.5, min_records=2),
    )
    config = replace(pipeline.federation, **options)  # type: ignore[arg-type]
    pipeline = replace(pipeline, federation=config)
    return pipeline if topology is None else replace(pipeline, topology=topology)


def run(pipeline: Pipeline, spec: RunSpec | None = None) -> RunResult:
    (result,) = run_batch(pipeline, NONE, [spec or RunSpec(seed=1)], secrets="seeded")
    assert result.outcome == "completed", result.outcome
    return result


def losses(run: RunResult, index: int, models: torch.Tensor, every: int = 1) -> list[float]:
    """The mean loss of each model on every so many of a client's records, its first one among them."""
    records = run.client_records(index)
    return [
        float(
            torch.nn.functional.cross_entropy(
                run.pipeline.model(model, records.features[::every]), records.labels[::every]
            )
        )
        for model in models
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.floats(0, 20), st.integers(0, 999))
def test_the_weights_are_their_formulas(n: int, beta: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    told, shares, moved = torch.rand(3, n, generator=generator, dtype=torch.float64)
    before = torch.tensor(0.5)
    soft = preferences(told, shares, rule="softmin", beta=beta, before=before, moved=moved)
    raw = [float(s) * exp(-beta * float(x)) for x, s in zip(told, shares, strict=True)]
    assert soft.tolist() == pytest.approx([one / sum(raw) for one in raw])
    gain = preferences(told, shares, rule="gain", beta=beta, before=before, moved=moved)
    slopes = [max(0.0, 0.5 - float(x)) / float(d) for x, d in zip(told, moved, strict=True)]
    assert gain.tolist() == pytest.approx([one / (sum(slopes) or 1.0) for one in slopes])


def test_a_gain_over_its_distance_is_the_slope() -> None:
    # so that a mean by gains goes where the loss falls most steeply
    point, slope = torch.tensor([0.3, -0.2]).double(), torch.tensor([0.4, -1.1]).double()
    ways = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0], [1.0, -1.0]]).double() * 1e-6
    values = torch.stack([(point + way) @ slope + ((point + way) ** 2).sum() for way in ways])
    gain = preferences(
        values,
        torch.ones(4),
        rule="gain",
        beta=0.0,
        before=point @ slope + (point**2).sum(),
        moved=ways.norm(dim=1),
    )
    falls = (-(ways @ (slope + 2 * point)) / ways.norm(dim=1)).clamp_min(0)
    assert torch.allclose(gain, falls / falls.sum(), atol=1e-5)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4), st.sampled_from([0.1, 0.25, 0.3, 0.5]))
def test_what_is_held_back_is_a_share_of_every_clients_records(counts: list[int], share: float) -> None:
    mask = torch.tensor([[float(place < count) for place in range(9)] for count in counts])
    held = held_back(mask, share)
    assert bool((held <= mask).all())
    expected = [ceil(round(count * share, 9)) if count > 1 else 0 for count in counts]
    assert held.sum(dim=1).tolist() == expected
    assert all(
        left > 0 for left, count in zip((mask - held).sum(dim=1).tolist(), counts, strict=True) if count
    )


@pytest.mark.parametrize("rule", ["softmin", "gain"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_round_by_hand(make_pipeline: Maker, rule: str, share: float) -> None:
    topology = Preference(rule=rule, beta=3.0, held_back=share)  # type: ignore[arg-type]
    one = run(made(make_pipeline, topology, rounds=1))
    without = made(make_pipeline, None, rounds=1)
    trained = torch.stack([_trained(one, without, index, 2 if share else 1) for index in range(4)])
    used = [len(one.client_records(i).labels) for i in range(4)]
    used = [count - ceil(count * share) for count in used]
    for index in range(4):
        told = torch.tensor(losses(one, index, trained, 2 if share else 1))
        (before,) = losses(one, index, one.initial[None], 2 if share else 1)
        weights = torch.tensor(used) * torch.exp(-3 * told)
        if rule == "gain":
            weights = (before - told).clamp_min(0) / (trained - one.initial).norm(dim=1)
        own = trained[index] if not bool(weights.any()) else (weights / weights.sum()) @ trained
        assert torch.allclose(one.models[index], own, atol=1e-5)
    counts = torch.tensor(used).float()
    assert not torch.allclose(one.models[0], (counts / counts.sum()) @ trained, atol=1e-3)


def _trained(one: RunResult, pipeline: Pipeline, index: int, every: int) -> torch.Tensor:
    """What a client has after its own steps on the records that it does not hold back."""
    records, params, rate = one.client_records(index), one.initial, pipeline.federation.learning_rate
    left = [place for place in range(len(records.labels)) if every == 1 or place % every]
    for _ in range(2):
        leaf = params.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(
            pipeline.model(leaf, records.features[left]), records.labels[left]
        )
        params = params - rate * torch.autograd.grad(loss, leaf)[0]
    return params.detach()


def test_both_limits_federated_averaging_and_the_best_model(make_pipeline: Maker) -> None:
    equal = run(made(make_pipeline, Preference(beta=0.0)))
    averaged = run(made(make_pipeline, None))
    assert torch.allclose(equal.models, averaged.params.expand_as(equal.models), atol=2e-6)
    assert torch.equal(equal.models, run(made(make_pipeline, Affinity(beta=0.0))).models)
    trained = run(alone(made(make_pipeline, None, rounds=1))).models
    apart = run(made(make_pipeline, Preference(beta=1e9), rounds=1))
    best = [torch.tensor(losses(apart, index, trained)).argmin() for index in range(4)]
    assert torch.equal(apart.models, trained[torch.stack(best)]), "everybody goes on from what fits it best"
    between = run(made(make_pipeline, Preference(beta=4.0)))
    assert not torch.allclose(between.models, equal.models, atol=1e-3)


def test_batched_equals_single_and_counts_what_is_trained_on(make_pipeline: Maker) -> None:
    pipeline = made(make_pipeline, Preference(held_back=0.25), batch_size=2, participation=0.8)
    liar = RunSpec(seed=1, adversary=ScaledSignFlip(scale=5.0), threat=corrupted_clients(n=1))
    specs = [RunSpec(seed=1), RunSpec(seed=2), liar]
    for one, spec in zip(run_batch(pipeline, NONE, specs), specs, strict=True):
        single = run(pipeline, spec)
        assert torch.equal(one.models, single.models)
        assert one.accuracy == single.accuracy
    full, less = (run(made(make_pipeline, Preference(held_back=share))) for share in (0.0, 0.5))
    assert less.costs["record_gradients"] < 0.6 * full.costs["record_gradients"]


def test_a_peer_reads_every_update_in_every_round(make_pipeline: Maker) -> None:
    result = run(made(make_pipeline, Preference(), rounds=3))
    peer = ThreatModel(name="peer", corrupted=frozenset({client(1)}))
    for round_index in range(3):
        items = result.view(peer).readable("update", round_index=round_index)
        assert {item.named for item in items if item.k == 1} >= {frozenset({index}) for index in (0, 2, 3)}
    # and one of a federated mean reads none: with the others' sum alone k is 3
    shared = run(made(make_pipeline, None, rounds=3)).view(peer)
    assert min(item.k for item in shared.readable("update", "aggregate", "step") if item.k) == 3


def test_a_liar_that_fits_nobody_gets_no_weight(make_pipeline: Maker) -> None:
    liar = RunSpec(seed=1, adversary=ScaledSignFlip(scale=50.0), threat=corrupted_clients(n=1))
    moved = []
    for topology in (Preference(rule="gain"), Preference(beta=0.0)):
        honest, lied = (run(made(make_pipeline, topology, rounds=1), spec) for spec in (None, liar))
        moved.append(float((honest.models - lied.models)[1:].abs().max()))
    assert 3 * moved[0] < moved[1], (
        "the honest go without it, and share among themselves what it would have had"
    )


@pytest.mark.parametrize("topology", [Preference(), Preference(rule="gain"), Preference(beta=0.0)])
def test_a_model_whose_loss_overflows_counts_nothing_and_leaves_the_others_their_weights(
    make_pipeline: Maker, topology: Preference
) -> None:
    told = torch.tensor([0.4, torch.nan, 0.2, torch.inf])
    asked = {"rule": topology.rule, "beta": topology.beta, "before": torch.tensor(0.5)}
    found = preferences(told, torch.ones(4), moved=torch.ones(4), **asked)
    kept = preferences(told[[0, 2]], torch.ones(2), moved=torch.ones(2), **asked)
    assert torch.equal(found[[0, 2]], kept)
    assert found[[1, 3]].tolist() == [0.0, 0.0]

    pipeline = replace(
        made(make_pipeline, topology, rounds=1),
        model=build_model({"name": "classical", "n_features": 2, "hidden": [2]}),
    )
    liar = RunSpec(seed=1, adversary=Constant(value=1e38), threat=corrupted_clients(n=1))
    lied, single = run(pipeline, liar), run(replace(pipeline, topology=Gossip(neighbours="none")))
    assert bool(torch.isfinite(lied.models[1:]).all())
    assert not torch.equal(lied.models[1:], single.models[1:]), "they still share among themselves"


def test_what_does_not_go_together(make_pipeline: Maker) -> None:
    pipeline = made(make_pipeline, Preference())
    assert set(own_mixes(run(pipeline))) == {"personal", "alone", "shared"}
    for layer in (Median(), Masked(), ReceivedAudit(), DpSgd(clip_norm=1.0, noise_multiplier=1.0)):
        with pytest.raises(IncompatibleStack, match="weigh"):
            Stack.from_layers("other", [layer]).check(pipeline)
    for wrong in ({"rule": "best"}, {"beta": -1.0}, {"held_back": 0.6}, {"held_back": float("nan")}):
        with pytest.raises(ConfigError):
            Preference(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 2"):
        Preference().check(1)
    with pytest.raises(ConfigError, match="keeps to itself"):
        replace(pipeline, personal=("weights",))


@pytest.mark.slow
def test_what_weights_by_ones_own_loss_gain() -> None:
    """FedFomo (ICLR 2021), abstract: weights by how much a client gains beat one shared model where records are uneven.

    Ten clients, Dirichlet 0.2, twenty records each, 24 seeds; differences seed by seed, on each client's own classes.
    """
    pipeline = Pipeline(
        data=BREAST_CANCER,
        partition=PartitionSpec(kind="dirichlet", alpha=0.2, min_records=4),
        model=build_model({"name": "layered", "n_qubits": 4, "layers": 3, "n_features": 4}),
        federation=FederationConfig(n_clients=10, rounds=25, local_steps=5, learning_rate=0.5),
    )
    specs = [RunSpec(seed=seed, evaluate="never") for seed in range(24)]
    liar, threat = ScaledSignFlip(scale=5.0), corrupted_clients(n=1)

    def mixes(one: Pipeline, *, lied: bool = False) -> torch.Tensor:
        asked = [replace(spec, adversary=liar, threat=threat) for spec in specs] if lied else specs
        return torch.tensor([own_mix(result) for result in run_batch(one, NONE, asked)])

    shared, single = mixes(pipeline), mixes(replace(pipeline, topology=Gossip(neighbours="none")))
    gains = {}
    for name, topology in (
        ("softmin 4", Preference()),
        ("softmin 4, a quarter held back", Preference(held_back=0.25)),
        ("gain", Preference(rule="gain")),
        ("gain, a quarter held back", Preference(rule="gain", held_back=0.25)),
    ):
        weighed = replace(pipeline, topology=topology)
        own, lied = mixes(weighed), mixes(weighed, lied=True)
        print(f"{name}: {float(own.mean()):.3f}")  # noqa: T201
        for other, values in (("shared", own - shared), ("alone", own - single), ("lied to", own - lied)):
            mean, half = float(values.mean()), float(stats.t.ppf(0.975, 23) * values.std() / 24**0.5)
            print(f"  less {other}: {mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]")  # noqa: T201
            gains[name, other] = mean
    assert gains["softmin 4", "shared"] > 0
    assert gains["gain, a quarter held back", "alone"] < 0, (
        "five records less to train on cost more than the means gain"
    )
