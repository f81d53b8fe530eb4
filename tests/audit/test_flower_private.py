"""Clients of a Flower app that train under Opacus: each fault planted, and the same app without it."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import pennylane as qml
import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from opacus import PrivacyEngine
from opacus.optimizers import DPOptimizer
from torch.utils.data import DataLoader, TensorDataset

from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.claim import claim_from_config
from qflsec.audit.flower.app import FlowerApp
from qflsec.audit.flower.recording import PrivateStep, Recording
from qflsec.audit.flower.run import record
from qflsec.audit.outcome import Finding, Verdict
from qflsec.base import ConfigError, find

RECORDS, BATCH, ROUNDS = 24, 6, 2
CHECKS = (
    "recorded-per-sample-gradients", "recorded-clip", "recorded-noise", "recorded-batches", "recorded-epsilon",
)  # fmt: skip


@qml.qnode(qml.device("default.qubit", wires=2))
def circuit(inputs: torch.Tensor, weights: torch.Tensor) -> Any:
    qml.AngleEmbedding(inputs, wires=range(2))
    qml.BasicEntanglerLayers(weights, wires=range(2))
    return [qml.expval(qml.PauliZ(wire)) for wire in range(2)]


def net(fault: str) -> torch.nn.Module:
    if fault == "recorded-per-sample-gradients":
        return torch.nn.Sequential(qml.qnn.TorchLayer(circuit, {"weights": (1, 2)}), torch.nn.Linear(2, 2))
    return torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))


def private(fault: str, node: int) -> tuple[Any, Any, Any, Any]:
    """Engine, module, optimiser and loader of a client."""
    x = torch.randn(RECORDS, 2, generator=torch.Generator().manual_seed(node))
    module, engine = net(fault), PrivacyEngine(accountant="rdp")
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=BATCH)
    module, optimiser, loader = engine.make_private(
        module=module,
        optimizer=torch.optim.SGD(module.parameters(), lr=0.1),
        data_loader=loader,
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        poisson_sampling=fault != "recorded-batches",
    )
    if fault == "less-noise":
        kept = optimiser.add_noise

        def add_noise() -> None:
            optimiser.noise_multiplier /= 3
            kept()
            optimiser.noise_multiplier *= 3

        optimiser.add_noise = add_noise
    if fault == "recorded-noise":
        some = optimiser.add_noise

        def add_some() -> None:
            some()
            optimiser.params[1].grad = optimiser.params[1].summed_grad.clone()

        optimiser.add_noise = add_some
    if fault == "recorded-clip":

        def clip_and_accumulate() -> None:
            for one in optimiser.params:
                one.summed_grad = 9 * one.grad_sample.sum(0)

        optimiser.clip_and_accumulate = clip_and_accumulate
    return engine, module, optimiser, loader


def app_of(fault: str) -> FlowerApp:
    client, server = ClientApp(), ServerApp()
    kept: dict[int, tuple[Any, Any, Any, Any]] = {}

    @client.train()
    def train(message: Message, context: Context) -> Message:
        node = int(context.node_config["partition-id"])
        if node not in kept or fault == "recorded-epsilon":  # an account that begins anew in each round
            kept[node] = private(fault, node)
        engine, module, optimiser, loader = kept[node]
        module._module.load_state_dict(message.content["arrays"].to_torch_state_dict())
        for x, y in loader:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(module(x), y).backward()
            optimiser.step()
        metrics = MetricRecord({"num-examples": RECORDS})
        if node == 0 and fault in {"", "recorded-epsilon"}:  # an account takes longer than the training
            engine.get_epsilon(1e-4)
        content = {"arrays": ArrayRecord(module._module.state_dict()), "metrics": metrics}
        return Message(RecordDict(content), reply_to=message)

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        start = ArrayRecord(net(fault).state_dict())
        FedAvg(fraction_evaluate=0.0).start(grid=grid, initial_arrays=start, num_rounds=ROUNDS)

    return FlowerApp(name="app", server=server, client=client, config={"num-server-rounds": 20})


@cache
def recorded(fault: str = "") -> Recording:
    return record(app_of(fault), seconds=float("inf"), seed=0)


def found(name: str, part: Recording) -> list[Finding]:
    return list(find("check", name)().run(part, Bench()))


@pytest.mark.parametrize("name", CHECKS)
def test_a_fault_of_the_private_training_is_found_and_no_other(name: str) -> None:
    part = recorded(name)
    assert found(name, part)
    assert found(name, recorded()) == []
    assert [other for other in CHECKS[1:4] if other != name and found(other, part)] == []


def test_noise_that_is_a_third_of_the_account_is_found() -> None:
    (one,) = found("recorded-noise", recorded("less-noise"))
    assert float(one.evidence["spread"]) == pytest.approx(1 / 3, rel=0.2)


@pytest.mark.parametrize(("spread", "count"), [(0.1, 1), (1.0, 0), (0.6, 0)])
def test_the_noise_of_a_dozen_values(spread: float, count: int) -> None:
    """Of twelve values a spread of .6 happens by chance once in fifty times, and one of .1 never: the limit is .24."""
    step = PrivateStep(
        multiplier=1.0, clip=1.0, summed=0.5, allowed=1.0, records=4, without=0, squares=12 * spread**2, values=12,
        rate=0.5, poisson=True, dataset=8,
    )  # fmt: skip
    part = SimpleNamespace(nodes=(0,), steps=lambda _: [(1, SimpleNamespace(private=[step]))], places={})
    assert len(list(find("check", "recorded-noise")().run(part, Bench()))) == count


def test_an_account_of_one_round_is_told_as_that_of_all() -> None:
    (one,) = found("recorded-epsilon", recorded("recorded-epsilon"))
    assert float(one.evidence["accounted"]) > 1.05 * float(one.evidence["told"])
    assert one.evidence["steps"] == ROUNDS * RECORDS // BATCH


def verdict(part: Recording, **table: object) -> Verdict:
    return claim_from_config({"kind": "recorded-dp", "delta": 1e-4, **table}).verdict([part], Bench())


def test_the_claim_counts_the_rounds_of_the_whole_training() -> None:
    """An independent account: so many steps of one mechanism."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(1.0, BATCH / RECORDS, 20 * RECORDS // BATCH)]
    true = float(accountant.get_epsilon(delta=1e-4))
    held = verdict(recorded(), epsilon=1.01 * true)
    assert held.judgement == "not refuted"
    assert float(held.evidence["PRV"]) == pytest.approx(true)
    assert verdict(recorded(), epsilon=0.5 * true).judgement == "refuted"
    assert verdict(recorded(), epsilon=0.5 * true, rounds=2).judgement == "not refuted"
    broken = verdict(recorded("recorded-batches"), epsilon=100.0)
    assert broken.judgement == "refuted"
    assert "no epsilon follows" in broken.why
    with pytest.raises(ConfigError, match="recorded-dp"):
        verdict(recorded(), epsilon=-1.0)


def test_opacus_is_as_it_was_afterwards() -> None:
    before = DPOptimizer.__init__, PrivacyEngine.make_private, PrivacyEngine.get_epsilon
    recorded()
    assert before == (DPOptimizer.__init__, PrivacyEngine.make_private, PrivacyEngine.get_epsilon)
    assert DPOptimizer.__init__.__qualname__ == "DPOptimizer.__init__"


def test_an_app_without_opacus_is_passed_over() -> None:
    from tests.audit.test_flower_words import recorded as plain

    for name in CHECKS:
        with pytest.raises(NotApplicable, match="no client trains under Opacus"):
            found(name, plain())
