"""Clients' optimisers against torch.optim: momentum, Adam, schedules, FedProx, epochs, and state that lives over rounds."""

from __future__ import annotations

import itertools
import math
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from qflsec.base import ConfigError
from qflsec.data import PartitionSpec
from qflsec.federation import (
    Adversary,
    FederationConfig,
    Hands,
    Pipeline,
    Ring,
    RunResult,
    RunSpec,
    Schedule,
    Stack,
    run_batch,
)
from qflsec.federation.round.batches import ClientData, plan_batches
from qflsec.federation.round.optimiser import Optimiser, OptimiserState
from qflsec.federation.shadows import ShadowTrainer
from qflsec.federation.sharing import Sharing
from qflsec.federation.streams import RoundStreams
from qflsec.lab.grid.schema import check
from qflsec.models import Execution, Model, build_model
from qflsec.threat import ThreatModel, corrupted_clients, honest_but_curious_server

Maker = Callable[..., Pipeline]
NONE = Stack(name="none")
SKEWED = PartitionSpec(kind="quantity-skew", alpha=1.0, min_records=1)
STEP, COSINE = Schedule(kind="step", step_size=2, gamma=0.5), Schedule(kind="cosine", eta_min=0.01)


# -- the rule, step for step -----------------------------------------------------------------------------


def torch_optimiser(config: FederationConfig, weights: torch.Tensor) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam([weights], lr=config.learning_rate)
    return torch.optim.SGD([weights], lr=config.learning_rate, momentum=config.momentum)


def torch_schedule(config: FederationConfig, optimiser: torch.optim.Optimizer) -> Any:
    schedule = config.schedule
    if schedule.kind == "step":
        assert schedule.step_size is not None
        assert schedule.gamma is not None
        return torch.optim.lr_scheduler.StepLR(optimiser, schedule.step_size, schedule.gamma)
    least = schedule.eta_min or 0.0
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.rounds, least)


RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "momentum, run": {"momentum": 0.7, "optimizer_state": "run"},
    "adam": {"optimizer": "adam"},
    "adam, run": {"optimizer": "adam", "optimizer_state": "run"},
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("schedule", [STEP, COSINE], ids=["step", "cosine"])
def test_a_step_is_that_of_torch(rule: str, schedule: Schedule) -> None:
    """Two runs of three clients that make 1, 2 and 3 steps in a round: six torch optimisers, over five rounds."""
    config = FederationConfig(n_clients=3, rounds=5, learning_rate=0.3, schedule=schedule, **RULES[rule])
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    theirs = [[start[lane, i].clone().requires_grad_() for i in range(3)] for lane in range(2)]
    optimisers = [[torch_optimiser(config, weights) for weights in row] for row in theirs]
    schedules = [torch_schedule(config, one) for row in optimisers for one in row]
    ours, kept = start.clone(), OptimiserState.fresh(config, start)
    for round_index in range(config.rounds):
        if config.optimizer_state == "round":
            kept = OptimiserState.fresh(config, start)
            for one in (one for row in optimisers for one in row):
                one.state.clear()
        optimiser = Optimiser(config=config, sharing=Sharing(places=None, n_shared=4), round=round_index)
        for step in range(3):
            gradient = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
            active = torch.tensor([[step < 1, step < 2, step < 3]] * 2)
            ours, kept = optimiser.step(kept, ours, gradient, start, active)
            for lane, client in torch.nonzero(active).tolist():
                theirs[lane][client].grad = gradient[lane, client].clone()
                optimisers[lane][client].step()
        for one in schedules:
            one.step()
        expected = torch.stack([torch.stack([w.detach() for w in row]) for row in theirs])
        assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12), round_index


def test_a_step_that_is_not_made_changes_no_bit() -> None:
    config = FederationConfig(n_clients=2, optimizer="adam", proximal=0.5)
    generator = torch.Generator().manual_seed(1)
    params, gradient = torch.randn(2, 1, 2, 5, generator=generator)
    optimiser = Optimiser(config=config, sharing=Sharing(places=None, n_shared=5), round=0)
    fresh = OptimiserState.fresh(config, params)
    first, kept = optimiser.step(fresh, params, gradient, params, torch.tensor([[True, False]]))
    assert torch.equal(first[:, 1], params[:, 1])
    assert not torch.equal(first[:, 0], params[:, 0])
    assert kept.steps.tolist() == [[1, 0]]
    assert float(kept.moments[0][:, 1].abs().max()) == float(kept.moments[1][:, 1].abs().max()) == 0.0


