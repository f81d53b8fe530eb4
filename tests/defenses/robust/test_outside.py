"""What a stack promises: cells outside the guarantee of its robust layers say so, and bounds of layers together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from qflsec.base import IncompatibleStack, find, names
from qflsec.defenses import robust
from qflsec.federation import FedAvg, Layer, Pipeline, RunSpec, ServerLayer, Stack, run_batch
from qflsec.models import build_model
from qflsec.threat import corrupted_clients

NNM, KRUM, TM = robust.NearestNeighbourMixing(), robust.Krum(), robust.TrimmedMean()


@pytest.mark.parametrize(
    ("layers", "n", "declared", "corrupted", "why"),
    [
        ([TM], 10, 2, 2, ""),
        ([TM], 10, 4, 4, ""),
        ([TM], 10, 2, 3, "'trimmed-mean' reckons with f = 2 corrupted clients of 10, and 3 are"),
        ([robust.Median()], 10, 2, 4, ""),
        ([robust.Median()], 10, 2, 5, "'median' needs f < n/2, and n = 10, f = 5"),
        ([KRUM], 9, 3, 3, ""),
        ([KRUM], 8, 3, 3, "'krum' needs 2f + 2 < n, and n = 8, f = 3"),
        ([KRUM], 8, 3, 1, "'krum' needs 2f + 2 < n, and n = 8, f = 3"),
        ([robust.Bulyan()], 11, 2, 2, ""),
        ([robust.Bulyan()], 10, 2, 2, "'bulyan' needs n >= 4f + 3, and n = 10, f = 2"),
        ([robust.Mean()], 10, 2, 1, "'mean' needs f = 0, and n = 10, f = 1"),
        ([FedAvg()], 10, 2, 9, ""),
        ([robust.NormBound(max_norm=1.0)], 10, 2, 9, ""),
        ([robust.NormBound()], 10, 2, 5, "'norm-bound' needs"),
        ([robust.Bucketing(size=2), robust.Median()], 10, 2, 2, ""),
        ([robust.Bucketing(size=2), robust.Median()], 10, 2, 3, "'bucketing' needs f < n / (2 size)"),
        ([robust.Bucketing(size=2), TM], 10, 3, 2, "'trimmed-mean' needs f < n/2, and n = 5, f = 3"),
        (
            [NNM, KRUM],
            10,
            1,
            2,
            "'nnm' reckons with f = 1 corrupted clients of 10, and 2 are; 'krum' reckons",
        ),
    ],
)
def test_why_a_cell_lies_outside(
    layers: list[Layer], n: int, declared: int, corrupted: int, why: str
) -> None:
    found = robust.outside_guarantee(layers, n=n, declared=declared, corrupted=corrupted)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_bounds_of_layers_together() -> None:
    r = 4 / 12
    assert robust.proved_kappa([TM], n=20, f=4) == pytest.approx(r)
    assert robust.proved_kappa([NNM, TM], n=20, f=4) == pytest.approx(8 * 4 / 16 * (1 + r))
    twice = robust.proved_kappa([NNM, NNM, TM], n=20, f=4)
    assert twice == pytest.approx(2 * (1 + 2 * (1 + r)))
    assert robust.proved_kappa([robust.AdaptiveClipping(), TM], n=20, f=4) is None, "not derived"
    assert robust.proved_kappa([TM], n=20, f=10) is None
    assert robust.proved_kappa([NNM, FedAvg()], n=20, f=4) is None
    assert robust.proved_kappa([robust.FoolsGold()], n=20, f=4) is None


ROBUST = [
    name
    for name in names("layer")
    if find("layer", name).__module__.startswith("qflsec.defenses.robust")
    and issubclass(find("layer", name), ServerLayer)
]


@pytest.mark.parametrize("name", ROBUST)
def test_every_layer_states_what_it_stands_and_needs(name: str) -> None:
    layer = find("layer", name)()
    if name == "wrap-angles":
        return  # it stands nobody: it takes periods off
    assert isinstance(layer.robustness, robust.Robustness)
    if isinstance(layer, robust.UpdateRule):
        for n in range(1, 40):
            assert 0 <= layer.most(n) <= max(0, n - 1) or name in {"weak-dp", "fltrust"}
            assert layer.most(n) <= layer.defined(n), "a guarantee for what cannot be computed"
        bounds = [layer.kappa(n, layer.most(n)) for n in (5, 10, 23)]
        assert layer.robustness.proved == any(bound is not None for bound in bounds)


@pytest.mark.parametrize("name", [name for name in ROBUST if name not in {"crfl", "wrap-angles"}])
def test_every_layer_stands_any_round(name: str, round_updates: Callable[..., Any]) -> None:
    """From one client up, with the usual f, with equal, zero and huge updates: a step, and no error a liar could cause."""
    layer = find("layer", name)()
    for n in (1, 2, 3, 4, 7):
        for updates in (
            torch.zeros(n, 3),
            torch.full((n, 3), 1e30),
            torch.randn(n, 3),
            torch.randn(n, 3) * 1e-30,
        ):
            batch = round_updates(updates, f=2, trusted=torch.ones(3))
            if isinstance(layer, robust.RobustFilter):
                found = layer.bound(batch)
                assert torch.isfinite(found.updates).all()
                assert len(found.ids) >= 1
            else:
                step, _ = layer.aggregate(batch, layer.start(3))
                assert step.shape == (3,)
                assert step.dtype == torch.float32
                assert torch.isfinite(step).all()


def test_a_declared_f_that_leaves_nothing_is_told_before_a_run(
    make_pipeline: Callable[..., Pipeline],
) -> None:
    pipeline = make_pipeline(n_clients=8, rounds=1, declared_corrupted=2)
    for rule in (robust.Bulyan(), robust.Krum(), robust.TrimmedMean()):
        most = rule.defined(8)
        if most < 2:
            with pytest.raises(IncompatibleStack, match="not defined for so many"):
                Stack.from_layers("s", [rule]).check(pipeline)
        else:
            Stack.from_layers("s", [rule]).check(pipeline)
    many = make_pipeline(n_clients=40, rounds=1)
    with pytest.raises(IncompatibleStack, match="among so many clients"):
        Stack.from_layers("s", [robust.MinimumDiameter()]).check(many)
    with pytest.raises(IncompatibleStack, match="at most 3"):  # 40 choose 4 sets are too many
        Stack.from_layers("s", [robust.SmallestEigenvalue()]).check(
            make_pipeline(n_clients=40, rounds=1, declared_corrupted=4)
        )
    with pytest.raises(IncompatibleStack, match="server_learning_rate"):
        Stack.from_layers("s", [robust.Crfl()]).check(make_pipeline(n_clients=5, server_learning_rate=0.5))


def test_who_follows_clients_gets_no_groups() -> None:
    with pytest.raises(IncompatibleStack, match="'foolsgold' needs single clients, but 'bucketing'"):
        Stack.from_layers("s", [robust.Bucketing(), robust.FoolsGold()])
    Stack.from_layers("s", [robust.FoolsGold()])


def test_buckets_are_groups_of_clients(round_updates: Callable[..., Any]) -> None:
    batch = round_updates(torch.arange(10.0).reshape(5, 2), counts=(1, 2, 3, 4, 5))
    found = robust.Bucketing(size=2).bound(batch)
    assert found.groups is not None
    assert sorted(i for group in found.groups for i in group) == [0, 1, 2, 3, 4]
    for row, count, group in zip(found.updates, found.counts, found.groups, strict=True):
        assert torch.allclose(row, batch.updates[list(group)].mean(dim=0))
        assert count == sum(i + 1 for i in group)


def test_memory_lives_in_the_state(round_updates: Callable[..., Any]) -> None:
    """Centred clipping starts from its last step, FoolsGold adds up each client's updates, absent ones stay."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    clip = robust.CentredClipping(radius=0.1)
    first, state = clip.aggregate(round_updates(rows), clip.start(2))
    second, _ = clip.aggregate(round_updates(rows), state)
    assert torch.allclose(second, robust.centred_clipping(rows, centre=first, radius=0.1))
    assert not torch.allclose(second, first)
    gold = robust.FoolsGold()
    _, sums = gold.aggregate(round_updates(rows, ids=(0, 1, 2)), gold.start(2))
    _, later = gold.aggregate(round_updates(rows[:2], ids=(2, 5)), sums)
    assert torch.allclose(later[2], torch.tensor([1.0, 1.0], dtype=torch.float64))
    assert set(later) == {0, 1, 2, 5}
    assert set(sums) == {0, 1, 2}, "the state of before is not changed"


