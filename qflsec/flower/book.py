"""What the parties of a run of the lab write down, in a folder, for whoever judges it afterwards.

None of it crosses a link or enters an answer: a client notes what it made and sent, the server what it got and made of
it. A folder serves parties in one process and in many alike.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from qflsec.base import LostRound, ProtocolAbort
from qflsec.federation.payloads import SentPayload
from qflsec.federation.round.opened import Opened
from qflsec.threat import Payload

__all__ = ["Book", "ClientNote", "EndNote", "RoundNote"]

_END = "end"


@dataclass(frozen=True, kw_only=True)
class ClientNote:
    """What one client did in one round.

    Attributes:
        loss: Its mean training loss before the round.
        honest: What it would release if it followed the protocol.
        sent: What it releases; None for nothing.
        failure: Message and traceback of a faulty adversary; None where there is none.
        memory: What its adversary keeps.
        seconds: What training took.

    Shapes:
        honest: ``(P,)``

    Units:
        seconds: processor time
    """

    loss: float
    honest: torch.Tensor
    sent: SentPayload
    failure: tuple[str, str] | None = None
    memory: object = None
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoundNote:
    """What the server saw and made in one round.

    Attributes:
        round: The round, from 0.
        asked: The clients that were asked.
        heard: Those whose updates arrived and were not turned away.
        before: The model that was sent out.
        after: The model after the round.
        payloads: What arrived as updates, by client.
        opened: What the server could open; None where the round was lost.
        lost: Why the round has no result; None where it has one.
        bytes: The bytes of all messages so far, both ways.
        messages: How many there were.

    Shapes:
        before, after: ``(P,)``
    """

    round: int
    asked: tuple[int, ...]
    heard: tuple[int, ...]
    before: torch.Tensor
    after: torch.Tensor
    payloads: Mapping[int, Payload] = field(default_factory=dict)
    opened: Opened | None = None
    lost: LostRound | None = None
    bytes: int = 0
    messages: int = 0


@dataclass(frozen=True, kw_only=True)
class EndNote:
    """How the server's part ended.

    Attributes:
        abort: Why a protocol stopped; None where none did.
        error: The message of an error; empty where there is none.
        seconds: What the server's part took.

    Units:
        seconds: processor time
    """

    abort: ProtocolAbort | None = None
    error: str = ""
    seconds: float = 0.0


class Book:
    """The notes of one run.

    Args:
        folder: Where they are; made where it is missing, closed to others.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def note_client(self, round_index: int, index: int, note: ClientNote) -> None:
        """Keep what a client did in a round."""
        self._write(f"{round_index}.client-{index}", note)

    def note_round(self, note: RoundNote) -> None:
        """Keep what the server made of a round."""
        self._write(f"{note.round}.server", note)

    def note_end(self, note: EndNote) -> None:
        """Keep how the server's part ended."""
        self._write(_END, note)

    def clients(self, round_index: int, n_clients: int) -> dict[int, ClientNote]:
        """What clients noted of a round, by client."""
        found = {index: self._read(f"{round_index}.client-{index}") for index in range(n_clients)}
        return {index: note for index, note in found.items() if note is not None}

    def round(self, round_index: int) -> RoundNote | None:
        """What the server noted of a round; None where it did not come to its end."""
        note: RoundNote | None = self._read(f"{round_index}.server")
        return note

    def end(self) -> EndNote | None:
        """How the server's part ended; None where it did not."""
        note: EndNote | None = self._read(_END)
        return note

    def _write(self, name: str, note: object) -> None:
        new = self._folder / f"{name}.new"
        with os.fdopen(os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            pickle.dump(note, file, protocol=pickle.HIGHEST_PROTOCOL)
        new.replace(self._folder / name)

    def _read(self, name: str) -> Any:  # noqa: ANN401 - each caller says what it is
        path = self._folder / name
        return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301 - the lab's own file