@pytest.mark.parametrize("kind", ["step", "cosine"])
def test_the_rate_of_a_round_is_the_same_in_all_its_steps(kind: str) -> None:
    config = FederationConfig(rounds=8, schedule=STEP if kind == "step" else COSINE)
    rates = [config.rate(index) for index in range(8)]
    if kind == "step":
        assert rates == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]
    else:
        assert rates[0] == 0.1
        assert rates[4] == pytest.approx(0.055)
        assert all(a > b > 0.01 for a, b in itertools.pairwise(rates))


# -- whole runs against a plain loop -----------------------------------------------------------------------


def batches_of(pipeline: Pipeline, result: RunResult, round_index: int) -> list[list[list[int]]]:
    """For each client, the positions of the records of each of its steps."""
    longest = max(len(rows) for rows in result.clients)
    padded = longest if longest <= 2 else -(-longest // 8) * 8
    mask = torch.stack([(torch.arange(padded) < len(rows)).float() for rows in result.clients])[None]
    empty = ClientData(features=torch.zeros(*mask.shape, 1), labels=torch.zeros(mask.shape), mask=mask)
    plan = plan_batches(empty, pipeline.federation, RoundStreams([result.spec.seed], round_index))
    found: list[list[list[int]]] = [[] for _ in result.clients]
    for step in plan:
        index = torch.arange(padded).expand(mask.shape) if step.index is None else step.index
        for client, batch in enumerate(found):
            records = index[0, client][step.mask[0, client] > 0].tolist()
            if records:
                batch.append(records)
    return found


def clipped_gradient(
    model: Model, own: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, norm: float
) -> torch.Tensor:
    """The mean of the gradients of single records, each clipped."""
    total = torch.zeros_like(own)
    for feature, label in zip(features, labels, strict=True):
        loss = torch.nn.functional.cross_entropy(model(own, feature[None]), label[None])
        (gradient,) = torch.autograd.grad(loss, own)
        total += gradient * min(1.0, norm / float(gradient.norm()))
    return total / len(labels)


def plain_loop(pipeline: Pipeline, result: RunResult, clip: float | None = None) -> torch.Tensor:
    """FedAvg over clients that each own a torch optimiser, and minimise FedProx's objective by autograd.

    With a clip norm, records are clipped one by one, and the pull of FedProx is not.
    """
    config, model = pipeline.federation, pipeline.model
    weights = [result.initial.clone().requires_grad_() for _ in result.clients]
    optimisers = [torch_optimiser(config, one) for one in weights]
    server = result.initial.clone()
    for round_index in range(config.rounds):
        plan = batches_of(pipeline, result, round_index)
        updates, counts = [], []
        for client in sorted(result.transcript.facts[result.lane].participants[round_index]):
            own, optimiser = weights[client], optimisers[client]
            own.data.copy_(server)
            optimiser.param_groups[0]["lr"] = config.rate(round_index)
            if config.optimizer_state == "round":
                optimiser.state.clear()
            records = result.client_records(client)
            for batch in plan[client]:
                optimiser.zero_grad()
                features, labels = records.features[batch], records.labels[batch]
                loss = torch.nn.functional.cross_entropy(model(own, features), labels)
                pull = config.proximal / 2 * (own - server).square().sum()
                ((loss if clip is None else 0.0) + pull).backward()
                if clip is not None:
                    assert own.grad is not None
                    own.grad += clipped_gradient(model, own.detach().requires_grad_(), features, labels, clip)
                optimiser.step()
            updates.append(own.detach() - server)
            counts.append(float(len(records.labels)))
        shares = torch.tensor(counts)[:, None] / sum(counts)
        server = server + (torch.stack(updates) * shares).sum(dim=0)
    return server


RUNS: dict[str, dict[str, Any]] = {
    "epochs": {"epochs": 2, "batch_size": 3},
    "momentum": {"momentum": 0.9, "epochs": 2, "batch_size": 3},
    "momentum, run, absent": {"momentum": 0.8, "optimizer_state": "run", "epochs": 1, "batch_size": 4, "participation": 0.5},
    "adam, run, absent": {"optimizer": "adam", "optimizer_state": "run", "epochs": 1, "batch_size": 4, "participation": 0.5, "learning_rate": 0.05},
    "schedule": {"schedule": COSINE, "local_steps": 2, "momentum": 0.5},
    "fedprox": {"proximal": 0.7, "epochs": 3, "batch_size": 5},
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_a_run_equals_a_plain_loop_with_torch(make_pipeline: Maker, case: str) -> None:
    """Clients of unequal sizes; absent clients keep their state until they come back."""
    pipeline = make_pipeline(
        n_qubits=2, n_clients=4, members=33, rounds=5, test=0, partition=SKEWED, **RUNS[case]
    )
    (result,) = run_batch(pipeline, NONE, [RunSpec(seed=1)])
    sizes = {len(rows) for rows in result.clients}
    assert len(sizes) > 2
    assert torch.allclose(result.params, plain_loop(pipeline, result), atol=2e-5)
    without = {key: value for key, value in RUNS[case].items() if key not in {"optimizer_state", "proximal"}}
    if case not in {"epochs", "momentum", "schedule"}:  # the setting in question is seen in the result
        other = make_pipeline(
            n_qubits=2, n_clients=4, members=33, rounds=5, test=0, partition=SKEWED, **without
        )
        assert not torch.allclose(result.params, plain_loop(other, result), atol=2e-4)


@pytest.mark.parametrize("rule", [{"momentum": 0.8}, {"optimizer": "adam", "learning_rate": 0.02}], ids=str)
def test_momentum_and_the_pull_come_after_the_layer(make_pipeline: Maker, rule: dict[str, Any]) -> None:
    """What is clipped is the record's gradient of the loss: the rest is post-processing of what the layer gives."""
    from qflsec.defenses.privacy import DpSgd

    pipeline = make_pipeline(
        n_qubits=2,
        members=13,
        rounds=2,
        test=0,
        optimizer_state="run",
        epochs=2,
        batch_size=2,
        proximal=2.0,
        **rule,
    )
    stack = Stack(name="clip", client=(DpSgd(noise_multiplier=0.0, clip_norm=0.05),))
    (result,) = run_batch(pipeline, stack, [RunSpec(seed=2)])
    assert torch.allclose(result.params, plain_loop(pipeline, result, clip=0.05), atol=2e-5)
    assert not torch.allclose(result.params, plain_loop(pipeline, result), atol=1e-3)


def test_shadow_models_are_trained_by_the_same_rule(make_pipeline: Maker) -> None:
    settings: dict[str, Any] = {
        "n_qubits": 2,
        "members": 12,
        "rounds": 3,
        "test": 0,
        "epochs": 2,
        "batch_size": 2,
    }
    trained = []
    for rule in ({}, {"momentum": 0.9, "optimizer_state": "run"}, {"optimizer": "adam"}, {"proximal": 1.0}):
        pipeline = make_pipeline(**settings, **rule)
        (run,) = run_batch(pipeline, NONE, [RunSpec(seed=0)])
        pool = run.records("member")
        trainer = ShadowTrainer(pipeline=pipeline, like=run.dataset, seed=4)
        (shadow,) = trainer(pool, torch.ones(1, len(pool.labels), dtype=torch.bool))
        trained.append(tuple(shadow.tolist()))
    assert len(set(trained)) == 4


def test_costs_count_records_and_not_steps(make_pipeline: Maker) -> None:
    """Each of 13 records once in every epoch, whatever the batches, and no padding."""
    for batch_size in (None, 2, 5):
        pipeline = make_pipeline(n_qubits=2, members=13, rounds=2, test=0, epochs=3, batch_size=batch_size)
        (result,) = run_batch(pipeline, NONE, [RunSpec(seed=0)])
        assert result.costs["record_gradients"] == 13 * 3 * 2


def test_an_epoch_visits_every_record_once(make_pipeline: Maker) -> None:
    config = make_pipeline(epochs=3, batch_size=4).federation
    mask = torch.zeros(2, 3, 16)
    counts = torch.tensor([[16, 9, 1], [4, 13, 8]])
    for lane in range(2):
        for client in range(3):
            mask[lane, client, : counts[lane, client]] = 1.0
    data = ClientData(features=torch.zeros(2, 3, 16, 2), labels=torch.zeros(2, 3, 16), mask=mask)
    plan = plan_batches(data, config, RoundStreams([0, 1], 0))
    assert len(plan) == 12
    orders = []
    for epoch in range(3):
        steps = plan[4 * epoch : 4 * epoch + 4]
        sizes = torch.stack([step.expected for step in steps], dim=-1)
        assert torch.equal(sizes, (counts[..., None] - 4 * torch.arange(4)).clamp(0, 4).float())
        for lane in range(2):
            for client in range(3):
                seen = [
                    int(record)
                    for step in steps
                    if step.index is not None
                    for record, used in zip(step.index[lane, client], step.mask[lane, client], strict=True)
                    if used
                ]
                assert sorted(seen) == list(range(int(counts[lane, client])))
                orders.append((epoch, lane, client, tuple(seen)))
        for lane in range(2):
            for client in range(3):
                made = int((sizes[lane, client] > 0).sum())
                assert 3 * made == config.steps(int(counts[lane, client]))
    assert len({seen for _, lane, client, seen in orders if (lane, client) == (0, 0)}) == 3


def test_fedprox_pulls_what_is_shared_only(make_pipeline: Maker) -> None:
    """A head that a client keeps is trained by its own gradient: it was received from nobody."""
    model = build_model({"name": "hybrid", "n_features": 2, "n_qubits": 2, "layers": 1, "n_classes": 2})
    plain = make_pipeline(n_qubits=2, members=12, rounds=1, test=0, local_steps=4)
    head = tuple({name.split(".")[0] for name, _ in model.layout if name.startswith("after")})
    kept = replace(plain, model=model, personal=head)
    stuck = replace(kept, federation=replace(kept.federation, proximal=5.0, learning_rate=0.2))
    (free,), (pulled,) = (run_batch(one, NONE, [RunSpec(seed=0)]) for one in (kept, stuck))
    places = kept.sharing.places
    assert places is not None
    own = [index for index in range(model.n_params) if index not in places]
    moved = [(run.models - run.initial).abs() for run in (free, pulled)]
    assert float(moved[1][:, list(places)].sum()) < 0.6 * float(moved[0][:, list(places)].sum())
    assert float(moved[1][:, own].sum()) > 0.8 * float(moved[0][:, own].sum())


# -- side by side, and behind layers -----------------------------------------------------------------------


@dataclass(frozen=True)
class Flipper(Adversary):
    """Trains on the other labels, and keeps what it sent."""

    fail: bool = False

    def start(self, n_params: int) -> object:
        return []

    def updates(self, hands: Hands) -> tuple[torch.Tensor, list[object]]:
        hands.train(hands.features, hands.labels)  # a training whose state does not count
        sent = hands.train(hands.features, 1 - hands.labels)
        if self.fail and len(hands.generators) > 1:
            return sent, []  # a mistake that is seen after the move: each run makes it again
        return sent, [[*hands.states[lane], sent[lane].clone()] for lane in range(len(sent))]

    def identity(self) -> dict[str, object]:
        return {"name": "flipper", "fail": self.fail}


BATCHED: dict[str, dict[str, Any]] = {
    "momentum": {"momentum": 0.9, "optimizer_state": "run", "epochs": 2, "batch_size": 3, "participation": 0.67},
    "adam, poisson": {"optimizer": "adam", "optimizer_state": "run", "batch_size": 3, "sampling": "poisson", "schedule": COSINE},
    "adam, epochs, proximal": {"optimizer": "adam", "optimizer_state": "run", "epochs": 2, "batch_size": 2, "proximal": 0.3},
    "a ring": {"momentum": 0.5, "optimizer_state": "run", "epochs": 2, "batch_size": 4, "participation": 0.67, "topology": Ring()},
    "shots": {"momentum": 0.5, "epochs": 2, "batch_size": 3, "execution": Execution(shots=20, gradient="parameter-shift"), "rounds": 2},
}  # fmt: skip


def same(a: RunResult, b: RunResult) -> bool:
    everybody = ThreatModel(name="everybody", corrupted=a.pipeline.parties)
    seen = [
        [(item.round, item.kind, item.value.tolist()) for item in run.view(everybody).items]  # type: ignore[union-attr]
        for run in (a, b)
    ]
    return torch.equal(a.params, b.params) and a.train_loss == b.train_loss and seen[0] == seen[1]


@pytest.mark.parametrize("case", BATCHED)
def test_batched_equals_single_bit_for_bit(make_pipeline: Maker, case: str) -> None:
    """Runs whose clients are of other sizes make other numbers of steps; layers draw noise in every step."""
    from qflsec.defenses.privacy import DpSgd

    settings = {"rounds": 3, **BATCHED[case]}
    parts = {name: settings.pop(name) for name in ("topology", "execution") if name in settings}
    pipeline = replace(make_pipeline(n_qubits=2, members=26, test=0, partition=SKEWED, **settings), **parts)
    stack = NONE if "topology" in parts else Stack(name="dp", client=(DpSgd(noise_multiplier=0.2),))
    threat = corrupted_clients(n=1)
    specs = [
        *(RunSpec(seed=seed) for seed in (0, 1, 2)),
        *(RunSpec(seed=seed, adversary=Flipper(), threat=threat) for seed in (0, 1)),
    ]
    single = [run_batch(pipeline, stack, [spec])[0] for spec in specs]
    together = run_batch(pipeline, stack, specs)
    assert [run.outcome for run in single] == ["completed"] * 5
    assert [same(a, b) for a, b in zip(single, together, strict=True)] == [True] * 5
    assert len({len(max(run.clients, key=len)) for run in single}) > 1
    assert len({tuple(run.params.tolist()) for run in single}) == 5


def test_a_corrupted_client_trains_on_with_its_own_optimiser(make_pipeline: Maker) -> None:
    """Momentum over rounds in which it takes part: the sum of the flipped gradients, and not of the honest ones."""
    pipeline = make_pipeline(
        n_qubits=2, members=12, rounds=6, test=0, participation=0.67, momentum=0.9, optimizer_state="run"
    )
    threat = corrupted_clients(n=1)
    (result,) = run_batch(pipeline, NONE, [RunSpec(seed=0, adversary=Flipper(), threat=threat)])
    index, records = threat.clients[0], result.client_records(threat.clients[0])
    view = result.view(honest_but_curious_server())
    rounds = [r for r, who in result.transcript.facts[0].participants.items() if index in who]
    assert 1 < len(rounds) < 6, "it must be absent in some"
    weights = result.initial.clone().requires_grad_()
    optimiser = torch.optim.SGD([weights], lr=0.2, momentum=0.9)
    for round_index in rounds:
        (item,) = [i for i in view.readable("update", round_index=round_index, about=index) if not i.derived]
        received = view.base_of(item)
        assert received is not None
        weights.data.copy_(received)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(
            pipeline.model(weights, records.features), 1 - records.labels
        ).backward()
        optimiser.step()
        assert torch.allclose(item.vector, weights.detach() - received, atol=1e-5), round_index


def test_a_move_that_is_made_again_begins_with_the_same_optimiser(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_qubits=2, members=12, rounds=3, test=0, momentum=0.9, optimizer_state="run")
    threat = corrupted_clients(n=1)

    def runs(*, fail: bool) -> list[RunResult]:
        specs = [RunSpec(seed=seed, adversary=Flipper(fail=fail), threat=threat) for seed in (0, 1)]
        return run_batch(pipeline, NONE, specs)

    assert [
        torch.equal(a.params, b.params) for a, b in zip(runs(fail=True), runs(fail=False), strict=True)
    ] == [True, True]


def test_what_an_optimiser_keeps_is_in_nobodys_view(make_pipeline: Maker) -> None:
    """The messages are those of clients without a state: as many, of the same kinds and sizes."""
    settings = {"n_qubits": 2, "members": 12, "rounds": 3, "test": 0, "optimizer": "adam"}
    heard = []
    for state in ("round", "run"):
        pipeline = make_pipeline(**settings, optimizer_state=state)
        (result,) = run_batch(pipeline, NONE, [RunSpec(seed=0)])
        everybody = ThreatModel(name="everybody", corrupted=pipeline.parties)
        items = result.view(everybody).items
        assert {item.kind for item in items} <= {
            "model",
            "update",
            "aggregate",
            "step",
            "path",
            "final-model",
        }
        heard.append([(i.round, i.kind, str(i.sender), str(i.receiver), i.vector.shape) for i in items])
        assert not any("optim" in name for name in vars(result))
        heard[-1].append(result.costs["network_bytes"])  # type: ignore[arg-type]
    assert heard[0] == heard[1]


# -- what a configuration may say ----------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "epochs and steps": ({"epochs": 2, "local_steps": 3}, "'epochs' and 'local_steps' exclude each other"),
    "epochs and poisson": ({"epochs": 2, "batch_size": 4, "sampling": "poisson"}, "visit every record once"),
    "no epoch": ({"epochs": 0}, "'epochs' is too small"),
    "momentum of adam": ({"optimizer": "adam", "momentum": 0.5}, "'momentum' is a parameter of 'sgd'"),
    "momentum of one": ({"momentum": 1.0}, "'momentum' is out of range"),
    "nothing to keep": ({"optimizer_state": "run"}, "no state that could live for a run"),
    "a lifetime": ({"optimizer_state": "epoch"}, "unknown 'optimizer_state'"),
    "a push": ({"proximal": -0.1}, "'proximal' is negative"),
    "a schedule that rises": ({"schedule": Schedule(kind="cosine", eta_min=0.5)}, "'schedule' does not fall"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(case: str) -> None:
    values, words = MISTAKES[case]
    with pytest.raises(ConfigError, match=words):
        FederationConfig(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "linear"}, "unknown 'kind' of a schedule"),
        ({"kind": "step"}, "needs 'step_size'"),
        ({"kind": "step", "step_size": 0}, "'step_size' is too small"),
        ({"kind": "step", "step_size": 3, "gamma": 0.0}, "'gamma' must be positive"),
        ({"kind": "cosine", "gamma": 0.5}, "no parameter of a 'cosine' schedule"),
        ({"eta_min": 0.5}, "no parameter of a 'constant' schedule"),
        ({"kind": "cosine", "eta_min": math.nan}, "no number"),
        ({"kind": "cosine", "eta_min": -0.1}, "'eta_min' is negative"),
    ],
)
def test_mistakes_of_a_schedule_are_told(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Schedule(**values)


def test_a_configuration_says_all_of_it(make_pipeline: Maker) -> None:
    said = make_pipeline(momentum=0.9, epochs=2, schedule=STEP, proximal=0.1).to_config()["federation"]
    assert isinstance(said, dict)
    assert said["schedule"] == {"kind": "step", "step_size": 2, "gamma": 0.5, "eta_min": None}
    assert (said["momentum"], said["epochs"], said["proximal"], said["optimizer_state"]) == (
        0.9,
        2,
        0.1,
        "round",
    )


def test_the_page_on_training_says_what_there_is() -> None:
    """Its example is accepted, and its table names the fields with their defaults."""
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    table = tomllib.loads(block)["pipelines"]["main"]["federation"]
    made = FederationConfig(**check(FederationConfig, table, "main"))
    assert (made.schedule, made.epochs, made.proximal) == (Schedule(kind="cosine", eta_min=0.001), 2, 0.01)
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", text, re.MULTILINE)
    said = {name: value.strip('`"') for name, value in rows if name in FederationConfig.__dataclass_fields__}
    usual = FederationConfig()
    assert len(said) == 13
    for name, value in said.items():
        field = getattr(usual, name)
        known = (
            "none"
            if field is None
            else field.kind
            if isinstance(field, Schedule)
            else f"{field:g}"
            if isinstance(field, float)
            else str(field)
        )
        assert value == known, name
