"""A mod that writes down what a node was sent and what it answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message, RecordDict

from qflsec.flower.grid import content_bytes

__all__ = ["Recorder"]


class Recorder:
    """A mod for ``ClientApp(mods=[...])`` that keeps a line for each message, both ways.

    Put in front of :class:`~qflsec.flower.ClientSide` it sees what crosses the network; behind it, what the app's own
    functions get and give.

    Args:
        folder: Where each node gets a file of its own.
    """

    __name__ = "qflsec-recorder"

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def __call__(
        self, message: Message, context: Context, app: Callable[[Message, Context], Message]
    ) -> Message:
        """Pass a message on, and note it and its answer."""
        self._note(message, context, "received")
        reply = app(message, context)
        self._note(reply, context, "answered")
        return reply

    def _note(self, message: Message, context: Context, what: str) -> None:
        records = message.content if message.has_content() else {}
        line = {
            "what": what,
            "kind": message.metadata.message_type,
            "run": context.run_id,
            "node": context.node_id,
            "records": {name: content_bytes(RecordDict({name: record})) for name, record in records.items()},
            "failed": "" if message.has_content() else message.error.reason,
            "at": time.time(),
        }
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"node-{context.node_id}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