def test_sybils_count_little_and_the_honest_are_pardoned(round_updates: Callable[..., Any]) -> None:
    """Fung et al. 2020: Sybils that send the same have no weight, however many they are; one alone keeps its own."""
    rng = torch.Generator().manual_seed(0)
    honest = torch.randn(4, 30, generator=rng)
    lie = torch.full((30,), 5.0)
    sybils = torch.cat([honest, lie.expand(6, -1)])
    step, _ = robust.FoolsGold().aggregate(round_updates(sybils), {})
    assert torch.nn.functional.cosine_similarity(step, honest.mean(dim=0), dim=0) > 0.9
    alone = torch.cat([honest, lie[None]])
    step, _ = robust.FoolsGold().aggregate(round_updates(alone), {})
    assert torch.nn.functional.cosine_similarity(step, lie, dim=0) > 0.8, (
        "the control: it does not stop a single one"
    )


def test_crfl_bounds_the_model_and_adds_noise(round_updates: Callable[..., Any]) -> None:
    batch = round_updates(torch.full((3, 400), 5.0), broadcast=torch.ones(400))
    quiet = robust.Crfl(max_norm=2.0, noise_std=0.0).perturb(torch.full((400,), 5.0), batch)
    assert float((batch.broadcast + quiet).norm()) == pytest.approx(2.0, rel=1e-5)
    noisy = robust.Crfl(max_norm=2.0, noise_std=0.5).perturb(torch.full((400,), 5.0), batch)
    assert float((noisy - quiet).std()) == pytest.approx(0.5, rel=0.1)
    loose = robust.Crfl(noise_std=0.0).perturb(torch.full((400,), 0.5), batch)
    assert torch.allclose(loose, torch.full((400,), 0.5)), "angles within half a turn are not clipped"


