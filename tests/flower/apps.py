"""A small app whose clients add a known vector to the model, and grids that lose or alter what crosses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qflsec.federation import Stack
from qflsec.flower.client import ClientSide
from qflsec.flower.grid import FIRST_NODE, InProcessGrid
from qflsec.flower.letters import read_letter
from qflsec.flower.plan import Plan
from qflsec.flower.strategy import ServerSide

COUNTS = (1, 2, 3, 4, 5)
STEP = np.float32(0.125)


def first_model() -> ArrayRecord:
    return ArrayRecord({"a": Array(np.zeros((2, 3), np.float32)), "b": Array(np.ones((), np.float64))})


def client_app(*mods: Any) -> ClientApp:
    """Client i adds ``(i + 1) / 8`` to every number of the model, and says that it has ``i + 1`` examples."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        index = int(context.node_config["partition-id"])
        arrays = {
            name: Array(np.asarray(held.numpy() + (index + 1) * STEP, held.numpy().dtype))
            for name, held in message.content.array_records["arrays"].items()
        }
        metrics = MetricRecord({"num-examples": COUNTS[index], "loss": 0.5})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        held = float(message.content.array_records["arrays"]["b"].numpy())
        index = int(context.node_config["partition-id"])
        return Message(
            RecordDict({"m": MetricRecord({"num-examples": COUNTS[index], "b": held})}), reply_to=message
        )

    return app


def mean_of(ids: Any) -> float:
    """The step of a round in which these clients count."""
    return float(sum(COUNTS[i] * (i + 1) * STEP for i in ids) / sum(COUNTS[i] for i in ids))


def plan_of(*layers: Any, n: int = 5, **more: Any) -> Plan:
    settings = {"rounds": 2, "seed": 7, "patience": 5.0, "max_count": 10, **more}
    return Plan(stack=Stack.from_layers("test", layers), n_clients=n, **settings)


class AlteringGrid(InProcessGrid):
    """A grid in which ``alter`` has the last word on every reply: None loses it."""

    def __init__(
        self, app: Any, n: int, alter: Callable[[int, Message, Message], Message | None], **more: Any
    ) -> None:
        super().__init__(app, n, **more)
        self.alter = alter

    def answer(self, index: int, message: Message) -> Message | None:
        reply = super().answer(index, message)
        return None if reply is None else self.alter(index, message, reply)


def run(plan: Plan, alter: Any = None, *, ledger: Path | None = None, **more: Any) -> tuple[Any, ServerSide]:
    """Run a plan over a grid; the final model's scalar less 1, and the server's side."""
    side = ServerSide(plan, ledger=ledger, home=more.pop("home", None))
    app = client_app(ClientSide(plan))
    grid = AlteringGrid(
        app, more.pop("nodes_there", plan.n_clients), alter or (lambda _, __, reply: reply), **more
    )
    result = side.start(grid, first_model(), num_rounds=plan.rounds)
    side.grid, side.result = grid, result  # type: ignore[attr-defined]
    return float(result.arrays["b"].numpy()) - 1, side


def parts_of(message: Message) -> list[str]:
    """The names of the parts of a letter that no link seals."""
    letter = read_letter(message.content, lambda _, body: body) if message.has_content() else None
    return [] if letter is None else [part.name for part in letter.parts]


def node(index: int) -> int:
    return FIRST_NODE + index
