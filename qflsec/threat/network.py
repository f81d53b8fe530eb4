"""The network: the only place that writes the transcript.

Everything that one party says to another goes through :meth:`Network.send`, which encrypts it on the
links, lets a corrupted network read, alter or drop it, decrypts it at the receiver, counts the bytes and
records what was said as an onion of layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from qflsec.base import ProtocolAbort, QflsecError
from qflsec.threat.codec import decode, encode
from qflsec.threat.message import Envelope, Message, MessageKind, MessageLayer, Payload, Slot, payload_bytes
from qflsec.threat.party import PUBLIC, Party
from qflsec.threat.transcript import Transcript
from qflsec.threat.versions import Version

_VERSIONED = frozenset({"model", "final-model", "update", "aggregate"})

__all__ = ["Delivery", "Link", "Network", "Tapped", "WireTap"]


class Link(Protocol):
    """Link encryption between two parties, both ends."""

    @property
    def form(self) -> str:
        """The form of a sealed payload."""

    def key_name(self, sender: Party, receiver: Party) -> str:
        """The name of the key that opens what this sender sends to this receiver."""

    def seal(self, lane: int, sender: Party, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half.

        Raises:
            ProtocolAbort: The sender has no key for it, or none is left.
        """

    def open(self, lane: int, sender: Party, receiver: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half.

        Raises:
            ProtocolAbort: The blob is not what the sender sealed.
        """


@dataclass(frozen=True, kw_only=True)
class Tapped:
    """What a corrupted network holds of one message.

    Attributes:
        round: The round.
        kind: What the message carries.
        sender: Who sent it.
        receiver: Who is to receive it.
        payload: What crosses the network.
        state: What the adversary keeps of the run.
    """

    round: int
    kind: MessageKind
    sender: Party
    receiver: Party
    payload: Payload
    state: Any = None


WireTap = Callable[[Tapped], Payload | None]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """What the receivers hold: ``values[lane][slot]``, None where nothing arrived."""

    values: torch.Tensor | Sequence[Sequence[Payload | None]]

    def at(self, lane: int, slot: int) -> Payload | None:
        """The value of one slot of one lane."""
        return self.values[lane][slot]


class Network:
    """The network of a batch of runs.

    Args:
        transcript: Where every message is recorded.
        links: Link encryption, the first applied first.
        taps: For a run whose network is corrupted and active, what it does to a message.
    """

    def __init__(
        self,
        transcript: Transcript,
        *,
        links: Sequence[Link] = (),
        taps: Mapping[int, WireTap] | None = None,
    ) -> None:
        self._transcript = transcript
        self._links = tuple(links)
        self._taps = dict(taps or {})
        self.bytes_sent: dict[int, int] = {}
        self.messages_sent: dict[int, int] = {}
        self.aborts: dict[int, ProtocolAbort] = {}

    def send(
        self,
        envelope: Envelope,
        *,
        kind: MessageKind,
        round_index: int,
        lanes: Sequence[int],
        slots: Sequence[Slot],
        present: Sequence[Sequence[bool]],
        members: Sequence[Sequence[frozenset[int]]],
        versions: Sequence[Sequence[Version | None]] | None = None,
        reports: tuple[str, ...] = (),
        origin: int = 0,
        linked: bool = True,
        recorded: bool = True,
    ) -> Delivery:
        """Carry one step of a protocol for several runs.

        Args:
            envelope: What the senders prepared.
            kind: What it carries.
            round_index: The round.
            lanes: The runs.
            slots: The sender-receiver pairs.
            present: ``present[lane][slot]``: whether the slot is sent.
            members: ``members[lane][slot]``: whose contributions are inside.
            versions: ``versions[lane][slot]``: which version a model is, or which one updates started from.
            reports: What stands behind the number of examples of an update, name by name.
            origin: The layer that the senders themselves hold.
            linked: Whether the links protect it; announcements come before there are keys.
            recorded: Whether the transcript keeps it; otherwise it is only carried and counted.

        Returns:
            What the receivers hold after the links were opened. A lane whose check failed is named in
            :attr:`aborts` and holds None from there on.

        Raises:
            QflsecError: Models or updates are sent without their versions.
        """
        if versions is None:
            if kind in _VERSIONED:
                raise QflsecError(
                    f"a message of kind {kind!r} was sent without versions", fix="pass 'versions'"
                )
            versions = [[None] * len(slots) for _ in lanes]
        private = linked and any(slot.receiver != PUBLIC for slot in slots)
        if private and self._links:
            envelope, present = self._seal(envelope, kind, round_index, lanes, slots, present)
        if recorded:
            self._transcript.record(
                Message(
                    round=round_index,
                    kind=kind,
                    lanes=tuple(lanes),
                    slots=tuple(slots),
                    layers=envelope.layers,
                    origin=origin,
                    present=present,
                    members=members,
                    versions=versions,
                    reports=reports,
                )
            )
        self._count(envelope.outer, lanes, present)
        if not (private and self._links) and not any(lane in self._taps for lane in lanes):
            return Delivery(values=envelope.outer.value)
        return self._receive(envelope.outer, kind, round_index, lanes, slots, present, opened=private)

    def _count(self, outer: MessageLayer, lanes: Sequence[int], present: Sequence[Sequence[bool]]) -> None:
        value, each = outer.value, None
        if isinstance(value, torch.Tensor):  # its payloads are of one size
            each = math.prod(value.shape[2:]) * value.element_size()
        for position, lane in enumerate(lanes):
            sent = [slot for slot, is_sent in enumerate(present[position]) if is_sent]
            if each is None:
                size = sum(payload_bytes(outer.at(position, slot)) for slot in sent)
            else:
                size = each * len(sent)
            self.bytes_sent[lane] = self.bytes_sent.get(lane, 0) + size
            self.messages_sent[lane] = self.messages_sent.get(lane, 0) + len(sent)

    def _seal(
        self,
        envelope: Envelope,
        kind: MessageKind,
        round_index: int,
        lanes: Sequence[int],
        slots: Sequence[Slot],
        present: Sequence[Sequence[bool]],
    ) -> tuple[Envelope, list[list[bool]]]:
        """The sealed envelope, and which slots were sealed: a sender without a key sends nothing."""
        sent = [list(row) for row in present]
        for depth, link in enumerate(self._links):
            rows: list[list[bytes]] = []
            for position, lane in enumerate(lanes):
                row = []
                for index, slot in enumerate(slots):
                    if not sent[position][index] or lane in self.aborts:
                        sent[position][index] = False
                        row.append(b"")
                        continue
                    payload = encode(envelope.outer.at(position, index))
                    header = _header(kind, round_index, slot, depth)
                    try:
                        row.append(link.seal(lane, slot.sender, slot.receiver, payload, header))
                    except ProtocolAbort as abort:
                        self.aborts[lane] = abort
                        sent[position][index] = False
                        row.append(b"")
                rows.append(row)
            names = [frozenset({link.key_name(slot.sender, slot.receiver)}) for slot in slots]
            envelope = envelope.wrap(MessageLayer(form=link.form, value=rows, keys=[names for _ in lanes]))
        return envelope, sent

    def _receive(
        self,
        outer: MessageLayer,
        kind: MessageKind,
        round_index: int,
        lanes: Sequence[int],
        slots: Sequence[Slot],
        present: Sequence[Sequence[bool]],
        *,
        opened: bool,
    ) -> Delivery:
        rows: list[list[Payload | None]] = []
        for position, lane in enumerate(lanes):
            tap = self._taps.get(lane)
            row: list[Payload | None] = []
            for index, slot in enumerate(slots):
                payload: Payload | None = None
                if present[position][index] and lane not in self.aborts:
                    payload = outer.at(position, index)
                    if tap is not None and slot.receiver != PUBLIC:
                        payload = tap(
                            Tapped(
                                round=round_index,
                                kind=kind,
                                sender=slot.sender,
                                receiver=slot.receiver,
                                payload=payload,
                            )
                        )
                    if payload is not None and opened:
                        payload = self._open(lane, payload, kind, round_index, slot)
                row.append(payload)
            rows.append(row)
        return Delivery(values=rows)

    def _open(
        self, lane: int, payload: Payload, kind: MessageKind, round_index: int, slot: Slot
    ) -> Payload | None:
        try:
            for depth in reversed(range(len(self._links))):
                link = self._links[depth]
                # whatever else came out of a corrupted network was sealed by no link
                blob = payload if isinstance(payload, bytes) else b""
                header = _header(kind, round_index, slot, depth)
                payload = decode(link.open(lane, slot.sender, slot.receiver, blob, header))
        except ProtocolAbort as abort:
            self.aborts[lane] = abort
            return None
        return payload


def _header(kind: MessageKind, round_index: int, slot: Slot, depth: int) -> bytes:
    return f"{kind}|{round_index}|{slot.sender}|{slot.receiver}|{depth}".encode()
