"""Sporadic updates and weights by devices: the rules themselves, and what a liar makes of reported qualities."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from qflsec.accounting import LedgerRow
from qflsec.accounting.accountants import epsilon_bound
from qflsec.attacks.poisoning import LabelFlip, QualityLiar
from qflsec.base import ConfigError, IncompatibleStack, UpdateError
from qflsec.circuits import NoiseModel
from qflsec.defenses.privacy import DpSgd
from qflsec.defenses.weighting import InverseNoise, WeightCap
from qflsec.federation import (
    FederationConfig,
    Hierarchy,
    Pipeline,
    RoundUpdates,
    RunResult,
    RunSpec,
    Sporadic,
    Stack,
    groups_by_error,
    run_batch,
)
from qflsec.federation.round.optimiser import Optimiser, OptimiserState
from qflsec.models import EXACT, Execution, Vqc, build_model, device_error
from qflsec.protocols.secagg import Masked
from qflsec.threat import corrupted_clients, honest_but_curious_server

Maker = Callable[..., Pipeline]
BAD = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.05, where="every-gate"))
WORSE = Execution(noise=NoiseModel(kind="local-depolarizing", p=0.2, where="every-gate"))
ASKS = Stack.from_layers("asks", [InverseNoise()])


def with_devices(pipeline: Pipeline, **options: object) -> Pipeline:
    config = replace(pipeline.federation, **options)  # type: ignore[arg-type]
    return replace(pipeline, federation=config, client_executions={1: BAD, 2: WORSE})


def run(pipeline: Pipeline, stack: Stack | None = None, spec: RunSpec | None = None) -> RunResult:
    (result,) = run_batch(pipeline, stack or Stack(name="none"), [spec or RunSpec(seed=1)], secrets="seeded")
    assert result.outcome == "completed", result.outcome
    return result


def updates(result: RunResult, round_index: int = 0) -> dict[int, torch.Tensor]:
    items = result.view(honest_but_curious_server()).readable("update", round_index=round_index)
    return {min(item.named): item.vector for item in items}


def qualities(result: RunResult) -> dict[int, float]:
    items = result.view(honest_but_curious_server()).readable("update", round_index=0)
    return {min(item.named): item.reports["quality"] for item in items}


def test_the_error_of_a_device_grows_with_its_noise_and_falls_with_shots() -> None:
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 1})
    assert device_error(model, EXACT) == 0
    assert 0 < device_error(model, BAD) < device_error(model, WORSE) < 1
    few, many = (device_error(model, Execution(shots=shots)) for shots in (50, 5000))
    # of S shots of values E: the mean of (1 - E^2) / S, at most 1 / S
    assert 0.5 < few * math.sqrt(50) < 1
    assert few / many == pytest.approx(10, rel=0.15)
    assert device_error(model, replace(WORSE, mitigation="zero-noise")) < device_error(model, WORSE)


def test_global_noise_has_the_error_that_its_share_says() -> None:
    """Values shrink by 1 - p at once, whatever the angles: two strengths differ by their ratio."""
    model = build_model({"name": "vqc", "n_qubits": 2, "layers": 1})
    one, two = (
        device_error(model, Execution(noise=NoiseModel(kind="global-depolarizing", p=p))) for p in (0.1, 0.3)
    )
    assert two == pytest.approx(3 * one, rel=1e-6)


def test_a_sporadic_client_steps_by_its_factor(make_pipeline: Maker) -> None:
    plain = with_devices(make_pipeline(n_clients=3, rounds=1))
    sporadic = Sporadic(gamma=3.0)
    full, some = updates(run(plain)), updates(run(with_devices(plain, sporadic=sporadic)))
    for index in range(3):
        x = math.exp(-3.0 * device_error(plain.model, plain.execution_of(index)))
        assert torch.allclose(some[index], x * full[index], atol=1e-6)
    assert float(some[2].norm()) < 0.9 * float(full[2].norm())


def test_below_the_threshold_a_client_sits_out(make_pipeline: Maker) -> None:
    base = make_pipeline(n_clients=3, rounds=2, local_steps=2)
    worst = Sporadic(gamma=5.0).factor(device_error(base.model, WORSE))
    found = run(with_devices(base, sporadic=Sporadic(gamma=5.0, threshold=1.01 * worst)))
    sent = updates(found, 1)
    assert set(sent) == {0, 1}
    assert min(float(update.norm()) for update in sent.values()) > 0


def in_sums(result: RunResult) -> LedgerRow:
    """The row of DP-SGD that counts the others' noise."""
    rows = result.ledger(honest_but_curious_server())
    (found,) = [
        row
        for row in rows
        if row.unit == "example" and "in a sum over" in row.mechanism and row.accountant.startswith("PRV")
    ]
    return found


