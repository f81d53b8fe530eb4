"""What the messages of secure aggregation carry, as records."""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from qflsec.base import ProtocolAbort
from qflsec.base.framing import cut, pack_entries, pack_indices, unpack_entries
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.shamir import SHARE_BYTES

__all__ = [
    "COMMITMENT_BYTES",
    "HASHES_BYTES",
    "REVEALED_BYTES",
    "STATEMENT_BYTES",
    "TAG_BYTES",
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
    "share_digest",
    "split_parcel",
    "tag",
    "unpack_reveal",
]

_NONCE = bytes(12)  # every key seals one message
_REVEALED = struct.Struct("<HH")
_DIGEST_BYTES = 32
_KNOWN = 1024
"""So many public records are remembered by their bytes: every party of a simulated round reads all of them."""
STATEMENT_BYTES = 5 * _DIGEST_BYTES
COMMITMENT_BYTES = TAG_BYTES = _DIGEST_BYTES
HASHES_BYTES = 2 * _DIGEST_BYTES
"""Model and terms in an advertisement."""
REVEALED_BYTES = _REVEALED.size + SHARE_BYTES
"""An opened share, and which it is."""


def commitment(label: int, secret: bytes) -> bytes:
    """Binds a client to one of its 256-bit secrets without saying anything of it."""
    return hashlib.sha256(b"qflsec/secagg/secret" + struct.pack("<H", label) + secret).digest()


def share_digest(label: int, holder: int, share: bytes) -> bytes:
    """Binds the owner of a secret to the share of it that one client holds, without saying anything of it.

    A client that opens another share than it was given is then told apart from an owner that gave it a wrong one.
    """
    return hashlib.sha256(b"qflsec/secagg/share" + struct.pack("<HH", label, holder) + share).digest()


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
    @lru_cache(maxsize=_KNOWN)
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
        kept: The digests of the shares that it keeps itself, in the same order.
        parcels: For each other client, the digests of its shares in the same order, and a parcel with the shares.
    """

    committed: tuple[bytes, ...]
    kept: tuple[bytes, ...]
    parcels: Mapping[int, bytes]

    def to_bytes(self) -> bytes:
        """The body of a message."""
        bound = b"".join((*self.committed, *self.kept))
        return struct.pack("<H", len(self.committed)) + bound + pack_entries(self.parcels)

    @classmethod
    def from_bytes(cls, body: bytes) -> Sharing:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: The body is malformed.
        """
        head, rest = cut(body, 2)
        n = int.from_bytes(head, "little")
        *bound, rest = cut(rest, *[_DIGEST_BYTES] * (2 * n))
        return cls(committed=tuple(bound[:n]), kept=tuple(bound[n:]), parcels=unpack_entries(rest))

    def digests(self, holder: int) -> tuple[bytes, ...]:
        """What the owner is bound to of one client's shares.

        Args:
            holder: The client; the owner itself has no parcel.

        Raises:
            ProtocolAbort: A parcel is too short.
        """
        if holder not in self.parcels:
            return self.kept
        return split_parcel(self.parcels[holder], len(self.committed))[0]


def split_parcel(parcel: bytes, n: int) -> tuple[tuple[bytes, ...], bytes]:
    """The digests of ``n`` shares, and the rest of a parcel.

    Raises:
        ProtocolAbort: The parcel is too short.
    """
    *digests, rest = cut(parcel, *[_DIGEST_BYTES] * n)
    return tuple(digests), rest


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
    @lru_cache(maxsize=_KNOWN)
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
