"""Rows for people of the Gaussian layers: own noise at every client, sums at the server, and a torch training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import optimize, stats

from qflsec.accounting import LedgerContext, LedgerRow, People
from qflsec.accounting.group_privacy import GroupShare, epsilon_of_group
from qflsec.base import ConfigError, stream
from qflsec.data import load
from qflsec.defenses.privacy import DpFedAvg, DpSgd, LocalDp, PrivateTraining, make_private, torch_training
from qflsec.federation import Pipeline, RunSpec, Stack, run_batch
from qflsec.federation.round.lanes import lane_of
from qflsec.threat import honest_but_curious_server, public_final_model

Context = Callable[..., LedgerContext]
PEOPLE = People(told_by="the column 'patient'", named=True, kinds=((2, 0, 1), (1, 1, 0), (1, 1, 1)))


def people_rows(rows: tuple[LedgerRow, ...]) -> list[LedgerRow]:
    return [row for row in rows if row.unit == "person"]


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact curve of the Gaussian mechanism (Balle and Wang 2018, theorem 8)."""

    def exact(e: float) -> float:
        first = stats.norm.cdf(mu / 2 - e / mu)
        return float(first - math.exp(e) * stats.norm.cdf(-mu / 2 - e / mu))

    return float(optimize.brentq(lambda e: exact(e) - delta, 0.0, 200.0))


def test_full_batches_agree_with_the_analytic_gaussian(ledger_context: Context) -> None:
    """A person with 2 records at one client and 1 at another: mu = sqrt(steps (4 + 1)) / z."""
    context = ledger_context(counts=(8, 8, 8), rounds=6, people=PEOPLE)
    rows = DpSgd(noise_multiplier=4.0).ledger(context)
    (row,) = people_rows(rows)
    exact = gaussian_epsilon((6 * 5) ** 0.5 / 4.0, 1e-5)
    assert exact <= row.epsilon <= exact + 0.02  # type: ignore[operator]
    assert "3 records at 2 clients" in row.statement
    record = min(row.epsilon for row in rows if row.unit == "example" and row.epsilon is not None)
    assert record < exact, "a record's epsilon would be too small"
    # the observer's own client is no secret to it
    (own,) = people_rows(
        DpSgd(noise_multiplier=4.0).ledger(
            ledger_context(counts=(8, 8, 8), rounds=6, people=PEOPLE, clients=(0,))
        )
    )
    assert own.epsilon == pytest.approx(gaussian_epsilon((6 * 2) ** 0.5 / 4.0, 1e-5), abs=0.02)


def test_poisson_batches_are_a_mixture_of_gaussians(ledger_context: Context) -> None:
    context = ledger_context(
        counts=(8, 16, 8), rounds=5, local_steps=2, sampling="poisson", batch_size=2, people=PEOPLE
    )
    (row,) = people_rows(DpSgd(noise_multiplier=2.0).ledger(context))
    shares = [GroupShare(records=k, rate=0.25, steps=10) for k in (2, 1)]
    assert row.epsilon == epsilon_of_group(noise_multiplier=2.0, shares=shares, delta=1e-5).epsilon
    unsampled = gaussian_epsilon((10 * 5) ** 0.5 / 2.0, 1e-5)
    assert row.epsilon_unsampled == pytest.approx(unsampled, rel=0.01)


def test_a_client_covers_who_is_there_alone(ledger_context: Context) -> None:
    alone = People(told_by="x", named=True, kinds=((3, 0, 0),))
    for layer, extra in (
        (DpFedAvg(noise_multiplier=3.0), {"server": False}),
        (LocalDp(noise_multiplier=3.0), {}),
    ):
        seen = {"reads_clients": False, "smallest_k": 0} if extra else {}
        context = ledger_context(counts=(8, 8, 8), rounds=4, people=alone, **extra, **seen)
        assert people_rows(layer.ledger(context)) == []


def test_people_at_several_clients_cost_more(ledger_context: Context) -> None:
    """Three clients: a sum moves by 3 S; messages of their own move by sqrt(3) S together."""
    seen = {"server": False, "reads_clients": False, "smallest_k": 0}
    context = ledger_context(counts=(8, 8, 8), rounds=4, people=PEOPLE, client_sampling="all", **seen)
    (central,) = people_rows(DpFedAvg(noise_multiplier=6.0).ledger(context))
    assert central.epsilon == pytest.approx(gaussian_epsilon(4**0.5 * 3 / 6.0, 1e-5), abs=0.02)
    replaced, zeroed = people_rows(
        LocalDp(noise_multiplier=6.0).ledger(ledger_context(counts=(8, 8, 8), rounds=4, people=PEOPLE))
    )
    assert zeroed.epsilon == pytest.approx(gaussian_epsilon((4 * 3) ** 0.5 / 6.0, 1e-5), abs=0.02)
    assert replaced.epsilon == pytest.approx(gaussian_epsilon((4 * 3) ** 0.5 / 3.0, 1e-5), abs=0.02)
    assert (replaced.adjacency, zeroed.adjacency) == ("replace-one", "zero-out")


