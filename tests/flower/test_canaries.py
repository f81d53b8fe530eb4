"""What a server holds and what reaches it is searched for single updates: none under a stack that hides them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from apps import AlteringGrid, plan_of
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qflsec.flower.client import ClientSide
from qflsec.flower.strategy import ServerSide
from qflsec.protocols.links import AesGcmLink
from qflsec.protocols.secagg import HeBfv, HeThreshold, Masked, SecAgg

N, P = 4, 16
# no arithmetic of the protocols makes these by chance: random numbers, of which 4 in a row are looked for
CANARIES = np.random.default_rng(11).normal(size=(N, P)).astype(np.float32)
LOSSES = [0.123456789 + i for i in range(N)]
HIDING = {
    "masked": (Masked(),),
    "secagg": (SecAgg(),),
    "he-bfv": (HeBfv(),),
    "he-threshold": (HeThreshold(),),
    "secagg + link": (SecAgg(), AesGcmLink()),
}


def canary_app(side: ClientSide) -> ClientApp:
    app = ClientApp(mods=[side])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        index = int(context.node_config["partition-id"])
        arrays = ArrayRecord({"a": Array(CANARIES[index].copy())})
        metrics = MetricRecord({"num-examples": 1, "loss": LOSSES[index]})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    return app


def needles(index: int) -> list[bytes]:
    """A client's update as numbers of either precision, and its loss as text and as a number."""
    row = CANARIES[index, 4:8]
    return [
        row.tobytes(),
        row.astype(np.float64).tobytes(),
        repr(LOSSES[index]).encode(),
        np.float64(LOSSES[index]).tobytes(),
    ]


def hay(thing: Any, seen: set[int], depth: int = 0) -> Iterator[bytes]:
    """All bytes that can be reached from an object."""
    if id(thing) in seen or depth > 60 or isinstance(thing, type):
        return
    seen.add(id(thing))
    if isinstance(thing, bytes | bytearray | memoryview):
        yield bytes(thing)
    elif isinstance(thing, torch.Tensor):
        yield thing.detach().contiguous().numpy().tobytes()
    elif isinstance(thing, np.ndarray):
        yield thing.tobytes()
    elif isinstance(thing, float | str):
        yield repr(thing).encode()
    else:
        for part in gc.get_referents(thing):
            if type(part).__name__ not in {"module", "function", "builtin_function_or_method", "InProcess"}:
                yield from hay(part, seen, depth + 1)


def searched(layers: Any) -> tuple[set[int], set[int]]:
    """The clients of whom something was found: in what reached the server, and in what it held after each message."""
    plan = plan_of(*layers, n=N, rounds=2, replies="update")
    wire: list[bytes] = []
    held: set[int] = set()

    def alter(_: int, __: Message, reply: Message) -> Message:
        if reply.has_content():
            wire.extend(b for record in reply.content.values() for b in hay(dict(record), set()))
        return reply

    side = ServerSide(plan)
    grid = AlteringGrid(canary_app(ClientSide(plan)), N, alter)
    send = grid.send_and_receive

    def looked(messages: Any, *, timeout: float | None = None) -> Any:
        replies = send(messages, timeout=timeout)
        found = b"\n".join(hay([vars(side), replies], {id(grid)}))
        held.update(i for i in range(N) if any(needle in found for needle in needles(i)))
        return replies

    grid.send_and_receive = looked  # type: ignore[method-assign]
    arrays = ArrayRecord({"a": Array(np.zeros(P, np.float32))})
    side.start(grid, arrays, num_rounds=2)
    assert side.outcome == "completed"
    everything = b"\n".join(wire)
    return {i for i in range(N) if any(needle in everything for needle in needles(i))}, held


@pytest.mark.parametrize("layers", HIDING.values(), ids=HIDING)
def test_no_single_update_or_loss_reaches_a_server_that_opens_sums(layers: Any) -> None:
    assert searched(layers) == (set(), set())


def test_the_search_finds_what_is_there() -> None:
    """Without a protocol every update and loss is on the wire and in the server's hands; a link hides the wire alone."""
    everybody = set(range(N))
    assert searched(()) == (everybody, everybody)
    wire, _ = searched((AesGcmLink(),))
    assert wire == set()
