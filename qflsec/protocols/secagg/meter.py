"""A network that counts: bytes by kind of message, and processor time between messages by whose turn it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qflsec.threat import Delivery, Envelope, Network, Party, Slot, Transcript
from qflsec.threat.message import payload_bytes

__all__ = ["MeteredNetwork", "Sent"]

Namer = Callable[[bytes], str]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Messages of one kind in one direction.

    Attributes:
        name: The kind.
        up: Whether clients sent them to the server.
        messages: How many.
        total_bytes: All together.
        largest_bytes: The largest.
    """

    name: str
    up: bool
    messages: int = 0
    total_bytes: int = 0
    largest_bytes: int = 0


class MeteredNetwork(Network):
    """A network with a meter, from which some clients disappear before they send a certain message.

    Time that passes between two steps belongs to the senders of the second one; what the network itself takes
    belongs to nobody.

    Args:
        transcript: Where every message is recorded.
        links: Link encryption.
        drop: The clients that disappear.
        drop_at: The name of the message that they no longer send.
        namer: What control messages are called.

    Attributes:
        sent: Messages by name and direction.
        client_ms: Processor time of all clients.
        server_ms: Processor time of the server.
        gone: The clients that have disappeared.
        last_receiver: Who received the last message: ``"client"`` or ``"server"``.
    """

    def __init__(
        self,
        transcript: Transcript,
        *,
        links: Sequence[Any] = (),
        drop: frozenset[Party] = frozenset(),
        drop_at: str = "update",
        namer: Namer | None = None,
    ) -> None:
        super().__init__(transcript, links=links, taps={0: lambda tapped: tapped.payload})
        self._drop, self._drop_at, self._namer = drop, drop_at, namer
        self.sent: dict[tuple[str, bool], Sent] = {}
        self.gone: frozenset[Party] = frozenset()
        self.client_ms = self.server_ms = 0.0
        self.last_receiver = "server"
        self._of_party: dict[tuple[Party, bool], int] = {}
        self._running = False
        self._since = time.process_time()

    def begin(self) -> None:
        """Start the clock; what was sent before belongs to the set-up."""
        self.sent.clear()
        self._of_party.clear()
        self._running = True
        self._since = time.process_time()

    def mark(self, role: str) -> None:
        """Give the time since the last mark to the clients or to the server."""
        now = time.process_time()
        if self._running:
            spent = 1e3 * (now - self._since)
            if role == "client":
                self.client_ms += spent
            else:
                self.server_ms += spent
        self._since = now

    def of_those_who_stayed(self) -> tuple[int, int]:
        """Bytes that the clients which are still there have sent and received."""
        up, down = (
            sum(n for (party, is_up), n in self._of_party.items() if is_up == way and party not in self.gone)
            for way in (True, False)
        )
        return up, down

    def send(self, envelope: Envelope, **step: Any) -> Delivery:  # noqa: ANN401
        """Carry one step, count it, and let clients disappear before it."""
        slots: Sequence[Slot] = step["slots"]
        up = slots[0].sender.role == "client"
        self.mark("client" if up else "server")
        names = [self._name(step["kind"], envelope, place) for place in range(len(slots))]
        self.gone |= {
            slot.sender
            for slot, name in zip(slots, names, strict=True)
            if up and slot.sender in self._drop and name == self._drop_at
        }
        present = [
            sent and slot.sender not in self.gone and slot.receiver not in self.gone
            for sent, slot in zip(step["present"][0], slots, strict=True)
        ]
        delivery = super().send(envelope, **{**step, "present": [present]})
        for place, (slot, name, sent) in enumerate(zip(slots, names, present, strict=True)):
            if sent:
                self._count_one(name, up, slot, payload_bytes(envelope.outer.at(0, place)))
        self.last_receiver = "server" if up else "client"
        self._since = time.process_time()
        return delivery

    def _name(self, kind: str, envelope: Envelope, place: int) -> str:
        value = envelope.outer.at(0, place)
        if kind == "control" and self._namer is not None and isinstance(value, bytes):
            return self._namer(value)
        return kind

    def _count_one(self, name: str, up: bool, slot: Slot, size: int) -> None:
        before = self.sent.get((name, up), Sent(name=name, up=up))
        self.sent[name, up] = replace(
            before,
            messages=before.messages + 1,
            total_bytes=before.total_bytes + size,
            largest_bytes=max(before.largest_bytes, size),
        )
        party = slot.sender if up else slot.receiver
        self._of_party[party, up] = self._of_party.get((party, up), 0) + size
