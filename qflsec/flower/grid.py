"""A grid in this process: each node's ClientApp answers at once, one after the other."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["CLIENT_FAILED", "FIRST_NODE", "InProcessGrid", "PlainGrid", "content_bytes", "run_in_process"]

FIRST_NODE = 1_000
"""The id of the first node; the others follow it."""
CLIENT_FAILED = 2
"""Flower's code for a ClientApp that raised."""
_RUN = 1
_App = Callable[[Message, Context], Message]


class PlainGrid(Grid):
    """What every grid in one process does alike: make messages, and hand out the replies that are there.

    Args:
        run: Flower's description of the run.
    """

    def __init__(self, run: Run | None = None) -> None:
        # a message names the task that makes it
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = _RUN, _RUN, 1
        self._run = Run.create_empty(_RUN) if run is None else run
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Take another description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that have not been pulled yet."""
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Let each client answer, and give the replies."""
        return self.pull_messages(self.push_messages(messages))


class InProcessGrid(PlainGrid):
    """A grid whose nodes are calls of a ClientApp.

    Args:
        app: The ClientApp.
        n_nodes: The number of nodes.
        config: The run configuration.
        nodes: What the configuration of a node holds besides its number.

    Attributes:
        bytes_up: The bytes of all records that nodes sent.
        bytes_down: The bytes of all records that were sent to them.
        client_seconds: Processor time of the ClientApp.
        carried_seconds: The same with what carrying messages took.
        gone: Nodes that answer nothing any more.

    Units:
        client_seconds, carried_seconds: seconds of processor time
    """

    def __init__(
        self,
        app: _App,
        n_nodes: int,
        *,
        config: Mapping[str, Any] | None = None,
        nodes: Callable[[int], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self._app, self._n_nodes, self._config = app, n_nodes, dict(config or {})
        self._nodes = nodes
        self._contexts: dict[int, Context] = {}
        self.bytes_up = self.bytes_down = 0
        self.client_seconds = self.carried_seconds = 0.0
        self.gone: set[int] = set()

    def get_node_ids(self) -> list[int]:
        """The nodes that are there."""
        return [FIRST_NODE + index for index in range(self._n_nodes) if index not in self.gone]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let each client answer."""
        batch, began = list(messages), time.process_time()
        try:
            return [self._ask(message) for message in batch]
        finally:
            self.carried_seconds += time.process_time() - began

    def _ask(self, message: Message) -> str:
        identity = str(uuid4())
        # it has no setter; the server's own grids do the same
        message.metadata.__dict__["_message_id"] = identity
        sent = copy.deepcopy(message)  # a network would not share what is sent either
        self.bytes_down += _bytes(sent)
        index = sent.metadata.dst_node_id - FIRST_NODE
        if index in self.gone:
            return identity
        reply = self.answer(index, sent)
        if reply is None:
            return identity
        reply.metadata.__dict__["_message_id"] = str(uuid4())
        self.bytes_up += _bytes(reply)
        self._replies[identity] = reply
        return identity

    def answer(self, index: int, message: Message) -> Message | None:
        """What a node answers; None where nothing arrives.

        Args:
            index: The node, from 0.
            message: What it was sent.
        """
        context, began = self._context(index), time.process_time()
        try:
            reply = self._app(message, context)
            self.client_seconds += time.process_time() - began
            return copy.deepcopy(reply)
        except Exception as error:  # noqa: BLE001 - Flower tells the server that a client failed, and goes on
            return Message(Error(CLIENT_FAILED, f"{type(error).__name__}: {error}"), reply_to=message)

    def _context(self, index: int) -> Context:
        if index not in self._contexts:
            more = {} if self._nodes is None else self._nodes(index)
            where = {"partition-id": index, "num-partitions": self._n_nodes, **more}
            self._contexts[index] = Context(_RUN, FIRST_NODE + index, where, RecordDict(), dict(self._config))
        return self._contexts[index]


def run_in_process(
    server: Callable[[Grid, Context], object],
    app: _App,
    n_nodes: int,
    *,
    config: Mapping[str, Any] | None = None,
    nodes: Callable[[int], Mapping[str, Any]] | None = None,
) -> InProcessGrid:
    """Run a ServerApp with nodes in this process.

    Args:
        server: The ServerApp.
        app: The ClientApp.
        n_nodes: The number of nodes.
        config: The run configuration.
        nodes: What the configuration of a node holds besides its number.

    Returns:
        The grid, with what it counted.

    Raises:
        Exception: Whatever the server raises.
    """
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    grid = InProcessGrid(app, n_nodes, config=config, nodes=nodes)
    server(grid, Context(_RUN, 1, {}, RecordDict(), dict(config or {})))
    return grid


def content_bytes(content: RecordDict) -> int:
    """The size of all records, as Flower counts it, and of empty lists and texts, at which its count fails (1.42)."""
    total = 0
    for record in content.values():
        kept: ArrayRecord | MetricRecord | ConfigRecord = record
        if isinstance(record, ConfigRecord):
            empty = [n for n, value in record.items() if isinstance(value, list | str | bytes) and not value]
            kept = ConfigRecord({name: value for name, value in record.items() if name not in empty})
            total += sum(map(len, empty))
        elif isinstance(record, MetricRecord):
            empty = [name for name, value in record.items() if isinstance(value, list) and not value]
            kept = MetricRecord({name: value for name, value in record.items() if name not in empty})
            total += sum(map(len, empty))
        total += kept.count_bytes()
    return total


def _bytes(message: Message) -> int:
    return content_bytes(message.content) if message.has_content() else 0
