"""What a client of a Flower app says beside its update, and what its update says of the client as a whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedMedian

from qflsec.audit.check import Bench, NotApplicable
from qflsec.audit.flower.app import FlowerApp
from qflsec.audit.flower.recording import Recording
from qflsec.audit.flower.run import record
from qflsec.audit.outcome import Finding
from qflsec.base import find

FEATURES, EACH = 3, 12
Partition = Callable[[int, int], list[int]]
"""Labels of the training records of a client among so many."""


class Finite(FedMedian):
    """A median of the replies that are finite, however many examples they state."""

    def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
        return super().aggregate_train(server_round, [one for one in replies if self.kept(one)])

    def kept(self, reply: Message) -> bool:
        return all(np.isfinite(array.numpy()).all() for array in reply.content["arrays"].values())


class Trusting(Finite):
    """Goes by the client's own verdict: the median of all, or the first reply that calls itself trusted."""

    def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
        kept = [one for one in replies if self.kept(one)]
        sure = [one for one in kept if one.content["about"]["trusted"]]
        return super().aggregate_train(server_round, sure[:1] or kept)


class ByName(Finite):
    """Takes one reply for each name, the last one."""

    def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
        named = {one.content["about"]["name"]: one for one in replies if self.kept(one)}
        return super().aggregate_train(server_round, list(named.values()))


class ByLoss(FedAvg):
    """Weighs replies by the loss that each states."""

    def __init__(self) -> None:
        super().__init__(weighted_by_key="loss", fraction_evaluate=0.0)


class Refusing(Finite):
    """Ends a round in which a client states a loss that no cross entropy has."""

    def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
        if any(float(one.content["metrics"]["loss"]) < 0 for one in replies):  # type: ignore[arg-type]
            raise ValueError("a loss below 0")
        return super().aggregate_train(server_round, replies)


def labels_of(_node: int, _n: int) -> list[int]:
    """Half of each class."""
    return [index % 2 for index in range(EACH)]


def app_of(strategy: Callable[[], Any], labels: Partition = labels_of, rounds: int = 1) -> FlowerApp:
    client, server = ClientApp(), ServerApp()

    def data(context: Context, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        node = int(context.node_config["partition-id"])
        y = torch.tensor(labels(node, int(context.node_config["num-partitions"])), dtype=torch.long)
        x = torch.randn(len(y), FEATURES, generator=torch.Generator().manual_seed(97 * seed + node))
        return x + y[:, None], y

    def net(message: Message) -> torch.nn.Linear:
        made = torch.nn.Linear(FEATURES, 2)
        made.load_state_dict(message.content["arrays"].to_torch_state_dict())
        return made

    @client.train()
    def train(message: Message, context: Context) -> Message:
        model, (x, y) = net(message), data(context)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        node = context.node_config["partition-id"]
        metrics = MetricRecord({"num-examples": len(y), "loss": loss.item() if len(y) else 0.0})
        about = ConfigRecord({"name": f"clinic {node}", "trusted": False})
        content = {"arrays": ArrayRecord(model.state_dict()), "metrics": metrics, "about": about}
        return Message(RecordDict(content), reply_to=message)

    @client.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        x, y = data(context, seed=1)
        with torch.no_grad():
            right = int((net(message)(x).argmax(1) == y).sum())
        metrics = MetricRecord({"num-examples": max(1, len(y)), "right": right})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    @server.main()
    def main(grid: Grid, _: Context) -> None:
        torch.manual_seed(1)
        start = ArrayRecord(torch.nn.Linear(FEATURES, 2).state_dict())
        strategy().start(grid=grid, initial_arrays=start, num_rounds=rounds)

    return FlowerApp(name="app", server=server, client=client)


@cache
def recorded(
    strategy: Callable[[], Any] = FedAvg, labels: Partition = labels_of, rounds: int = 1
) -> Recording:
    return record(
        app_of(strategy, labels, rounds), seconds=float("inf"), seed=0, attacked=("server", "public")
    )


def found(name: str, part: Recording) -> list[Finding]:
    return list(find("check", name)().run(part, Bench()))


@pytest.mark.parametrize("strategy", [FedAvg, Finite])
def test_a_server_that_reads_nothing_but_counts_acts_on_no_lie(strategy: Callable[[], Any]) -> None:
    bench = Bench()
    assert not list(find("check", "asserted-metrics")().run(recorded(strategy), bench))
    assert bench.measured["fields"] == "loss, name, trusted"


@pytest.mark.parametrize(
    ("strategy", "field", "severity"),
    [(Trusting, "trusted = True", "error"), (ByName, "name = 'clinic 1'", "error"), (ByLoss, "loss = ", None), (Refusing, "loss = -1e+06", None)],
)  # fmt: skip
def test_a_lie_that_the_server_acts_on_is_found(
    strategy: Callable[[], Any], field: str, severity: str | None
) -> None:
    """A verdict opens the way to a model that the median stops; a name drops another's reply, and the median of two is a mean; a loss weighs; a refusal ends."""
    (one,) = found("asserted-metrics", recorded(strategy))
    assert field.replace("-1e+06", "-1000000.0") in one.what
    assert one.severity == severity
    if strategy is Refusing:
        assert "the server stops: ValueError: a loss below 0" in one.what


def nobody_at_two(node: int, n: int) -> list[int]:
    return [] if node == 2 else labels_of(node, n)


def test_clients_without_records() -> None:
    whats = [one.what for one in found("empty-client", recorded(Finite, nobody_at_two))]
    assert whats[0].startswith("client 2 trains on no record (1 of 3")
    mean = [one.what for one in found("empty-client", recorded(FedAvg))]
    assert [what.partition(" examples")[0] for what in mean] == ["a reply of NaN with 0", "0"]
    assert "ZeroDivisionError" in mean[1]


def test_a_rule_that_needs_no_counts_takes_an_empty_client() -> None:
    class Uncounted(Finite):
        """Gives every kept reply the count 1."""

        def aggregate_train(self, server_round: int, replies: Sequence[Message]) -> Any:  # type: ignore[override]
            for one in replies:
                one.content["metrics"]["num-examples"] = 1
            return super().aggregate_train(server_round, replies)

    part = record(app_of(Uncounted), seconds=float("inf"), seed=0)
    assert found("empty-client", part) == []


def one_class(node: int, _n: int) -> list[int]:
    return [node % 2] * 4


def skewed(node: int, n: int) -> list[int]:
    ones = round(EACH * node / max(1, n - 1))
    return [1] * ones + [0] * (EACH - ones)


def test_signs_of_an_update_show_the_classes_of_a_client() -> None:
    (one,) = found("recorded-labels", recorded(FedAvg, one_class, 2))
    assert (one.evidence["right"], one.evidence["readings"]) == (6, 6)
    with pytest.raises(NotApplicable, match="every client has records of every class"):
        found("recorded-labels", recorded())


def test_shares_of_a_class_are_read_off_single_updates_and_not_off_the_last_model() -> None:
    bench = Bench()
    (one,) = find("check", "recorded-shares")().run(recorded(FedAvg, skewed), bench)
    assert "what the server sees ranks 10 clients" in one.what
    assert float(one.evidence["correlation"]) > 0.9
    assert isinstance(bench.measured["label-skew by the public"], str)  # blocked: no update is in its view
    with pytest.raises(NotApplicable, match="cannot be ranked"):
        found("recorded-shares", recorded())
