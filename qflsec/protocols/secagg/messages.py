"""Messages of secure aggregation as bytes: a kind, a round, a body, and the sender's signature.

A signature binds the session, the round, the kind, the sender and the receiver, so that a message is good
for one place of one protocol run. What the server only hands on (rosters, parcels, statements) carries the
signatures or tags of its authors, and the server's own adds nothing: these messages have a kind, a round and a
body.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.signatures import Signer
from qflsec.threat import Party

__all__ = [
    "EVERYBODY",
    "Kind",
    "Mail",
    "body_of",
    "fields",
    "kind_of",
    "pack_entries",
    "pack_indices",
    "unpack_entries",
    "unpack_indices",
]

_HEAD = struct.Struct("<BI")
_ENTRY = struct.Struct("<HI")
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
        self._session, self._signer, self._size = _packed(_PROTOCOL, session), signer, signature_bytes

    def pack(self, kind: Kind, round_index: int, receiver: Party, body: bytes | memoryview) -> bytes:
        """A signed message."""
        head = _HEAD.pack(kind, round_index)
        hashed = hashlib.sha256(head)
        hashed.update(body)
        digest = hashed.digest()
        signed = self._signer.sign(digest, self._context(kind, round_index, receiver))
        return b"".join((head, body, signed[len(digest) :]))

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
        digest = hashlib.sha256(memoryview(message)[: -self._size]).digest()
        try:
            context = self._context(kind, round_index, me if receiver is None else receiver)
            self._signer.verify(author, digest + message[-self._size :], context)
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
        return self._session + _packed(kind.name.encode(), str(round_index).encode(), str(receiver).encode())


def _packed(*parts: bytes) -> bytes:
    return b"".join([byte for part in parts for byte in (len(part).to_bytes(4, "little"), part)])


def kind_of(message: bytes) -> int:
    """The kind that a message claims to be; 0 where it is empty."""
    return message[0] if message else 0


def body_of(message: bytes, signature_bytes: int = 0) -> bytes:
    """The body of a message whose signature is not checked here: it was before, or the reader only listens."""
    return message[_HEAD.size : len(message) - signature_bytes]


def fields(body: bytes, *sizes: int) -> tuple[bytes, ...]:
    """A body cut into fields of these sizes; the last takes the rest.

    Raises:
        ProtocolAbort: The body is too short.
    """
    if len(body) < sum(sizes):
        raise ProtocolAbort(
            "a message is malformed", got=f"{len(body)} bytes", expected=f"{sum(sizes)} or more"
        )
    found, start = [], 0
    for size in sizes:
        found.append(body[start : start + size])
        start += size
    return (*found, body[start:])


def pack_entries(entries: Mapping[int, bytes]) -> bytes:
    """Blobs by client index."""
    parts = [struct.pack("<H", len(entries))]
    parts += [_ENTRY.pack(index, len(blob)) + blob for index, blob in sorted(entries.items())]
    return b"".join(parts)


def unpack_entries(body: bytes) -> dict[int, bytes]:
    """What :func:`pack_entries` wrote.

    Raises:
        ProtocolAbort: The bytes are not such a list, or an index stands twice.
    """
    count_bytes, _ = fields(body, 2)
    entries: dict[int, bytes] = {}
    place = 2
    for _ in range(int.from_bytes(count_bytes, "little")):
        if place + _ENTRY.size > len(body):
            raise ProtocolAbort("a message is malformed", got="an entry that is cut short")
        index, size = _ENTRY.unpack_from(body, place)
        place += _ENTRY.size
        if index in entries:
            raise ProtocolAbort(f"a message names client:{index} twice")
        if place + size > len(body):
            raise ProtocolAbort("a message is malformed", got="an entry that is cut short")
        entries[index] = body[place : place + size]
        place += size
    if place != len(body):
        raise ProtocolAbort("a message is malformed", got=f"{len(body) - place} bytes too many")
    return entries


def pack_indices(indices: Iterable[int]) -> bytes:
    """Client indices."""
    listed = tuple(indices)
    return struct.pack(f"<H{len(listed)}H", len(listed), *listed)


def unpack_indices(body: bytes) -> tuple[tuple[int, ...], bytes]:
    """What :func:`pack_indices` wrote, and what follows it.

    Raises:
        ProtocolAbort: The bytes are no such list, or an index stands twice.
    """
    count_bytes, rest = fields(body, 2)
    count = int.from_bytes(count_bytes, "little")
    listed, rest = fields(rest, 2 * count)
    indices = struct.unpack(f"<{count}H", listed)
    if len(set(indices)) != count:
        raise ProtocolAbort("a message names a client twice", got=list(indices))
    return indices, rest
