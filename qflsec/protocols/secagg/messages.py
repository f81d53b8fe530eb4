"""Messages of secure aggregation as bytes: a kind, a round, a body, and the sender's signature.

A signature binds the session, the round, the kind, the sender and the receiver, so that a message is good
for one place of one protocol run. What the server only hands on (rosters, parcels, statements) carries the
signatures or tags of its authors, and the server's own adds nothing: these messages have a kind, a round and a
body.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from functools import lru_cache

from qflsec.base import ProtocolAbort
from qflsec.base.framing import pack_fields
from qflsec.protocols.secagg.signatures import Signer, check_digest, sign_digest
from qflsec.threat import Party

__all__ = [
    "EVERYBODY",
    "HEAD_BYTES",
    "Kind",
    "Mail",
    "body_of",
    "kind_of",
]

_HEAD = struct.Struct("<BI")
HEAD_BYTES = _HEAD.size
_PROTOCOL = b"qflsec/secagg/1"
EVERYBODY = Party("public")
"""The receiver of a message that others get to check as well."""


class Kind(IntEnum):
    """The kinds of messages, in the order of the protocol."""

    START = 1
    ADVERTISE = 2
    ROSTER = 3
    PARCEL = 4
    PARCELS = 5
    DELIVERY = 6
    MASKED = 7
    SURVIVORS = 8
    STATEMENT = 9
    STATEMENTS = 10
    REVEAL = 11


class Mail:
    """One party's way to sign what it sends and to check what it gets.

    Args:
        session: The public name of the session.
        signer: The party's signature key, and the others' public keys.
        signature_bytes: The size of a signature.
    """

    def __init__(self, *, session: bytes, signer: Signer, signature_bytes: int) -> None:
        self._session, self._signer, self._size = pack_fields(_PROTOCOL, session), signer, signature_bytes

    def pack(self, kind: Kind, round_index: int, receiver: Party, body: bytes | memoryview) -> bytes:
        """A signed message."""
        head = _HEAD.pack(kind, round_index)
        context = self._context(kind, round_index, receiver)
        return b"".join((head, body, sign_digest(self._signer, context, head, body)))

    def open(
        self, kind: Kind, round_index: int, author: Party, message: bytes, *, receiver: Party | None = None
    ) -> bytes:
        """The body of a message.

        Args:
            kind: What it must be.
            round_index: Which round it must belong to.
            author: Who must have signed it.
            message: The message.
            receiver: For whom it must have been signed; this party by default.

        Raises:
            ProtocolAbort: It is not such a message.
        """
        me = self._signer.party
        if len(message) < _HEAD.size + self._size or author not in self._signer.directory:
            raise ProtocolAbort(f"{me} got a message of {author} that is too short, or of a stranger")
        self._expect(kind, round_index, f"a message of {author}", message)
        context = self._context(kind, round_index, me if receiver is None else receiver)
        signed, signature = memoryview(message)[: -self._size], message[-self._size :]
        try:
            check_digest(self._signer, author, context, signature, signed)
        except ProtocolAbort:
            raise ProtocolAbort(f"the {kind.name} message of {author} has a wrong signature") from None
        return message[_HEAD.size : -self._size]

    def relay(self, kind: Kind, round_index: int, body: bytes) -> bytes:
        """A message whose parts their authors have authenticated."""
        return _HEAD.pack(kind, round_index) + body

    def relayed(self, kind: Kind, round_index: int, message: bytes) -> bytes:
        """The body of a message whose parts their authors have authenticated.

        Raises:
            ProtocolAbort: It is another message.
        """
        me = self._signer.party
        if len(message) < _HEAD.size:
            raise ProtocolAbort(f"{me} got a {kind.name} message that is too short")
        self._expect(kind, round_index, f"a {kind.name} message", message)
        return message[_HEAD.size :]

    def _expect(self, kind: Kind, round_index: int, what: str, message: bytes) -> None:
        me = self._signer.party
        found, its_round = _HEAD.unpack_from(message)
        if found != kind:
            raise ProtocolAbort(f"{me} got {what} out of order", got=found, expected=kind.name)
        if its_round != round_index:
            raise ProtocolAbort(f"{me} got {what} of another round", got=its_round, expected=round_index)

    def _context(self, kind: Kind, round_index: int, receiver: Party) -> bytes:
        return self._session + _place(kind, round_index, receiver)


@lru_cache(maxsize=4096)  # whoever signs a message and all who check it name the same place
def _place(kind: Kind, round_index: int, receiver: Party) -> bytes:
    return pack_fields(kind.name, round_index, receiver)


def kind_of(message: bytes) -> int:
    """The kind that a message claims to be; 0 where it is empty."""
    return message[0] if message else 0


def body_of(message: bytes, signature_bytes: int = 0) -> bytes:
    """The body of a message whose signature is not checked here: it was before, or the reader only listens."""
    return message[_HEAD.size : len(message) - signature_bytes]
