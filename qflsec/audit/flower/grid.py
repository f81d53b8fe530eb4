"""A grid in this process: it hands each message to a client at once, and records both ways.

Flower is imported with this module; whoever needs it imports it where a Flower app is run.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import uuid4

import numpy as np
from flwr.app import Array, Error, Message, RecordDict
from flwr.supercore.run import Run

from qflsec.audit.flower.recording import Alter, Sent
from qflsec.flower.grid import CLIENT_FAILED, FIRST_NODE, PlainGrid, content_bytes

__all__ = ["Answer", "Enough", "LocalGrid"]

Answer = Callable[[int, int, Message], Message]
"""What a client answers: (round, node, message) -> reply."""

_PATIENCE = 3
_MOST_NODES = 128


class Enough(BaseException):
    """The rounds that are recorded are over."""


class LocalGrid(PlainGrid):
    """A grid of clients that answer at once, one after the other.

    Args:
        answer: What a client answers.
        n_nodes: Clients; more come where the server waits for more.
        rounds: The rounds that are recorded; what the server asks beyond them ends it.
        deadline: When no client is asked any more, by :func:`time.monotonic`.
        alter: What a corrupted client makes of its replies.
        run: Flower's description of the run.

    Attributes:
        messages: What was sent, in order.
        said: What each client answered to each kind of message, in order, before it was altered.
        stopped: Why the server was ended; empty where it ended itself.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        n_nodes: int,
        rounds: int,
        deadline: float,
        run: Run,
        alter: Alter | None = None,
    ) -> None:
        super().__init__(run)
        self.messages: list[Sent] = []
        self.n_nodes = n_nodes
        self.stopped = ""
        self._answer, self._rounds, self._deadline, self._alter = answer, rounds, deadline, alter
        self._round, self._groups = 0, set[str]()
        self._polls, self._busy = 0, False
        self.said: dict[tuple[int, str], list[RecordDict]] = {}
        self._lock = threading.RLock()
        self._thread = threading.get_ident()

    def get_node_ids(self) -> list[int]:
        """The nodes. A server that asks again and again without sending anything waits for more."""
        if not self._busy:
            self._polls += 1
            if self._polls > _PATIENCE and self.n_nodes < _MOST_NODES:
                self.n_nodes *= 2
        return [FIRST_NODE + index for index in range(self.n_nodes)]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Let each client answer."""
        with self._lock:
            batch = list(messages)
            self._polls, self._busy = 0, True
            try:
                self._begin(batch)
                return [self._ask(message) for message in batch]
            finally:
                self._busy = False

    def _begin(self, batch: Sequence[Message]) -> None:
        """Count rounds: of training messages, by their group where it is a number, else by how they come."""
        training = [
            message for message in batch if message.metadata.message_type.partition(".")[0] == "train"
        ]
        if training:
            group = training[0].metadata.group_id
            if not group.isdigit() or group not in self._groups:
                self._round += 1
            self._groups.add(group)
        if self._round > self._rounds:
            for message in training:  # they show the last model
                self._note(message, reply=False)
            self._stop(f"{self._rounds} rounds are recorded")
        if time.monotonic() > self._deadline:
            self._stop("the share of the budget for running the app is spent")

    def _stop(self, why: str) -> None:
        self.stopped = why
        # what is raised in a thread of the server's becomes one more failed client there
        raise Enough(why)

    def _ask(self, message: Message) -> str:
        identity = str(uuid4())
        message.metadata.__dict__["_message_id"] = (
            identity  # it has no setter; the server's own grids do the same
        )
        sent = copy.deepcopy(message)  # a network would not share what is sent either
        self._note(sent, reply=False)
        if time.monotonic() > self._deadline:
            self._stop("the share of the budget for running the app is spent")
        node = sent.metadata.dst_node_id - FIRST_NODE
        try:
            reply = copy.deepcopy(self._answer(self._round, node, sent))
        except Exception as error:  # noqa: BLE001 - Flower tells the server that a client failed, and goes on
            reply = Message(Error(CLIENT_FAILED, f"{type(error).__name__}: {error}"), reply_to=message)
        reply.metadata.__dict__["_message_id"] = str(uuid4())
        if reply.has_content():
            self.said.setdefault((node, message.metadata.message_type), []).append(
                copy.deepcopy(reply.content)
            )
            if self._alter is not None:
                before = read(reply, self._round, reply=True, node=node)
                write(reply, before, self._alter(before))
        self._note(reply, reply=True)
        self._replies[identity] = reply
        return identity

    def _note(self, message: Message, *, reply: bool) -> None:
        identity = message.metadata.src_node_id if reply else message.metadata.dst_node_id
        self.messages.append(read(message, self._round, reply=reply, node=identity - FIRST_NODE))


def read(message: Message, index: int, *, reply: bool, node: int) -> Sent:
    """What stands in a message."""
    kind = message.metadata.message_type.removesuffix(".default")
    if not message.has_content():
        reason = (message.error.reason if message.has_error() else "") or "no reason is given"
        return Sent(round=index, kind=kind, node=node, reply=reply, failed=" ".join(reason.split()))
    content = message.content
    records = content.array_records
    arrays = {
        (f"{record}.{name}" if len(records) > 1 else name): array.numpy()
        for record, held in records.items()
        for name, array in held.items()
        if array.stype == "numpy.ndarray"
    }
    said: list[tuple[str, object]] = [
        *(one for held in content.metric_records.values() for one in held.items()),
        *(one for held in content.config_records.values() for one in held.items()),
    ]
    numbers = {
        name: float(value)
        for name, value in said
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return Sent(
        round=index,
        kind=kind,
        node=node,
        reply=reply,
        arrays=arrays,
        numbers=numbers,
        words={name: value for name, value in said if isinstance(value, str | bool)},
        n_bytes=content_bytes(content),
    )


def write(message: Message, before: Sent, after: Sent) -> None:
    """Put other arrays, numbers and words into a message, in the place of those that were read from it."""
    content = message.content
    records = content.array_records
    for record, held in records.items():
        for name in list(held):
            full = f"{record}.{name}" if len(records) > 1 else name
            if full in after.arrays and after.arrays[full] is not before.arrays[full]:
                held[name] = Array(np.asarray(after.arrays[full], dtype=before.arrays[full].dtype))
    for metrics in content.metric_records.values():
        metrics.update(_numbers(metrics, before, after))
    for config in content.config_records.values():
        changed = {name: word for name, word in after.words.items() if word != before.words[name]}
        config.update({name: word for name, word in changed.items() if name in config})
        config.update(_numbers(config, before, after))


def _numbers(held: Mapping[str, object], before: Sent, after: Sent) -> dict[str, int | float]:
    """The numbers of a record that were changed; whole ones stay whole."""
    changed = {
        name: one for name, one in after.numbers.items() if one != before.numbers[name] and name in held
    }
    return {name: round(one) if isinstance(held[name], int) else one for name, one in changed.items()}