def test_a_run_finds_the_same_record_at_two_clients(make_pipeline: Callable[..., Pipeline]) -> None:
    """Overlapping partitions through the lanes of a run: the row of the record is not the person's."""
    pipeline = make_pipeline(rounds=3)
    lane = lane_of(pipeline, load(pipeline.data, 0), 0)
    dataset = lane.dataset
    a, b = int(lane.clients[0][0]), int(lane.clients[1][0])
    features, labels = dataset.features.clone(), dataset.labels.clone()
    features[b], labels[b] = features[a], labels[a]
    doubled = lane_of(pipeline, replace(dataset, features=features, labels=labels), 0)  # type: ignore[arg-type]
    stack = Stack(name="dp", client=(DpSgd(noise_multiplier=3.0),))
    plain, twice = (
        run_batch(pipeline, stack, [RunSpec(seed=0)], lanes=[each])[0].ledger(honest_but_curious_server())
        for each in (lane, doubled)
    )
    assert people_rows(plain) == []
    (row,) = people_rows(twice)
    assert row.epsilon == pytest.approx(gaussian_epsilon((3 * 2) ** 0.5 / 3.0, 1e-5), abs=0.02)
    assert "2 records at 2 clients (told by equal records)" in row.statement
    assert any("no column of the data names people" in row.statement for row in plain)


def training(people: list[int] | None, copies: int = 1) -> PrivateTraining:
    x = torch.randn(12, 5, generator=stream(0, "x"))
    x[1:copies] = x[0]
    y = (x[:, 0] > 0).long()
    loader: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=3)
    module = torch.nn.Linear(5, 2)
    made = make_private(
        module,
        torch.optim.SGD(module.parameters(), lr=0.1),
        loader,
        noise_multiplier=2.0,
        delta=1e-3,
        people=people,
    )
    for batch, target in made.loader:
        made.optimizer.zero_grad()
        torch.nn.functional.cross_entropy(made.model(batch), target).backward()
        made.optimizer.step()
    return made


@pytest.mark.parametrize("found_by", ["names", "equal records"])
def test_a_torch_training_states_people_too(found_by: str) -> None:
    named = [0, 0, 0, *range(1, 10)] if found_by == "names" else None
    rows = training(named, 3 if named is None else 1).rows()
    (row,) = people_rows(rows)
    share = GroupShare(records=3, rate=0.25, steps=4)
    assert row.epsilon == epsilon_of_group(noise_multiplier=2.0, shares=[share], delta=1e-3).epsilon
    assert row.epsilon > max(row.epsilon or 0.0 for row in rows if row.unit == "example")
    assert all(("nobody was named" in row.note) == (named is None) for row in rows)


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[1.0], [2.0], [1.0]]).expand(3, 5),
        torch.tensor([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]).bfloat16(),
        torch.tensor([[True, False], [False, True], [True, False]]),
        torch.arange(12).reshape(2, 6).T[[0, 1, 0]],
        torch.tensor([1.0, 2.0, 1.0])[:, None, None].expand(3, 1, 1),
    ],
    ids=["expanded", "half", "bool", "transposed", "one number"],
)
def test_equal_records_are_found_whatever_their_memory(x: torch.Tensor) -> None:
    labels = torch.tensor([0, 0, 0])
    found = torch_training._people(torch.utils.data.TensorDataset(x, labels), None)
    assert found.kinds == ((2,),)
    other = torch_training._people(torch.utils.data.TensorDataset(x, torch.tensor([0, 0, 1])), None)
    assert other.kinds == (), "another label is another record"


def test_everybody_with_one_record_needs_no_row() -> None:
    made = training(list(range(12)))
    assert people_rows(made.rows()) == []
    with pytest.raises(ConfigError, match="whose every record is; got 3"):
        training([1, 2, 3])


def test_the_final_model_is_covered_by_the_same_row(ledger_context: Context) -> None:
    context = ledger_context(counts=(8, 8, 8), rounds=6, people=PEOPLE)
    public = replace(context, observer=replace(context.observer, threat=public_final_model(), smallest_k=0))
    (one,), (other,) = (people_rows(DpSgd(noise_multiplier=4.0).ledger(each)) for each in (context, public))
    assert one.epsilon == other.epsilon
