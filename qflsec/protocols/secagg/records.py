"""What the messages of secure aggregation carry, as records."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from qflsec.base import ProtocolAbort
from qflsec.protocols.links import expand_key
from qflsec.protocols.secagg.exchange import KeyExchange
from qflsec.protocols.secagg.messages import fields, pack_entries, pack_indices, unpack_entries
from qflsec.protocols.secagg.shamir import SHARE_BYTES

__all__ = [
    "BOX_BYTES",
    "Advertisement",
    "Sharing",
    "Statement",
    "commitment",
    "indices_digest",
    "open_box",
    "pack_reveal",
    "seal_box",
    "unpack_reveal",
]

BOX_BYTES = 2 * SHARE_BYTES + 16
_NONCE = bytes(12)  # every key seals one message
_REVEALED = struct.Struct("<HB")


def commitment(secret: bytes) -> bytes:
    """Binds a client to its 256-bit self mask secret without saying anything of it."""
    return hashlib.sha256(b"qflsec/secagg/self" + secret).digest()


def indices_digest(indices: Iterable[int]) -> bytes:
    """A hash of a set of clients."""
    return hashlib.sha256(b"qflsec/secagg/clients" + pack_indices(sorted(indices))).digest()


def seal_box(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Authenticated encryption under a key that serves this message only."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, plain, about)


def open_box(key: bytes, box: bytes, about: bytes) -> bytes:
    """What :func:`seal_box` sealed.

    Raises:
        ProtocolAbort: It is not what was sealed.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, box, about)
    except (InvalidTag, ValueError):
        raise ProtocolAbort("an encrypted share is not authentic") from None


@dataclass(frozen=True, kw_only=True)
class Advertisement:
    """A client's fresh public keys of one round, and what it was given.

    Attributes:
        model: The hash of the model that it received.
        terms: The hash of the terms that it received.
        mask: Its public key for masks; the private one is shared, and opened if the client drops out.
        channel: Its public key for encrypted shares; the private one is never shared.
    """

    model: bytes
    terms: bytes
    mask: bytes
    channel: bytes

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return self.model + self.terms + self.mask + self.channel

    @classmethod
    def from_bytes(cls, body: bytes, exchange: KeyExchange) -> Advertisement:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body has the wrong size.
        """
        size = exchange.public_bytes
        model, terms, mask, channel, rest = fields(body, 32, 32, size, size)
        if rest:
            raise ProtocolAbort("an advertisement is malformed")
        return cls(model=model, terms=terms, mask=mask, channel=channel)


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """A client's second message.

    Attributes:
        committed: The commitment to its self mask secret.
        wrapped: The pair secrets that it chose, sealed under its mask root; empty where the root is enough.
        parcels: For each other client, a signed parcel with its shares.
    """

    committed: bytes
    wrapped: bytes
    parcels: Mapping[int, bytes]

    def to_bytes(self) -> bytes:
        """The body of a message."""
        return (
            self.committed + struct.pack("<I", len(self.wrapped)) + self.wrapped + pack_entries(self.parcels)
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> Sharing:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body is malformed.
        """
        committed, size, rest = fields(body, 32, 4)
        wrapped, rest = fields(rest, int.from_bytes(size, "little"))
        return cls(committed=committed, wrapped=wrapped, parcels=unpack_entries(rest))

    @staticmethod
    def wrap_key(root: bytes) -> bytes:
        """The key of :attr:`wrapped`."""
        return expand_key(root, "qflsec/secagg/1", "wrap")


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
        model, terms, roster, sharers, survivors, rest = fields(body, 32, 32, 32, 32, 32)
        if rest:
            raise ProtocolAbort("a statement is malformed")
        return cls(model=model, terms=terms, roster=roster, sharers=sharers, survivors=survivors)


def pack_reveal(shares: Mapping[int, tuple[bool, bytes]]) -> bytes:
    """Opened shares: for each client, whether it survived and the share of the secret that follows from it."""
    return b"".join(
        _REVEALED.pack(index, survived) + share for index, (survived, share) in sorted(shares.items())
    )


def unpack_reveal(body: bytes) -> dict[int, tuple[bool, bytes]]:
    """What :func:`pack_reveal` wrote.

    Raises:
        ProtocolAbort: The bytes are malformed, or a client stands twice.
    """
    shares: dict[int, tuple[bool, bytes]] = {}
    while body:
        head, share, body = fields(body, _REVEALED.size, SHARE_BYTES)
        index, survived = _REVEALED.unpack(head)
        if index in shares or survived not in {0, 1}:
            raise ProtocolAbort(f"shares of client:{index} are opened twice, or of an unknown kind")
        shares[index] = (bool(survived), share)
    return shares
