"""What clients report of themselves: asked, carried, seen, lied about, and refused where a promise would break."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.base import IncompatibleStack
from qflsec.data import PartitionSpec
from qflsec.defenses.privacy import DpSgd, LocalDp
from qflsec.defenses.weighting import LossWeighted, Softmin
from qflsec.federation import (
    Adversary,
    FedAvg,
    Hands,
    Layer,
    Pipeline,
    RoundUpdates,
    RunResult,
    RunSpec,
    Stack,
    run_batch,
)
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.qdp.mechanisms import DepolarizingNoise
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    client,
    corrupted_clients,
    honest_but_curious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
LIAR = corrupted_clients(n=1)
ASKS = Stack.from_layers("asks", [Softmin()])
SKEWED = PartitionSpec(kind="dirichlet", alpha=1.0, min_records=2)


@dataclass(frozen=True)
class Says(Adversary):
    """Its clients report this loss, and send what honest ones would."""

    loss: float
    odd: bool = False

    def reports(self, hands: Hands, honest: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        said = torch.full_like(honest["loss"], self.loss)
        return {"loss": said[:, :0] if self.odd else said}

    def identity(self) -> dict[str, object]:
        return {"name": "says", "loss": self.loss, "odd": self.odd}


def run(pipeline: Pipeline, stack: Stack = ASKS, spec: RunSpec | None = None) -> RunResult:
    (result,) = run_batch(pipeline, stack, [spec or RunSpec(seed=1)], secrets="seeded")
    return result


def reported(result: RunResult, round_index: int) -> dict[int, float]:
    items = result.view(honest_but_curious_server()).readable("update", round_index=round_index)
    return {min(item.named): item.reports["loss"] for item in items}


def test_a_client_reports_the_loss_of_the_model_that_it_received(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=3, local_steps=2, partition=SKEWED)
    result = run(pipeline)
    view = result.view(honest_but_curious_server())
    for index in range(3):
        said, params = reported(result, index), view.model_at(index)
        assert params is not None
        assert sorted(said) == [0, 1, 2, 3]
        for who, rows in enumerate(result.clients):
            features, labels = result.dataset.features[rows], result.dataset.labels[rows]
            loss = pipeline.model.loss.per_sample(pipeline.model(params, features), labels).mean()
            assert said[who] == pytest.approx(float(loss), abs=1e-5)


def test_runs_side_by_side_report_what_each_does_alone(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=2, partition=SKEWED)
    specs = [RunSpec(seed=1), RunSpec(seed=2, adversary=Says(9.0), threat=LIAR), RunSpec(seed=3)]
    together = run_batch(pipeline, ASKS, specs)
    for spec, beside in zip(specs, together, strict=True):
        alone = run(pipeline, ASKS, spec)
        assert torch.equal(alone.params, beside.params)
        assert reported(alone, 1) == reported(beside, 1)


def test_a_report_costs_a_number_on_the_wire_and_links_hide_it(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=2)
    plain, asked = run(pipeline, Stack(name="none")), run(pipeline)
    assert asked.costs["network_bytes"] - plain.costs["network_bytes"] == 2 * 3 * 4
    assert all(not item.reports for item in plain.view(honest_but_curious_server()).items)
    assert len([i for i in asked.view(wire_eavesdropper()).items if i.reports]) == 6
    own = [item for item in asked.view(corrupted_clients(n=1, active=False)).items if item.reports]
    assert {item.sender for item in own} == {client(0)}
    link = Stack.from_layers("link", [AesGcmLink(), Softmin()])
    sealed = run(pipeline, link)
    assert not [item for item in sealed.view(wire_eavesdropper()).items if item.reports]
    assert torch.equal(sealed.params, asked.params)
    (traffic,) = link.carried(pipeline.workload).values()
    assert traffic is not None
    assert {bulk.n_bytes for bulk in traffic.up} == {4 * (pipeline.workload.n_params + 2)}


def test_what_a_corrupted_client_says_is_what_the_server_hears(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=1)
    honest = run(pipeline)
    lied = run(pipeline, spec=RunSpec(seed=1, adversary=Says(50.0), threat=LIAR))
    truth, said = reported(honest, 0), reported(lied, 0)
    assert said[0] == 50.0
    assert {who: said[who] for who in (1, 2)} == {who: truth[who] for who in (1, 2)}
    # weight exp(-50): the others alone move the model
    others = [honest.view(honest_but_curious_server()).readable("update", about=who)[0] for who in (1, 2)]
    weights = torch.tensor([float(item.weight or 0) for item in others]).double()
    weights *= torch.exp(-torch.tensor([truth[1], truth[2]]).double())
    expected = sum(w * item.vector.double() for w, item in zip(weights, others, strict=True)) / weights.sum()
    assert torch.allclose((lied.params - lied.initial).double(), expected, atol=1e-6)


def test_a_loss_that_is_no_number_drops_the_client_and_ends_nothing(make_pipeline: Maker) -> None:
    spec = RunSpec(seed=1, adversary=Says(float("nan")), threat=LIAR)
    result = run(make_pipeline(n_clients=3, rounds=2), spec=spec)
    assert result.outcome == "completed"
    assert {(one.client, one.round) for one in result.dropped} == {(0, 0), (0, 1)}


def test_an_attack_that_reports_another_shape_fails_its_own_run_alone(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=3, rounds=1)
    specs = [RunSpec(seed=1, adversary=Says(1.0, odd=True), threat=LIAR), RunSpec(seed=1)]
    broken, honest = run_batch(pipeline, ASKS, specs)
    assert broken.outcome.startswith("failed")
    assert "wrong shape" in broken.outcome
    assert honest.outcome == "completed"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (DpSgd(), "epsilon would not hold"),
        (LocalDp(), "epsilon would not hold"),
        (DepolarizingNoise(p=0.1), "epsilon would not hold"),
    ],
    ids=lambda value: getattr(getattr(value, "card", None), "name", ""),
)
def test_a_stack_whose_promise_a_report_would_break_is_refused(layer: Layer, words: str) -> None:
    with pytest.raises(IncompatibleStack, match=words):
        Stack.from_layers("refused", [layer, LossWeighted()])
    Stack.from_layers("fine", [layer])


@dataclass(frozen=True, kw_only=True)
class Curious(FedAvg):
    """The mean of a sum, and a loss of everybody."""

    asks = frozenset({"loss"})


def test_what_clients_cannot_report_is_refused() -> None:
    class Asking(LossWeighted):
        asks = frozenset({"loss", "temperature"})

    with pytest.raises(IncompatibleStack, match="'temperature'"):
        Stack.from_layers("asks", [Asking()])


def test_a_sum_leaves_nobody_to_ask() -> None:
    with pytest.raises(IncompatibleStack, match="single client's numbers"):
        Stack.from_layers("refused", [Masked(), Curious()])


def test_reports_stay_with_their_clients() -> None:
    batch = RoundUpdates(
        round=0,
        updates=torch.zeros(3, 2),
        counts=torch.ones(3),
        ids=(0, 4, 7),
        broadcast=torch.zeros(2),
        periods=(None, None),
        f=0,
        generator=torch.Generator(),
        reports={"loss": torch.tensor([0.1, 0.2, 0.3])},
    )
    kept = batch.keep(torch.tensor([True, False, True]))
    assert kept.ids == (0, 7)
    assert torch.equal(kept.reports["loss"], torch.tensor([0.1, 0.3]))
    assert torch.equal(replace(batch, f=1).reports["loss"], batch.reports["loss"])
