"""Clients that send parts of the model: depths and poor channels, against loops written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch

from qflsec.attacks.poisoning import ClaimedPart
from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack
from qflsec.defenses.robust import GeometricMedian, Median, TrimmedMean
from qflsec.federation import (
    Adversary,
    Depths,
    FedAvg,
    Hands,
    Pipeline,
    RoundUpdates,
    RunResult,
    RunSpec,
    Slimmable,
    Stack,
    run_batch,
)
from qflsec.models import Execution, Layered, build_model
from qflsec.protocols.secagg import Masked
from qflsec.threat import ThreatModel, client, corrupted_clients


@dataclass(frozen=True)
class Flood(Adversary):
    """Sends ones for every parameter, and may claim what it likes."""

    claim: int | None = None

    def identity(self) -> dict[str, object]:
        """The claim."""
        return {"name": "flood", "claim": self.claim}

    def updates(self, hands: Hands) -> torch.Tensor:
        """Ones."""
        return torch.ones_like(hands.honest)

    def claims(self, choices: int, honest: int) -> int:
        """The claim."""
        return honest if self.claim is None else self.claim


Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
DEPTHS = (1, 2, 2)


def layered(make_pipeline: Maker, parts: Depths | Slimmable | None, **federation: object) -> Pipeline:
    pipeline = make_pipeline(members=24, n_qubits=2, n_clients=3, local_steps=2, **federation)
    model = {"name": "layered", "n_qubits": 2, "layers": 2, "poles": isinstance(parts, Slimmable)}
    return replace(pipeline, model=build_model(model), parts=parts)


def trained(pipeline: Pipeline, run: RunResult, index: int, params: torch.Tensor) -> torch.Tensor:
    """Gradient descent on the mean loss of all exits that a client has."""
    model, records = pipeline.model, run.client_records(index)
    assert isinstance(model, Layered)
    depths = range(1, DEPTHS[index] + 1) if isinstance(pipeline.parts, Depths) else [2]
    for _ in range(pipeline.federation.local_steps):
        leaf = params.clone().requires_grad_()
        losses = [
            torch.nn.functional.cross_entropy(
                model.at(depth)(leaf, records.features.double(), execution=Execution(dtype="complex128")),
                records.labels,
            )
            for depth in depths
        ]
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), leaf)
        params = params - pipeline.federation.learning_rate * gradient
    return params


def mean_of_senders(updates: torch.Tensor, counts: torch.Tensor, sent: torch.Tensor) -> torch.Tensor:
    """Entry by entry."""
    step = torch.zeros(updates.shape[1], dtype=torch.float64)
    for place in range(updates.shape[1]):
        rows = [row for row in range(len(updates)) if sent[row, place]]
        if rows:
            weight = sum(float(counts[row]) for row in rows)
            step[place] = sum(float(updates[row, place]) * float(counts[row]) for row in rows) / weight
    return step


@pytest.mark.parametrize("parts", [Depths(depths=DEPTHS), Slimmable(whole=0.4, angles=0.4)])
def test_parts_are_means_over_those_who_sent_them(make_pipeline: Maker, parts: Depths | Slimmable) -> None:
    pipeline = layered(make_pipeline, parts, rounds=3)
    run = run_batch(pipeline, NONE, [RunSpec(seed=3)])[0]
    params, counts = run.initial.double(), torch.tensor([float(len(rows)) for rows in run.clients])
    seen = torch.zeros(3, params.shape[0], dtype=torch.bool)
    for index in range(3):
        sent = parts.sent(pipeline.model, 3, index, 3)
        seen |= sent
        updates = torch.stack([trained(pipeline, run, client, params) - params for client in range(3)])
        params = params + mean_of_senders(updates, counts, sent)
    assert torch.allclose(run.params.double(), params, atol=3e-6)
    assert run.costs["sent_parameters"] == sum(
        float(parts.sent(pipeline.model, 3, index, 3).sum()) for index in range(3)
    )
    assert bool(seen.any())


def test_equal_depths_are_federated_averaging_bit_for_bit(make_pipeline: Maker) -> None:
    plain = layered(make_pipeline, None, rounds=3)
    deep = replace(plain, parts=Depths(depths=(2, 2, 2), layerwise=False))
    whole = layered(make_pipeline, Slimmable(whole=1.0, angles=0.0), rounds=3)
    specs = [RunSpec(seed=0), RunSpec(seed=1)]
    for one, other in ((plain, deep), (replace(whole, parts=None), whole)):
        first, second = (run_batch(pipeline, NONE, specs) for pipeline in (one, other))
        assert all(torch.equal(a.params, b.params) for a, b in zip(first, second, strict=True))
    # and a layered circuit without parts is the variational one
    vqc = replace(plain, model=build_model({"name": "vqc", "n_qubits": 2, "layers": 2}))
    assert torch.equal(run_batch(vqc, NONE, specs)[1].params, run_batch(plain, NONE, specs)[1].params)


@pytest.mark.parametrize("parts", [Depths(depths=DEPTHS), Slimmable(whole=0.4, angles=0.4)])
def test_a_run_is_the_same_alone(make_pipeline: Maker, parts: Depths | Slimmable) -> None:
    pipeline = layered(make_pipeline, parts, rounds=2)
    together = run_batch(pipeline, NONE, [RunSpec(seed=seed) for seed in (0, 1)])
    alone = run_batch(pipeline, NONE, [RunSpec(seed=1)])[0]
    assert torch.equal(together[1].params, alone.params)
    assert together[0].costs["sent_parameters"] > 0


def batch(updates: torch.Tensor, sent: torch.Tensor | None, f: int = 1) -> RoundUpdates:
    n, width = updates.shape
    return RoundUpdates(
        round=0,
        updates=updates,
        counts=torch.arange(1.0, n + 1),
        ids=tuple(range(n)),
        broadcast=torch.zeros(width),
        periods=(None,) * width,
        f=f,
        generator=torch.Generator(),
        sent=sent,
    )


def test_what_nobody_sent_stays() -> None:
    sent = torch.tensor([[True, False, False], [True, True, False]])
    step, _ = FedAvg().aggregate(batch(torch.ones(2, 3) * sent, sent), None)
    assert torch.equal(step, torch.tensor([1.0, 1.0, 0.0]))


def test_a_robust_rule_acts_on_each_part_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    updates = torch.randn(7, 4, generator=generator)
    sent = torch.ones(7, 4, dtype=torch.bool)
    sent[3:, 2:] = False
    step, _ = Median().aggregate(batch(updates * sent, sent), None)
    expected = torch.cat([updates[:, :2].median(dim=0).values, updates[:3, 2:].median(dim=0).values])
    assert torch.equal(step, expected)
    near, _ = GeometricMedian().aggregate(batch(updates * sent, sent), None)
    for rows, places in ((slice(7), slice(2)), (slice(3), slice(2, 4))):
        apart, _ = GeometricMedian().aggregate(batch(updates[rows, places], None), None)
        assert torch.equal(near[places], apart)


def test_what_does_not_fit_is_refused(make_pipeline: Maker) -> None:
    deep = layered(make_pipeline, Depths(depths=DEPTHS), declared_corrupted=1)
    vqc = build_model({"name": "vqc", "n_qubits": 2, "layers": 2})
    for change in (
        {"model": vqc},
        {"parts": Depths(depths=(1, 2))},
        {"parts": Depths(depths=(1, 2, 3))},
        {"parts": Slimmable()},
        {"personal": ("layer.1",)},
    ):
        with pytest.raises(ConfigError):
            replace(deep, **change)
    for depths in ((), (0, 1, 1), (True, 1, 1), "112"):
        with pytest.raises(ConfigError):
            Depths(depths=depths)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Slimmable(whole=0.8, angles=0.4)
    with pytest.raises(IncompatibleStack, match="parts of the model"):
        Stack.from_layers("masked", [Masked()]).check(deep)
    # one of the two deep clients is no minority
    with pytest.raises(IncompatibleStack, match="not defined"):
        Stack.from_layers("trimmed", [TrimmedMean()]).check(deep)


def test_a_part_of_few_hides_few(make_pipeline: Maker) -> None:
    """One of the two deep clients takes its own update off the deep layer: what is left is the other's."""
    pipeline = layered(make_pipeline, Depths(depths=DEPTHS), rounds=2)
    run = run_batch(pipeline, NONE, [RunSpec(seed=0)], grant_honest_updates=True)[0]
    honest = run.transcript.honest_updates[0]
    deep = pipeline.model.layout[0][1][0]
    seen = run.view(ThreatModel(name="deep", corrupted=frozenset({client(1)})))
    found = {item.round: item for item in seen.readable("update", about=2) if item.places is not None}
    assert set(found) == {0, 1}
    for index, item in found.items():
        assert item.k == 1
        assert item.places == tuple(range(deep, 2 * deep))
        assert torch.allclose(item.vector[deep:], honest[index, 2][deep:], atol=2e-5)
        assert not item.vector[:deep].any()
    # the first layer is still a sum of two others, weighted by their records
    shallow = [item for item in seen.readable("aggregate") if item.places == tuple(range(deep))]
    assert [item.k for item in shallow] == [2, 2]
    weights = torch.tensor([float(len(run.clients[index])) for index in (0, 2)])
    for item in shallow:
        both = torch.stack([honest[item.round, index][:deep] for index in (0, 2)])
        expected = (both * weights[:, None]).sum(dim=0) / weights.sum()
        assert torch.allclose(item.vector[:deep], expected, atol=2e-5)
    # the client without a deep layer sees a mean of two there
    outside = run.view(corrupted_clients(n=1)).readable("aggregate")
    assert {item.k for item in outside if item.places == tuple(range(deep, 2 * deep))} == {2}


