"""Coins that nobody chooses: everybody is bound to a contribution before it sees another's.

Each party announces a hash of its contribution and opens it once it has heard all the hashes. The coins are a
hash of all contributions: uniform, and unknown until the first honest party opens, as long as one contributor is
honest. A party can still refuse to open; it is then named, and nothing is drawn without it, so that no one gets to
choose among several outcomes by dropping some.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from qflsec.base import ProtocolAbort
from qflsec.base.framing import pack_fields
from qflsec.threat import Party

__all__ = ["BOUND_BYTES", "CONTRIBUTION_BYTES", "bound", "check_opened", "draw_coins"]

CONTRIBUTION_BYTES = 32
BOUND_BYTES = 32
_PROTOCOL = b"qflsec/common-coins/1"


def bound(label: bytes, author: Party, content: bytes) -> bytes:
    """A hash that binds a party to a content with 256 bits of secrets in it, and says nothing of it.

    Args:
        label: Where it belongs: session, round and purpose.
        author: Whose content it is, so that nobody can repeat another's.
        content: The content.
    """
    return _hash(b"bound", label, str(author).encode(), content)


def check_opened(
    label: bytes, hashes: Mapping[Party, bytes], contents: Mapping[Party, bytes], size: int, *, signed: bool
) -> None:
    """Whether everybody opened what it was bound to.

    Args:
        label: Where it belongs.
        hashes: What everybody was bound to.
        contents: What arrived.
        size: The size of a content.
        signed: Whether each content was found to be its author's: another one than it is bound to is then its doing.

    Raises:
        ProtocolAbort: A content is missing or another one.
    """
    for party, expected in hashes.items():
        content = contents.get(party)
        if content is None or len(content) != size:
            raise ProtocolAbort(f"{party} did not open what it was bound to")
        if not hmac.compare_digest(bound(label, party, content), expected):
            raise ProtocolAbort(
                f"{party} opened another content than it was bound to", caused_by=party if signed else None
            )


def draw_coins(
    label: bytes,
    hashes: Mapping[Party, bytes],
    contributions: Mapping[Party, bytes],
    *,
    signed: bool = False,
) -> bytes:
    """The 32 bytes that all contributions make.

    Args:
        label: Where they belong.
        hashes: What everybody was bound to.
        contributions: What arrived.
        signed: As in :func:`check_opened`.

    Raises:
        ProtocolAbort: A contribution is missing or another one.
    """
    check_opened(label, hashes, contributions, CONTRIBUTION_BYTES, signed=signed)
    parts = [part for p in sorted(hashes, key=str) for part in (str(p).encode(), contributions[p])]
    return _hash(b"coins", label, *parts)


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(pack_fields(_PROTOCOL, *parts)).digest()