def test_a_client_that_steps_less_adds_less_noise_to_a_sum(make_pipeline: Maker) -> None:
    """The bound is that of the client that steps furthest: its own noise is the same, the others' arrives shrunk."""
    base = make_pipeline(n_clients=3, rounds=3, members=24)
    stack = Stack.from_layers("dp", [DpSgd(noise_multiplier=2.0, clip_norm=0.5, delta=1e-3), Masked()])
    same, less = (run(with_devices(base, **o), stack) for o in ({}, {"sporadic": Sporadic(gamma=9.0)}))
    pipeline = with_devices(base, sporadic=Sporadic(gamma=9.0))
    assert pipeline.factors[0] == 1 > pipeline.factors[1] > pipeline.factors[2] > 0
    for result, factors in ((same, (1.0, 1.0, 1.0)), (less, pipeline.factors)):
        multiplier = 2.0 * math.sqrt(sum(x * x for x in factors))
        row = in_sums(result)
        assert f"at least {multiplier:.4g}" in row.mechanism
        exact = epsilon_bound("prv", noise_multiplier=multiplier, sample_rate=1.0, steps=3, delta=1e-3)
        assert row.epsilon == pytest.approx(exact.epsilon, rel=1e-6)
    assert float(in_sums(less).epsilon or 0) > 1.2 * float(in_sums(same).epsilon or 0)


def test_nobody_hides_behind_a_client_that_sits_out(make_pipeline: Maker) -> None:
    base = make_pipeline(n_clients=4, rounds=2)
    worst = Sporadic(gamma=5.0).factor(device_error(base.model, WORSE))
    some = with_devices(base, sporadic=Sporadic(gamma=5.0, threshold=1.01 * worst))
    stack = Stack.from_layers("dp", [DpSgd(noise_multiplier=2.0, clip_norm=0.5, delta=1e-3), Masked()])
    found = run(some, stack)
    assert {item.k for item in found.view(honest_but_curious_server()).readable("aggregate")} == {3}
    assert "in a sum over 3 clients" in in_sums(found).mechanism
    alone = replace(some, client_executions=dict.fromkeys((1, 2, 3), WORSE))
    (lost,) = run_batch(alone, stack, [RunSpec(seed=1)], secrets="seeded")
    assert "asked to mask for 1 participants" in lost.outcome


def test_a_corrupted_client_sits_out_only_if_it_likes(make_pipeline: Maker) -> None:
    config = with_devices(make_pipeline(n_clients=3, rounds=1), sporadic=Sporadic(threshold=0.99))
    some = replace(config, client_executions={0: WORSE, 1: WORSE})
    spec = RunSpec(seed=1, threat=corrupted_clients(n=1), adversary=LabelFlip())
    assert set(updates(run(some))) == {2}
    assert set(updates(run(some, spec=spec))) == {0, 2}


