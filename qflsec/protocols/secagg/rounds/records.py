"""What the messages of secure aggregation carry, as records."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from qflsec.base import ProtocolAbort
from qflsec.base.framing import cut, pack_entries, pack_indices, unpack_entries
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.shamir import SHARE_BYTES

__all__ = [
    "STATEMENT_BYTES",
    "Advertisement",
    "Said",
    "Shares",
    "Sharing",
    "Statement",
    "box_bytes",
    "commitment",
    "indices_digest",
    "open_box",
    "pack_reveal",
    "seal_box",
    "tag",
    "unpack_reveal",
]

_NONCE = bytes(12)  # every key seals one message
_REVEALED = struct.Struct("<HH")
_DIGEST_BYTES = 32
STATEMENT_BYTES = 5 * _DIGEST_BYTES


def commitment(label: int, secret: bytes) -> bytes:
    """Binds a client to one of its 256-bit secrets without saying anything of it."""
    return hashlib.sha256(b"qflsec/secagg/secret" + struct.pack("<H", label) + secret).digest()


def tag(key: bytes, statement: bytes) -> bytes:
    """Proves a statement to the one other client that holds the key."""
    return hmac.digest(key, b"qflsec/secagg/statement" + statement, "sha256")


def box_bytes(n_shares: int) -> int:
    """The size of a box with so many shares."""
    return n_shares * SHARE_BYTES + 16


def indices_digest(indices: Iterable[int]) -> bytes:
    """A hash of a set of clients."""
    return hashlib.sha256(b"qflsec/secagg/clients" + pack_indices(sorted(indices))).digest()


def seal_box(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Authenticated encryption; of ``key``, which belongs to one direction and round, one message only."""
    return ChaCha20Poly1305(_box_key(key)).encrypt(_NONCE, plain, about)


def open_box(key: bytes, box: bytes, about: bytes) -> bytes:
    """What :func:`seal_box` sealed.

    Raises:
        ProtocolAbort: It is not what was sealed.
    """
    try:
        return ChaCha20Poly1305(_box_key(key)).decrypt(_NONCE, box, about)
    except (InvalidTag, ValueError):
        raise ProtocolAbort("an encrypted share is not authentic") from None


def _box_key(key: bytes) -> bytes:
    return hmac.digest(key, b"qflsec/secagg/box", "sha256")


@dataclass(frozen=True, kw_only=True)
class Advertisement:
    """A client's fresh public keys of one round, and what it was given.

    Attributes:
        model: The hash of the model that it received.
        terms: The hash of the terms that it received.
        mask: Its public key for masks, where the private one is shared, and opened if the client drops out.
        channel: Its public key for encrypted shares and chosen seeds; the private one is never shared.
    """

    model: bytes
    terms: bytes
    mask: bytes
    channel: bytes

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return self.model + self.terms + self.mask + self.channel

    @classmethod
    def from_bytes(cls, body: bytes, scheme: Scheme) -> Advertisement:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body has the wrong size.
        """
        model, terms, mask, channel, rest = cut(body, 32, 32, scheme.mask_bytes, scheme.channel_bytes)
        if rest:
            raise ProtocolAbort("an advertisement is malformed")
        return cls(model=model, terms=terms, mask=mask, channel=channel)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """A client's second message.

    Attributes:
        committed: The commitments to its secrets, in the order of :meth:`Scheme.labels`.
        parcels: For each other client, a parcel with its shares.
    """

    committed: tuple[bytes, ...]
    parcels: Mapping[int, bytes]

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return struct.pack("<H", len(self.committed)) + b"".join(self.committed) + pack_entries(self.parcels)

    @classmethod
    def from_bytes(cls, body: bytes) -> Sharing:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body is malformed.
        """
        head, rest = cut(body, 2)
        *committed, rest = cut(rest, *[_DIGEST_BYTES] * int.from_bytes(head, "little"))
        return cls(committed=tuple(committed), parcels=unpack_entries(rest))


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a client signs that it was told, before it opens any share.

    Attributes:
        model: The hash of the model.
        terms: The hash of the terms.
        roster: The hash of all advertisements.
        sharers: The hash of the set of clients whose parcels arrived.
        survivors: The hash of the set of clients whose masked vectors arrived.
    """

    model: bytes
    terms: bytes
    roster: bytes
    sharers: bytes
    survivors: bytes

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return self.model + self.terms + self.roster + self.sharers + self.survivors

    @classmethod
    def from_bytes(cls, body: bytes) -> Statement:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body has the wrong size.
        """
        model, terms, roster, sharers, survivors, rest = cut(body, 32, 32, 32, 32, 32)
        if rest:
            raise ProtocolAbort("a statement is malformed")
        return cls(model=model, terms=terms, roster=roster, sharers=sharers, survivors=survivors)


@dataclass(frozen=True, kw_only=True)
class Said:
    """A statement as a client sends it: to all the same, with a tag for each other client.

    Attributes:
        statement: The statement.
        tags: By receiver.
    """

    statement: Statement
    tags: Mapping[int, bytes]

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return self.statement.to_bytes() + pack_entries(self.tags)

    @classmethod
    def from_bytes(cls, body: bytes) -> Said:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body is malformed.
        """
        statement, rest = cut(body, STATEMENT_BYTES)
        return cls(statement=Statement.from_bytes(statement), tags=unpack_entries(rest))


Shares = Mapping[tuple[int, int], bytes]
"""Shares by the owner and the label of the secret."""


def pack_reveal(shares: Shares) -> bytes:
    """Opened shares, each of one secret of one client."""
    return b"".join(_REVEALED.pack(*which) + share for which, share in sorted(shares.items()))


def unpack_reveal(body: bytes) -> dict[tuple[int, int], bytes]:
    """What :func:`pack_reveal` wrote.

    Raises:
        ProtocolAbort: The bytes are malformed, or a secret stands twice.
    """
    shares: dict[tuple[int, int], bytes] = {}
    while body:
        head, share, body = cut(body, _REVEALED.size, SHARE_BYTES)
        owner, label = _REVEALED.unpack(head)
        if (owner, label) in shares:
            raise ProtocolAbort(f"a share of a secret of client:{owner} is opened twice")
        shares[owner, label] = share
    return shares
