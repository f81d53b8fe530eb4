"""Distributed differential privacy: what is released, what it is calibrated to, and what the ledger claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from qflsec.accounting.skellam import skellam_epsilon, skellam_tail
from qflsec.base import ConfigError, IncompatibleStack, ProtocolAbort, SeededSecrets, UpdateError
from qflsec.federation import RunSpec, Stack, layer_from_config, run_batch
from qflsec.protocols.secagg import Ddp
from qflsec.protocols.secagg.ddp.layer import NoisePlan, round_conditionally
from qflsec.threat import PUBLIC, SERVER, Party, ThreatModel, client, coalition

Maker = Callable[..., Any]
LAYER = Ddp(clip_norm=0.5, target_epsilon=20.0)
PLAN: dict[str, int] = {"n_params": 8, "rounds": 3}


def epsilon_of(layer: Ddp, plan: Any, shares: int) -> float:
    """Epsilon for whoever reads sums that hold so many honest clients' noise."""
    return skellam_epsilon(
        variance=shares * plan.local_variance, l1=plan.l1, l2=plan.l2, steps=plan.steps, delta=layer.delta
    ).epsilon


def test_the_noise_is_calibrated_to_those_who_remain() -> None:
    """Threshold less colluders: their shares alone keep the budget, one share less does not."""
    layer = replace(LAYER, colluders=1)
    for n in (5, 10, 20):
        honest = layer.honest_survivors(n)
        assert honest == layer.threshold_for(n) - 1
        plan = layer.plan(**PLAN, honest=honest)
        assert epsilon_of(layer, plan, honest) <= layer.target_epsilon
        assert epsilon_of(layer, plan, honest - 1) > layer.target_epsilon


def test_noise_for_all_clients_breaks_the_budget_under_dropouts() -> None:
    """The control: calibrated to n, the survivors' noise gives a larger epsilon than claimed."""
    n = 10
    careless = LAYER.plan(**PLAN, honest=n)
    assert epsilon_of(LAYER, careless, n) <= LAYER.target_epsilon
    assert epsilon_of(LAYER, careless, LAYER.threshold_for(n)) > 1.15 * LAYER.target_epsilon


def test_the_variance_of_the_sum_is_the_claimed_one() -> None:
    """4,000 coordinates of five clients' words summed, less the exact sum: chi-square; false alarm 1e-6.

    Rounding adds at most a quarter of a step's square for each client, which is counted.
    """
    n, size = 5, 4000
    plan = LAYER.plan(n_params=size, rounds=2, honest=4)
    updates = torch.randn(n, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    updates *= 0.4 / updates.norm(dim=1, keepdim=True)
    total = np.zeros(size + 1, dtype=np.uint32)
    for i in range(n):
        total += LAYER.noisy_words(updates[i], plan, SeededSecrets(i, "noise")).astype(np.uint32)
    error = total.view(np.int32)[:-1] - (updates.sum(dim=0) * LAYER.words.scale).numpy()
    variance = n * plan.local_variance
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], size)
    assert low * variance < float(np.sum(error**2)) < high * (variance + n / 4)
    assert stats.kstest(error / math.sqrt(variance), "norm").pvalue > 1e-6
    assert total.view(np.int32)[-1] == n * LAYER.words.scale, "every client has the weight 1"