def test_a_step_that_is_not_made_leaves_the_momentum_alone(make_pipeline: Maker) -> None:
    """A client that sits out keeps model and momentum; one that steps less has the momentum of a whole step."""
    config = FederationConfig(optimizer="sgd", momentum=0.5)
    state = OptimiserState.fresh(config, torch.zeros(1, 2, 3))
    optimiser = Optimiser(config=config, sharing=make_pipeline().sharing, round=0)
    params, slope = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    active, factors = torch.tensor([[True, False]]), torch.tensor([0.5, 0.0])
    once, kept = optimiser.step(state, params, slope, params, active, factors)
    _, fresh = optimiser.step(state, params, slope, params, torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(once[0, 1], params[0, 1])
    assert torch.equal(once[0, 0], -0.5 * config.learning_rate * slope[0, 0])
    assert kept.steps.tolist() == [[1, 0]]
    assert torch.equal(kept.moments[0][0, 0], fresh.moments[0][0, 0])
    assert not kept.moments[0][0, 1].any()


def test_without_gamma_it_is_federated_averaging(make_pipeline: Maker) -> None:
    base = with_devices(make_pipeline(n_clients=3, rounds=2, local_steps=2, momentum=0.5))
    assert torch.equal(run(base).params, run(with_devices(base, sporadic=Sporadic(gamma=0.0))).params)


def test_runs_side_by_side_are_sporadic_as_each_is_alone(make_pipeline: Maker) -> None:
    base = with_devices(make_pipeline(n_clients=3, rounds=2), sporadic=Sporadic())
    together = run_batch(base, ASKS, [RunSpec(seed=1), RunSpec(seed=2)], secrets="seeded")
    for seed, beside in zip((1, 2), together, strict=True):
        assert torch.equal(run(base, ASKS, RunSpec(seed=seed)).params, beside.params)


def test_clients_report_their_devices_and_are_weighed_by_them(make_pipeline: Maker) -> None:
    base = with_devices(make_pipeline(n_clients=3, rounds=1))
    found = run(base, ASKS)
    errors = [device_error(base.model, base.execution_of(index)) for index in range(3)]
    said, sent = qualities(found), updates(found)
    counts = {min(i.named): i.weight for i in found.view(honest_but_curious_server()).readable("update")}
    assert [said[i] for i in range(3)] == pytest.approx([1 - e for e in errors], abs=1e-6)
    weights = [float(counts[i] or 0) / (errors[i] + 0.01) ** 2 for i in range(3)]
    step = sum(w * sent[i].double() for i, w in enumerate(weights)) / sum(weights)
    assert torch.allclose((found.params - found.initial).double(), step, atol=1e-6)
    even = run(base, Stack.from_layers("even", [InverseNoise(power=0.0)]))
    assert torch.equal(even.params, run(base).params)


def shares(said: list[float], cap: float | None = None) -> list[float]:
    batch = RoundUpdates(
        round=0,
        updates=torch.zeros(len(said), 1),
        counts=torch.ones(len(said)),
        ids=tuple(range(len(said))),
        broadcast=torch.zeros(1),
        periods=(None,),
        f=0,
        generator=torch.Generator(),
        reports={"quality": torch.tensor(said)},
    )
    if cap is not None:
        batch = WeightCap(factor=cap).bound(batch)
    found: list[float] = InverseNoise().shares(batch).tolist()
    return found


def test_a_perfect_device_takes_the_weight_and_a_cap_does_not_believe_it() -> None:
    """One of ten with 1 / 0.01^2, nine with 1 / 0.21^2 each."""
    said = [1.0] + 9 * [0.8]
    assert shares(said)[0] == pytest.approx(441 / 450, abs=1e-3)
    assert shares([5.0] + 9 * [0.8])[0] == pytest.approx(441 / 450, abs=1e-3), "no report is above perfect"
    assert shares(said, cap=2.0)[0] == pytest.approx(0.2)


def test_a_liar_gains_nothing_where_nobody_asks(make_pipeline: Maker) -> None:
    base, threat = with_devices(make_pipeline(n_clients=3, rounds=2)), corrupted_clients(n=1)

    def attacked(attack: LabelFlip, stack: Stack) -> RunResult:
        return run(base, stack, RunSpec(seed=1, adversary=attack, threat=threat))

    none = Stack(name="none")
    assert torch.equal(attacked(QualityLiar(), none).params, attacked(LabelFlip(), none).params)
    assert qualities(attacked(QualityLiar(quality=0.25), ASKS))[0] == 0.25


def test_what_voids_no_epsilon_may_be_asked_and_sums_leave_nobody_to_ask() -> None:
    Stack.from_layers("private", [DpSgd(), InverseNoise()])
    with pytest.raises(IncompatibleStack, match="individual updates"):
        Stack.from_layers("masked", [Masked(), InverseNoise()])


def test_values_and_models_that_make_no_sense_are_refused(make_pipeline: Maker) -> None:
    for wrong in ({"gamma": -1.0}, {"threshold": 2.0}):
        with pytest.raises(ConfigError):
            Sporadic(**wrong)
    with pytest.raises(ConfigError, match="Adam"):
        FederationConfig(optimizer="adam", sporadic=Sporadic())
    for broken in ({"epsilon": 0.0}, {"power": -1.0}):
        with pytest.raises(ConfigError):
            InverseNoise(**broken)
    with pytest.raises(ConfigError):
        QualityLiar(quality=1.5)
    with pytest.raises(UpdateError, match="quality"):
        InverseNoise().weights(
            RoundUpdates(
                round=0,
                updates=torch.zeros(1, 1),
                counts=torch.ones(1),
                ids=(0,),
                broadcast=torch.zeros(1),
                periods=(None,),
                f=0,
                generator=torch.Generator(),
            )
        )
    assert isinstance(make_pipeline().model, Vqc)
    classical = build_model({"name": "classical", "n_features": 4, "hidden": [2]})
    base = make_pipeline()
    data = replace(base.data, n_features=4)
    with pytest.raises(ConfigError, match="circuit"):
        replace(base, data=data, model=classical, federation=replace(base.federation, sporadic=Sporadic()))
    with pytest.raises(IncompatibleStack, match="circuit"):
        InverseNoise().check(replace(base, data=data, model=classical))


def test_groups_are_cut_at_the_largest_steps_between_errors() -> None:
    assert groups_by_error([0.3, 0.0, 0.31, 0.9, 0.01], 3) == (1, 0, 1, 2, 0)
    assert groups_by_error([0.3, 0.3, 0.2], 1) == (0, 0, 0)
    for errors, groups in (([0.1, 0.1], 2), ([0.1], 0)):
        with pytest.raises(ConfigError, match="cannot be grouped"):
            groups_by_error(errors, groups)


def test_a_group_of_devices_trains_a_model_of_its_own(make_pipeline: Maker) -> None:
    """Until the server's mean a group's model is that of its clients alone; with one group it is the star's."""
    base = with_devices(make_pipeline(n_clients=4, rounds=1))
    errors = [device_error(base.model, base.execution_of(index)) for index in range(4)]
    members = groups_by_error(errors, 2)
    assert members == (0, 0, 1, 0), "the far device is alone"
    found = run(replace(base, topology=Hierarchy(edges=2, period=9, members=members)))
    star = updates(run(base))
    assert torch.allclose(found.models[1] - found.initial, star[2], atol=1e-6)
    one = run(replace(base, topology=Hierarchy(edges=1, period=1, members=(0, 0, 0, 0))))
    assert torch.allclose(one.params, run(base).params, atol=1e-6)


def test_members_that_are_not_those_of_the_federation_are_refused(make_pipeline: Maker) -> None:
    with pytest.raises(ConfigError, match="every edge server"):
        Hierarchy(edges=2, members=(0, 0))
    with pytest.raises(ConfigError, match="another number"):
        replace(make_pipeline(n_clients=4), topology=Hierarchy(edges=2, members=(0, 1)))
    assert "members" not in Hierarchy().to_config(), "ids of hierarchies stay as they are"
