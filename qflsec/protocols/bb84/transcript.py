"""The public discussion: ordered messages, and a channel on which an adversary may alter them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from qflsec.base import QflsecError

__all__ = ["Message", "PartyName", "PublicChannel", "Transcript", "TranscriptError"]

PartyName = Literal["alice", "bob"]
_PARTIES: tuple[PartyName, ...] = ("alice", "bob")
_MAGIC = b"qflsec bb84 transcript 1\n"
_HEAD = struct.Struct(">BHQ")


class TranscriptError(QflsecError):
    """A public message or transcript that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """One public message.

    Attributes:
        sender: Who said it.
        kind: What it is, for example ``"detections"``.
        payload: Its content.
    """

    sender: PartyName
    kind: str
    payload: bytes = field(repr=False)


class Transcript:
    """What one party said and heard in public, in order.

    Its bytes are what the parties authenticate: two transcripts have equal bytes if and only if they hold
    the same messages in the same order.
    """

    def __init__(self, messages: tuple[Message, ...] = ()) -> None:
        self._messages = list(messages)

    def append(self, message: Message) -> None:
        """Write down one message."""
        if message.sender not in _PARTIES:
            raise TranscriptError("unknown sender", got=message.sender, expected="alice or bob")
        self._messages.append(message)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(tuple(self._messages))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transcript) and self._messages == other._messages

    __hash__ = None  # type: ignore[assignment]

    @property
    def n_bytes(self) -> int:
        """The payload bytes of all messages."""
        return sum(len(message.payload) for message in self._messages)

    def last(self, kind: str) -> Message:
        """The latest message of one kind.

        Raises:
            TranscriptError: There is none.
        """
        for message in reversed(self._messages):
            if message.kind == kind:
                return message
        raise TranscriptError("the transcript has no such message", got=kind)

    def to_bytes(self) -> bytes:
        """An injective encoding: number of messages, then sender, kind and payload with their lengths."""
        parts = [_MAGIC, len(self._messages).to_bytes(8, "big")]
        for message in self._messages:
            kind = message.kind.encode()
            parts += [_HEAD.pack(_PARTIES.index(message.sender), len(kind), len(message.payload)), kind]
            parts.append(message.payload)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Transcript:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            TranscriptError: The bytes are not a transcript.
        """
        if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + 8:
            raise TranscriptError("not a transcript", fix="read the bytes that Transcript.to_bytes wrote")
        at = len(_MAGIC) + 8
        count = int.from_bytes(data[len(_MAGIC) : at], "big")
        messages = []
        while at < len(data):
            try:
                sender, kind_length, payload_length = _HEAD.unpack_from(data, at)
                at += _HEAD.size
                end = at + kind_length + payload_length
                if end > len(data):
                    raise TranscriptError("the transcript is cut short")
                kind = data[at : at + kind_length].decode()
                name = _PARTIES[sender]
            except (struct.error, UnicodeDecodeError, IndexError) as error:
                raise TranscriptError("the transcript is corrupt", got=error) from error
            messages.append(Message(sender=name, kind=kind, payload=data[at + kind_length : end]))
            at = end
        if len(messages) != count:
            raise TranscriptError("messages are missing", got=len(messages), expected=count)
        return cls(tuple(messages))


class PublicChannel:
    """The classical line between Alice and Bob: readable by all, and alterable until authenticated.

    Each party keeps its own transcript of what it said and heard. They agree unless an adversary altered a
    message, which is what authentication finds out.

    Args:
        relay: What an adversary on the line makes of a message: the payload that the receiver gets.
    """

    def __init__(self, relay: Callable[[Message], bytes] | None = None) -> None:
        self._relay = relay
        self.alice = Transcript()
        self.bob = Transcript()

    def send(self, sender: PartyName, kind: str, payload: bytes) -> bytes:
        """Carry one message; returns the payload as the receiver hears it."""
        said = Message(sender=sender, kind=kind, payload=payload)
        heard = said if self._relay is None else Message(sender=sender, kind=kind, payload=self._relay(said))
        self.alice.append(said if sender == "alice" else heard)
        self.bob.append(said if sender == "bob" else heard)
        return heard.payload
