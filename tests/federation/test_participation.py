"""Who takes part in a round, and what becomes of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from recorders import Aggregated, Bounded, Noisy, Ruled, Shaped

from qflsec.base import IncompatibleStack
from qflsec.federation import Pipeline, RunResult, RunSpec, Stack, run_batch
from qflsec.threat import client, honest_but_curious_server

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


def run(pipeline: Pipeline, stack: Stack = NONE, seed: int = 0, **kwargs: object) -> RunResult:
    (result,) = run_batch(pipeline, stack, [RunSpec(seed=seed)], secrets="seeded", **kwargs)  # type: ignore[arg-type]
    assert result.outcome == "completed", result.traceback
    return result


def members(result: RunResult) -> list[frozenset[int]]:
    participants = result.transcript.facts[result.lane].participants
    return [participants[index] for index in range(result.pipeline.federation.rounds)]


@pytest.mark.parametrize(("participation", "size"), [(0.01, 1), (0.3, 3), (0.5, 5), (0.99, 10), (1.0, 10)])
def test_fixed_sampling_draws_that_many(make_pipeline: Maker, participation: float, size: int) -> None:
    pipeline = make_pipeline(
        n_qubits=2, n_clients=10, members=20, rounds=4, participation=participation, test=2
    )
    found = members(run(pipeline))
    assert [len(chosen) for chosen in found] == [size] * 4
    assert size == 10 or len(set(found)) > 1, "other clients in other rounds"


def test_every_client_is_drawn_as_often_as_the_others(make_pipeline: Maker) -> None:
    """2 of 5 clients in 150 rounds; each count is Bin(150, 0.4), false-alarm rate below 1e-5 for all five."""
    pipeline = make_pipeline(n_qubits=2, n_clients=5, members=5, rounds=150, participation=0.4, test=0)
    found = members(run(pipeline))
    counts = [sum(index in chosen for chosen in found) for index in range(5)]
    assert sum(counts) == 300
    assert all(abs(count - 60) < 5 * math.sqrt(150 * 0.4 * 0.6) for count in counts), counts


def test_poisson_sampling_draws_each_client_by_itself(make_pipeline: Maker) -> None:
    """Sizes of 200 rounds of 4 clients at 0.25: mean 1, and (3/4)^4 = .316 of them empty; 5 standard errors."""
    pipeline = make_pipeline(
        n_qubits=2, n_clients=4, members=4, rounds=200, participation=0.25, client_sampling="poisson", test=0
    )
    sizes = [len(chosen) for chosen in members(run(pipeline))]
    assert abs(sum(sizes) / 200 - 1.0) < 5 * math.sqrt(4 * 0.25 * 0.75 / 200)
    empty = sizes.count(0) / 200
    assert abs(empty - 0.75**4) < 5 * math.sqrt(0.316 * 0.684 / 200)
    assert max(sizes) > 2


def test_who_takes_part_depends_on_the_seed_alone(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, n_clients=6, members=12, rounds=5, participation=0.5, test=2)
    other = replace(pipeline, federation=replace(pipeline.federation, learning_rate=0.01, local_steps=2))
    defended = Stack(name="masked", client=(Shaped(factor=0.1), Aggregated()))
    assert members(run(pipeline)) == members(run(other)) == members(run(pipeline, defended))
    assert members(run(pipeline)) != members(run(pipeline, seed=1))


def test_whoever_stays_away_says_and_hears_nothing(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, n_clients=5, members=10, rounds=3, participation=0.4, test=2)
    result = run(pipeline)
    items = result.view(honest_but_curious_server()).items
    for round_index, chosen in enumerate(members(result)):
        here = [item for item in items if item.round == round_index and not item.derived]
        parties = {client(index) for index in chosen}
        assert {item.receiver for item in here if item.kind == "model"} == parties
        assert {item.sender for item in here if item.kind == "update"} == parties


def test_the_mean_is_over_those_who_take_part(make_pipeline: Maker) -> None:
    """Each round moves the model by the weighted mean of its participants' updates, which are trained from it."""
    pipeline = make_pipeline(n_qubits=2, n_clients=5, members=23, rounds=4, participation=0.6, test=2)
    result = run(pipeline)
    view = result.view(honest_but_curious_server())
    params = result.initial.double()
    for round_index, chosen in enumerate(members(result)):
        updates = {
            min(item.about): item.vector.double()
            for item in view.readable("update", round_index=round_index)
            if not item.derived
        }
        assert set(updates) == chosen
        counts = {index: len(result.clients[index]) for index in chosen}
        params = params + sum(counts[i] * updates[i] for i in chosen) / sum(counts.values())
    assert torch.allclose(result.params.double(), params, atol=1e-5)


def test_a_round_of_nobody_moves_nothing_and_ends_nothing(make_pipeline: Maker, log: list[str]) -> None:
    """The rule and the bound are not asked; the server's noise still falls, as its accounting assumes."""
    pipeline = make_pipeline(
        n_qubits=2, n_clients=2, members=4, rounds=12, participation=0.3, client_sampling="poisson", test=4
    )
    stack = Stack.from_layers("noisy", [Bounded(), Ruled(), Noisy(shift=1.0)])
    plain, noisy = run(pipeline, Stack.from_layers("rule", [Bounded(), Ruled()])), run(pipeline)
    assert torch.equal(plain.params, noisy.params)
    log.clear()
    result = run(pipeline, stack)
    sizes = [len(chosen) for chosen in members(result)]
    assert 0 in sizes
    assert max(sizes) > 0
    busy = sum(size > 0 for size in sizes)
    assert (log.count("bound"), log.count("aggregate"), log.count("perturb")) == (busy, busy, 12)
    assert len(result.accuracy) == len(result.train_loss) == 12
    for round_index, size in enumerate(sizes):
        if not size:
            before = plain.accuracy[round_index - 1] if round_index else None
            assert before is None or plain.accuracy[round_index] == before


def test_a_rule_may_act_on_nobody(make_pipeline: Maker, log: list[str]) -> None:
    class Tireless(Ruled):
        acts_on_nobody = True

        def aggregate(self, batch: object, state: object) -> tuple[torch.Tensor, object]:  # type: ignore[override]
            log.append(f"aggregate {len(batch.ids)}")  # type: ignore[attr-defined]
            return torch.ones_like(batch.broadcast), state  # type: ignore[attr-defined]

    pipeline = make_pipeline(
        n_qubits=2, n_clients=2, members=4, rounds=12, participation=0.3, client_sampling="poisson", test=2
    )
    result = run(pipeline, Stack.from_layers("tireless", [Tireless()]))
    asked = [entry for entry in log if entry.startswith("aggregate ")]
    assert len(asked) == 12
    assert "aggregate 0" in asked
    assert torch.allclose(result.params - result.initial, torch.full_like(result.params, 12.0), atol=1e-4)


def test_sums_need_a_known_number_of_clients(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, participation=0.5, client_sampling="poisson")
    with pytest.raises(IncompatibleStack, match="needs a known number of clients in every round"):
        run(pipeline, Stack(name="sum", client=(Aggregated(),)))
