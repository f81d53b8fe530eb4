"""The loop against independent oracles, and batches against single runs, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from qflsec.attacks import Manipulation
from qflsec.base import AttackCard, ConfigError, Source, UpdateError
from qflsec.data import DataSpec, PartitionSpec
from qflsec.defenses.privacy import ClientClip, DpSgd
from qflsec.defenses.robust import Median, NormBound
from qflsec.federation import Adversary, Hands, Pipeline, RunResult, RunSpec, ServerHands, Stack, run_batch
from qflsec.models import Execution
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import Masked
from qflsec.threat import (
    Tapped,
    corrupted_clients,
    honest_but_curious_server,
    malicious_server,
    wire_eavesdropper,
)

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")


def card(name: str) -> AttackCard:
    source = Source(paper="test", year=2026, where="here")
    return AttackCard(
        name=name,
        idea="test",
        source=source,
        family="poisoning",
        goal="integrity",
        needs=("corrupted clients",),
    )


@dataclass(frozen=True, kw_only=True)
class Adaptive(Manipulation):
    """Scales by what it reads in its own view: the stack, the model, and its stream."""

    card: ClassVar[AttackCard] = card("adaptive")
    factor: float = 2.0

    def run(self, hands: Hands) -> torch.Tensor:
        rows = []
        for lane, (view, generator) in enumerate(zip(hands.views(), hands.generators, strict=True)):
            model = view.model_at(hands.round)
            assert model is not None
            strength = self.factor * (1 + len(view.granted.defenses.layers))
            noise = torch.randn(hands.honest.shape[1:], generator=generator)
            rows.append(-strength * hands.honest[lane] + 0.01 * noise + 0.001 * model)
        flipped = hands.train(hands.features, 1 - hands.labels)
        return torch.stack(rows) + 0.1 * flipped


@dataclass(frozen=True, kw_only=True)
class Broken(Manipulation):
    """Faulty in one of several ways."""

    card: ClassVar[AttackCard] = card("broken")
    how: str = "bug"

    def run(self, hands: Hands) -> torch.Tensor:
        if self.how == "shape":
            return hands.honest[..., :-1]
        raise ZeroDivisionError("a bug in an attack")


def same(a: RunResult, b: RunResult) -> bool:
    return torch.equal(a.params, b.params) and a.accuracy == b.accuracy and a.train_loss == b.train_loss


CASES: dict[str, tuple[dict[str, object], Stack]] = {
    "plain": ({}, NONE),
    "mini-batches": ({"batch_size": 4, "local_steps": 2, "optimizer": "adam"}, NONE),
    "defended": (
        {"batch_size": 4, "sampling": "poisson"},
        Stack.from_layers(
            "defended", [DpSgd(clip_norm=1.0, noise_multiplier=1.0), AesGcmLink(), NormBound(), Median()]
        ),
    ),
    "masked": ({"local_steps": 2}, Stack(name="masked", client=(ClientClip(clip_norm=0.5), Masked()))),
}


@pytest.mark.parametrize("n_qubits", [4, 6, 8])
@pytest.mark.parametrize("case", CASES)
def test_batched_equals_single_bit_for_bit(make_pipeline: Maker, n_qubits: int, case: str) -> None:
    settings, stack = CASES[case]
    pipeline = make_pipeline(
        n_qubits=n_qubits,
        members=36,
        partition=PartitionSpec(kind="dirichlet", alpha=0.5, min_records=1),
        **settings,
    )
    threat = corrupted_clients(n=1, knows=("architecture", "auxiliary", "defenses"))
    rushing = corrupted_clients(n=1, rushing=True, knows=("architecture", "defenses"))
    specs = [
        *(RunSpec(seed=seed) for seed in (0, 1, 2)),
        *(RunSpec(seed=seed, adversary=Adaptive(), threat=threat) for seed in (0, 1, 2)),
        RunSpec(seed=1, adversary=Adaptive(factor=3.0), threat=threat),
        RunSpec(seed=1, adversary=Adaptive(), threat=rushing),
    ]
    single = [run_batch(pipeline, stack, [spec], secrets="seeded")[0] for spec in specs]
    assert len({tuple(len(c) for c in run.clients) for run in single}) > 1, "client sizes must differ"
    for lanes in (2, 3, 7, 16):
        together = run_batch(pipeline, stack, specs, max_lanes=lanes, secrets="seeded")
        assert [same(a, b) for a, b in zip(single, together, strict=True)] == [True] * len(specs)
    assert all(run.outcome == "completed" for run in single)
    assert not same(single[1], single[4]), "the attack must change the run"
    assert not same(single[4], single[6]), "its parameter must matter"


def test_streams_do_not_depend_on_the_stack_or_the_batch(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(batch_size=4)
    first = run_batch(pipeline, NONE, [RunSpec(seed=5)])[0]
    renamed = run_batch(pipeline, Stack(name="another name"), [RunSpec(seed=6), RunSpec(seed=5)])[1]
    assert same(first, renamed)


def test_loop_equals_a_plain_loop(make_pipeline: Maker) -> None:
    """Weighted FedAvg with local SGD, written out with autograd over single clients."""
    pipeline = make_pipeline(
        members=31,
        local_steps=2,
        rounds=3,
        partition=PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=2),
    )
    result = run_batch(pipeline, NONE, [RunSpec(seed=3)])[0]
    params = result.initial.double()
    for _ in range(3):
        updates, counts = [], []
        for rows in result.clients:
            local = params.clone()
            for _ in range(2):
                leaf = local.clone().requires_grad_()
                logits = pipeline.model(
                    leaf, result.dataset.features[rows].double(), execution=Execution(dtype="complex128")
                )
                loss = torch.nn.functional.cross_entropy(logits, result.dataset.labels[rows])
                (gradient,) = torch.autograd.grad(loss, leaf)
                local = local - 0.2 * gradient
            updates.append(local - params)
            counts.append(len(rows))
        weights = torch.tensor(counts, dtype=torch.double) / sum(counts)
        params = params + (torch.stack(updates) * weights[:, None]).sum(dim=0)
    assert torch.allclose(result.params.double(), params, atol=2e-6)


def test_adam_equals_torch(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(
        n_clients=1, members=12, rounds=1, local_steps=4, optimizer="adam", learning_rate=0.05
    )
    result = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    weights = result.initial.clone().requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=0.05)
    records = result.client_records(0)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            pipeline.model(weights, records.features), records.labels
        ).backward()
        optimizer.step()
    assert torch.allclose(result.params, weights.detach(), atol=1e-5)


def test_training_learns(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(members=120, layers=2, rounds=20, local_steps=2, learning_rate=0.3, test=150)
    runs = run_batch(pipeline, NONE, [RunSpec(seed=seed) for seed in range(3)])
    for run in runs:
        assert run.train_loss[-1] < run.train_loss[0]
    assert np.mean([run.accuracy[-1] for run in runs]) > 0.8


def test_parameter_shift_trains_like_autograd_without_shots_and_runs_with_shots(make_pipeline: Maker) -> None:
    plain = make_pipeline(members=12)
    shift = Pipeline(
        data=plain.data,
        model=plain.model,
        federation=plain.federation,
        execution=Execution(gradient="parameter-shift"),
    )
    sampled = Pipeline(
        data=plain.data,
        model=plain.model,
        federation=plain.federation,
        execution=Execution(gradient="parameter-shift", shots=2000),
    )
    exact = run_batch(plain, NONE, [RunSpec(seed=1)])[0]
    shifted = run_batch(shift, NONE, [RunSpec(seed=1)])[0]
    assert torch.allclose(exact.params, shifted.params, atol=1e-5)
    noisy = run_batch(sampled, NONE, [RunSpec(seed=1), RunSpec(seed=2)])
    assert same(noisy[0], run_batch(sampled, NONE, [RunSpec(seed=1)])[0])
    gap = (noisy[0].params - exact.params).abs().max()
    assert 1e-5 < gap < 0.1


def test_clients_may_differ_in_execution(make_pipeline: Maker) -> None:
    """Only the client that samples its outcomes sends another update."""
    plain = make_pipeline(members=12, rounds=1)
    mixed = Pipeline(
        data=plain.data,
        model=plain.model,
        federation=plain.federation,
        client_executions={1: Execution(shots=50, gradient="parameter-shift")},
    )
    seen = []
    for pipeline in (plain, mixed):
        view = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0].view(honest_but_curious_server())
        seen.append({min(i.about): i.vector for i in view.readable("update") if not i.derived})
    # one run trains in one compiled call and the other step by step
    assert [torch.equal(seen[0][index], seen[1][index]) for index in range(3)] == [True, False, True]


def test_partial_participation_moves_only_with_participants(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=5, participation=0.4, rounds=4)
    result = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    facts = result.transcript.facts[0].participants
    assert all(len(members) == 2 for members in facts.values())
    assert len(set(facts.values())) > 1
    view = result.view(honest_but_curious_server())
    for round_index, members in facts.items():
        seen = {item.about for item in view.readable("update", round_index=round_index) if not item.derived}
        assert seen == {frozenset({index}) for index in members}


def test_poisson_batches_have_the_stated_rate(make_pipeline: Maker) -> None:
    """Mean batch size over 600 draws of Bin(10, 0.4); false-alarm rate 1e-6 (4.9 standard errors)."""
    from qflsec.federation.round.batches import ClientData, plan_batches
    from qflsec.federation.streams import RoundStreams

    pipeline = make_pipeline(batch_size=4, sampling="poisson", local_steps=200)
    data = ClientData(
        features=torch.zeros(1, 3, 16, 4),
        labels=torch.zeros(1, 3, 16, dtype=torch.long),
        mask=torch.zeros(1, 3, 16),
    )
    data.mask[:, :, :10] = 1.0
    steps = plan_batches(data, pipeline.federation, RoundStreams([0], 0))
    sizes = torch.stack([step.mask.sum(dim=-1) for step in steps])
    assert abs(float(sizes.mean()) - 4.0) < 4.9 * (10 * 0.4 * 0.6 / 600) ** 0.5
    assert all(torch.equal(step.mask * data.mask, step.mask) for step in steps)
    assert torch.allclose(steps[0].expected, torch.tensor(4.0))


def test_fixed_batches_hold_distinct_records_and_padding_only_when_short(make_pipeline: Maker) -> None:
    from qflsec.federation.round.batches import ClientData, plan_batches
    from qflsec.federation.streams import RoundStreams

    pipeline = make_pipeline(batch_size=4, local_steps=20)
    mask = torch.zeros(1, 3, 8)
    for client_index, count in enumerate((8, 5, 2)):
        mask[0, client_index, :count] = 1.0
    data = ClientData(
        features=torch.zeros(1, 3, 8, 4), labels=torch.zeros(1, 3, 8, dtype=torch.long), mask=mask
    )
    for step in plan_batches(data, pipeline.federation, RoundStreams([0], 0)):
        assert step.index is not None
        assert step.mask.sum(dim=-1)[0].tolist() == [4, 4, 2]
        for client_index in range(3):
            used = step.index[0, client_index][step.mask[0, client_index] > 0].tolist()
            assert len(set(used)) == len(used)
            assert max(used) < int(mask[0, client_index].sum())


@pytest.mark.parametrize(("how", "words"), [("shape", "wrong shape"), ("bug", "a bug")])
def test_a_faulty_attack_fails_its_own_run_only(make_pipeline: Maker, how: str, words: str) -> None:
    pipeline = make_pipeline()
    spec = RunSpec(seed=0, adversary=Broken(how=how), threat=corrupted_clients(n=1))
    broken, honest = run_batch(pipeline, NONE, [spec, RunSpec(seed=0)])
    assert broken.outcome.startswith("failed: ")
    assert words in broken.outcome
    assert "\n" not in broken.outcome
    assert bool(broken.traceback) == (how == "bug")
    assert honest.outcome == "completed"
    assert same(honest, run_batch(pipeline, NONE, [RunSpec(seed=0)])[0])


def test_a_corrupted_server_may_send_each_client_another_model(make_pipeline: Maker) -> None:
    class Dividing(Adversary):
        def broadcast(self, hands: ServerHands) -> torch.Tensor:
            shift = torch.arange(hands.n_clients, dtype=torch.float32)[None, :, None]
            return hands.params[:, None, :] + shift

        def identity(self) -> dict[str, object]:
            return {"name": "dividing"}

    pipeline = make_pipeline(rounds=1)
    result = run_batch(pipeline, NONE, [RunSpec(seed=0, adversary=Dividing(), threat=malicious_server())])[0]
    first, second = (
        result.view(corrupted_clients(n=n)).readable("model", round_index=0)[-1].vector for n in (1, 2)
    )
    assert torch.allclose(second - first, torch.ones_like(first))


def test_a_corrupted_network_may_drop_and_alter(make_pipeline: Maker) -> None:
    class Dropping(Adversary):
        def tamper(self, tapped: Tapped) -> torch.Tensor | None:  # type: ignore[override]
            assert isinstance(tapped.payload, torch.Tensor)
            if tapped.kind == "update" and str(tapped.sender) == "client:1":
                return None
            if tapped.kind == "update" and str(tapped.sender) == "client:2":
                return tapped.payload * torch.tensor([0.0] * (len(tapped.payload) - 1) + [1.0])
            return tapped.payload

        def identity(self) -> dict[str, object]:
            return {"name": "dropping"}

    pipeline = make_pipeline(rounds=1)
    threat = wire_eavesdropper(active=True)
    attacked = run_batch(pipeline, NONE, [RunSpec(seed=0, adversary=Dropping(), threat=threat)])[0]
    honest = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0]
    assert attacked.transcript.facts[0].participants[0] == frozenset({0, 2})
    counts = [len(rows) for rows in attacked.clients]
    update = honest.view(honest_but_curious_server()).readable("update", about=0)[0].vector
    expected = update * counts[0] / (counts[0] + counts[2])
    assert torch.allclose(attacked.params - attacked.initial, expected, atol=1e-6)


@pytest.mark.parametrize("preprocessing", ["training", "auxiliary"])
def test_the_ledger_names_preprocessing_fitted_on_training_records(
    make_pipeline: Maker, preprocessing: str
) -> None:
    plain = make_pipeline(rounds=1)
    data = replace(plain.data, preprocessing=preprocessing)
    pipeline = Pipeline(data=data, model=plain.model, federation=plain.federation)
    rows = run_batch(pipeline, NONE, [RunSpec(seed=0)])[0].ledger(honest_but_curious_server())
    named = [row.statement for row in rows if "preprocessing" in row.statement]
    assert bool(named) == (preprocessing == "training")


def test_the_ledger_names_medians_fitted_on_training_records(tmp_path: Path, make_pipeline: Maker) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(60, 2, generator=generator).tolist()
    rows = [f"{a:.4f},{'' if i % 9 == 0 else f'{b:.4f}'},{i % 2}" for i, (a, b) in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    plain = make_pipeline(rounds=1, n_qubits=2)
    sizes = {"members": 24, "nonmembers": 12, "auxiliary": 12, "test": 12}
    data = DataSpec(
        name="csv", path=str(tmp_path / "t.csv"), label_column="y", n_features=2, reduction="none",
        missing="median", preprocessing="training", **sizes,
    )  # fmt: skip
    for spec, lines in ((data, 1), (replace(data, preprocessing="auxiliary"), 0)):
        run = run_batch(
            Pipeline(data=spec, model=plain.model, federation=plain.federation), NONE, [RunSpec(seed=0)]
        )[0]
        rows = [row for row in run.ledger(honest_but_curious_server()) if "medians" in row.statement]
        assert [row.guarantee for row in rows] == ["not covered"] * lines
        assert "medians" in run.dataset.fitted_on


def test_impossible_requests_are_refused(make_pipeline: Maker) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        run_batch(make_pipeline(), NONE, [RunSpec(seed=0, adversary=Broken(), threat=corrupted_clients(n=4))])
    with pytest.raises(ConfigError, match="acts through corrupted clients"):
        run_batch(make_pipeline(), NONE, [RunSpec(seed=0, adversary=Broken(), threat=malicious_server())])
    with pytest.raises(ConfigError, match="passive"):
        RunSpec(seed=0, adversary=Broken(), threat=corrupted_clients(n=1, active=False))
    with pytest.raises(ConfigError, match="both an adversary"):
        RunSpec(seed=0, threat=malicious_server())
    with pytest.raises(ConfigError, match="'rounds' is too small"):
        make_pipeline(rounds=0)
    with pytest.raises(UpdateError, match="wrong shape"):
        _rounds_with_wrong_shape()


def _rounds_with_wrong_shape() -> None:
    from qflsec.federation import RoundUpdates

    RoundUpdates(
        round=0,
        updates=torch.zeros(2, 3),
        counts=torch.ones(2),
        ids=(0, 1),
        broadcast=torch.zeros(4),
        periods=(None,) * 4,
        f=0,
        generator=torch.Generator(),
    )


EMPTY = PartitionSpec(kind="quantity-skew", alpha=0.2, min_records=0)


@pytest.mark.parametrize("batch", [{}, {"sampling": "poisson", "batch_size": 2}], ids=["full", "poisson"])
@pytest.mark.parametrize(
    "stack", [NONE, Stack(name="dp", client=(DpSgd(),)), Stack(name="masked", client=(Masked(),))]
)
def test_a_client_without_records_sits_out(
    make_pipeline: Maker, stack: Stack, batch: dict[str, object]
) -> None:
    """It adds no noise and no update, and the run of the others goes on."""
    pipeline = make_pipeline(n_clients=6, partition=EMPTY, **batch)
    (run,) = run_batch(pipeline, stack, [RunSpec(seed=1)])
    counts = [len(rows) for rows in run.clients]
    holders = frozenset(index for index, count in enumerate(counts) if count)
    assert 1 < len(holders) < 6
    assert run.outcome == "completed"
    assert bool(torch.isfinite(run.params).all())
    members = run.transcript.facts[0].participants
    assert members == {0: holders, 1: holders}
    assert run.dropped == ()
    assert all(row.epsilon is None or row.epsilon > 0 for row in run.ledger(honest_but_curious_server()))