def test_nothing_longer_than_the_sensitivity_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without noise, whatever the update: the integers stay within both sensitivities."""
    from qflsec.protocols.secagg.ddp import layer as ddp

    monkeypatch.setattr(ddp, "draw_skellam", lambda _secrets, _variance, n: np.zeros(n, dtype=np.int64))
    secrets = SeededSecrets(1, "rounding")
    generator = torch.Generator().manual_seed(2)
    layer = replace(LAYER, fractional_bits=4)
    plan = layer.plan(n_params=50, rounds=1, honest=3)
    longest = 0.0
    for scale in (1e-3, 0.5, 0.5, 0.5, 1e6):
        update = torch.randn(50, generator=generator)
        update *= scale / update.norm()
        integers = layer.noisy_words(update, plan, secrets).view(np.int32)[:-1].astype(float)
        assert np.linalg.norm(integers) <= plan.l2 + 1e-9
        assert np.abs(integers).sum() <= plan.l1 + 1e-9
        longest = max(longest, float(np.linalg.norm(integers)))
    assert longest > layer.clip_norm * layer.words.scale, "rounding does lengthen vectors"
    assert np.array_equal(layer.noisy_words(torch.zeros(50), plan, secrets)[:-1], np.zeros(50))


def test_rounding_is_unbiased_and_drawn_again_when_too_long() -> None:
    values = np.full(4000, 0.25)
    rounded = round_conditionally(values, SeededSecrets(1, "r"), squared_bound=math.inf)
    assert set(rounded) == {0, 1}
    assert stats.binomtest(int(rounded.sum()), 4000, 0.25).pvalue > 1e-6
    bound = 950
    short = round_conditionally(values, SeededSecrets(1, "r"), squared_bound=bound)
    assert rounded.sum() > bound >= short.sum() or rounded.sum() <= bound
    with pytest.raises(ProtocolAbort, match="cannot be rounded"):
        round_conditionally(np.full(4, 10.5), SeededSecrets(1, "r"), squared_bound=300)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_updates_that_are_refused(bad: float) -> None:
    plan = LAYER.plan(**PLAN, honest=3)
    with pytest.raises(UpdateError, match="cannot be released"):
        LAYER.noisy_words(torch.tensor([bad] * 8), plan, SeededSecrets(1, "x"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_norm": 0.0},
        {"target_epsilon": 0.0},
        {"target_epsilon": math.inf},
        {"delta": 0.0},
        {"delta": 1.0},
        {"beta": 1.0},
        {"bits": 16},
        {"threshold": 1},
    ],
)
def test_values_that_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        layer_from_config({"name": "ddp", **wrong})


def test_sums_that_could_wrap_are_refused() -> None:
    """One step of the sensitivity below the boundary passes, one above raises."""
    variance, n, size = 10_000, 5, 8
    room = 1
    while 2 * size * 3 * skellam_tail(n * variance, room) > 2.0**-40:
        room += 1

    def check(l2: float) -> None:
        plan = NoisePlan(l1=l2, l2=l2, steps=3, honest=3, local_variance=variance)
        LAYER.check_plan(plan, n_params=size, n_participants=n)

    boundary = ((1 << 31) - 1 - room) / n
    check(boundary)
    with pytest.raises(ConfigError, match="wrap"):
        check(boundary + 1 / n)


def test_noise_that_takes_too_long_to_draw_is_refused() -> None:
    layer = replace(LAYER, fractional_bits=23, target_epsilon=1.0)
    with pytest.raises(ConfigError, match="too large"):
        layer.check_plan(layer.plan(**PLAN, honest=3), n_params=8, n_participants=5)


def test_budgets_that_the_sampler_cannot_reach_are_refused() -> None:
    layer = replace(LAYER, target_epsilon=500.0, delta=1e-9)
    with pytest.raises(ConfigError, match="not close enough"):
        layer.check_plan(layer.plan(**PLAN, honest=3), n_params=8, n_participants=5)


def rows_of(result: Any, *corrupted: Party) -> list[Any]:
    found = result.ledger(ThreatModel(name="x", corrupted=frozenset(corrupted)))
    return [r for r in found if r.layer == "ddp" and r.guarantee == "differential privacy"]


@pytest.mark.parametrize("secrets", ["os", "seeded"])
def test_in_the_loop(make_pipeline: Maker, secrets: Any) -> None:
    """The model is the clipped mean plus noise; the ledger's row names unit, adjacency, trust and what is seeded."""
    pipeline = make_pipeline(n_clients=5, members=15)
    layer = replace(LAYER, colluders=1)
    result = run_batch(pipeline, Stack(name="s", client=(layer,)), [RunSpec(seed=3)], secrets=secrets)[0]
    assert result.outcome == "completed"
    view = result.view(coalition(server=True))
    assert [i.weight for i in view.readable("aggregate")] == [5.0, 5.0]
    assert view.readable("update") == ()
    (row,) = rows_of(result, SERVER)
    assert row.epsilon <= layer.target_epsilon
    assert (row.delta, row.unit, row.adjacency, row.steps) == (1e-5, "client", "zero-out", 2)
    assert "secure aggregation" in row.trusted
    assert row.bound == "upper bound"
    assert "L1" in row.mechanism
    assert "who drops out" in row.note
    assert row.note.startswith("simulated guarantee: seeded noise") == (secrets == "seeded")
    assert row.assumption == ("none" if secrets == "seeded" else "computational")
    threshold = layer.threshold_for(5)
    plan = layer.plan(n_params=pipeline.model.n_params, rounds=2, honest=threshold - 1)
    for clients in ((), (0,), (0, 1), (0, 1, 2)):
        (row,) = rows_of(result, SERVER, *map(client, clients))
        shares = max(1, threshold - len(clients))
        expected = skellam_epsilon(
            variance=shares * plan.local_variance, l1=plan.l1, l2=plan.l2, steps=2, delta=0.99e-5
        ).epsilon
        assert row.epsilon == pytest.approx(expected)
        assert (row.epsilon <= layer.target_epsilon) == (len(clients) <= layer.colluders)
    (public,) = rows_of(result, PUBLIC)
    assert public.epsilon <= layer.target_epsilon


def test_seeded_runs_repeat_and_os_runs_do_not(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=1)
    stack = Stack(name="s", client=(LAYER,))

    def params(secrets: Any) -> torch.Tensor:
        return run_batch(pipeline, stack, [RunSpec(seed=3)], secrets=secrets)[0].params

    assert torch.equal(params("seeded"), params("seeded"))
    assert not torch.equal(params("os"), params("os"))


def test_a_client_counts_on_the_threshold_that_it_accepted(make_pipeline: Maker) -> None:
    """A server that proposes a threshold with no sure honest client gets no update."""
    with pytest.raises(IncompatibleStack):
        run_batch(
            make_pipeline(n_clients=4),
            Stack(name="s", client=(replace(LAYER, colluders=4),)),
            [RunSpec(seed=1)],
        )
    pipeline = make_pipeline(n_clients=5, rounds=1)
    seen = []
    original = Ddp.noisy_words

    def noisy_words(layer: Ddp, update: Any, plan: Any, secrets: Any) -> Any:
        seen.append(plan.honest)
        return original(layer, update, plan, secrets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ddp, "noisy_words", noisy_words)
        patch.setattr(Ddp, "threshold_for", lambda _layer, n: n // 2 + 1)  # what the server proposes
        refused = run_batch(pipeline, Stack(name="s", client=(LAYER,)), [RunSpec(seed=1)])[0]
        assert "refuses a threshold of 3" in refused.outcome, (
            "more than two thirds unless a threshold is stated"
        )
        assert not seen
        patch.setattr(Ddp, "threshold_for", lambda _layer, _n: 4)
        stated = replace(LAYER, threshold=3)
        result = run_batch(pipeline, Stack(name="s", client=(stated,)), [RunSpec(seed=1)])[0]
    assert result.outcome == "completed"
    assert set(seen) == {4}, "not the 3 that the layer states"