def harm(make_pipeline: Callable[..., Pipeline], layer: Layer, corrupted: int) -> float:
    """How much the test loss rises where so many of ten clients send their updates backwards, ten times as long."""
    pipeline = make_pipeline(n_clients=10, rounds=12, learning_rate=0.5, members=100, layers=2, test=100)
    threat, flip = corrupted_clients(n=corrupted), find("attack", "scaled-sign-flip")()
    specs = [RunSpec(seed=0, adversary=flip, threat=threat), RunSpec(seed=0)]
    bad, good = run_batch(pipeline, Stack.from_layers("s", [layer]), specs)
    assert bad.outcome == good.outcome == "completed"
    return bad.loss[-1] - good.loss[-1]


def test_fltrust_stands_a_majority_and_the_median_does_not(make_pipeline: Callable[..., Pipeline]) -> None:
    """Seven of ten clients lie: records of the server's own are worth more than any vote."""
    assert harm(make_pipeline, robust.FlTrust(records=40), 7) < 0.1
    assert harm(make_pipeline, robust.Median(), 7) > 0.3
    assert harm(make_pipeline, robust.Median(), 2) < 0.2, "the control: a minority"


def test_what_the_server_trains_is_the_runs_own(make_pipeline: Callable[..., Pipeline]) -> None:
    """Beside another run and alone, bit for bit; with batches, which it draws from streams of its own."""
    pipeline = make_pipeline(n_clients=4, rounds=2, batch_size=3)
    stack = Stack.from_layers("s", [robust.FlTrust(records=8)])
    both = run_batch(pipeline, stack, [RunSpec(seed=0), RunSpec(seed=1)])
    alone = run_batch(pipeline, stack, [RunSpec(seed=1)])[0]
    assert torch.equal(both[1].params, alone.params)
    fewer = run_batch(pipeline, Stack.from_layers("s", [robust.FlTrust(records=2)]), [RunSpec(seed=1)])[0]
    assert not torch.equal(fewer.params, alone.params)


def test_a_server_without_records_or_model_is_refused(make_pipeline: Callable[..., Pipeline]) -> None:
    stack = Stack.from_layers("s", [robust.FlTrust()])
    pipeline = make_pipeline(n_clients=4)
    stack.check(pipeline)
    with pytest.raises(IncompatibleStack, match="auxiliary split is empty"):
        stack.check(
            replace(
                pipeline,
                data=replace(pipeline.data, auxiliary=0, preprocessing="fixed-range", reduction="first"),
            )
        )
    hybrid = build_model({"name": "hybrid", "n_qubits": 2, "layers": 1, "n_features": 4})
    with pytest.raises(IncompatibleStack, match="keep parts of theirs"):
        stack.check(replace(pipeline, model=hybrid, personal=(hybrid.layout[-1][0],)))