def test_a_lie_about_the_channel_decides_what_is_counted(make_pipeline: Maker) -> None:
    pipeline = layered(make_pipeline, Slimmable(whole=0.3, angles=0.7), rounds=3)
    poles, threat = pipeline.model.n_params - 2, corrupted_clients(n=1)
    asked = {claim: ClaimedPart(claim=claim) for claim in ("true", "all", "least")}  # type: ignore[arg-type]
    runs = run_batch(
        pipeline, NONE, [RunSpec(seed=2, threat=threat, adversary=one) for one in asked.values()]
    )
    sent = dict(zip(asked, (run.costs["sent_parameters"] for run in runs), strict=True))
    truth = sum(float(pipeline.parts.sent(pipeline.model, 3, index, 2)[0].sum()) for index in range(3))  # type: ignore[union-attr]
    assert sent["all"] - sent["true"] == 3 * pipeline.model.n_params - truth
    assert sent["true"] - sent["least"] == truth - 3 * poles
    assert sent["all"] > sent["true"] > sent["least"]
    with pytest.raises(IncompatibleAttack):
        ClaimedPart().check(make_pipeline(), threat)


def test_numbers_for_parts_that_a_client_does_not_have_count_for_nothing(make_pipeline: Maker) -> None:
    pipeline = layered(make_pipeline, Depths(depths=DEPTHS), rounds=1)
    shallow = corrupted_clients(n=1)
    flood, honest = run_batch(
        pipeline, NONE, [RunSpec(seed=0, threat=shallow, adversary=Flood()), RunSpec(seed=0)]
    )
    deep = pipeline.model.layout[0][1][0]
    assert torch.equal(flood.params[deep:], honest.params[deep:])
    assert not torch.allclose(flood.params[:deep], honest.params[:deep])
    # who says that it is deep is counted so: nobody checks a device
    liar = run_batch(pipeline, NONE, [RunSpec(seed=0, threat=shallow, adversary=Flood(claim=1))])[0]
    assert not torch.allclose(liar.params[deep:], honest.params[deep:])
    wrong = run_batch(pipeline, NONE, [RunSpec(seed=0, threat=shallow, adversary=Flood(claim=2))])[0]
    assert wrong.outcome.startswith("failed")
