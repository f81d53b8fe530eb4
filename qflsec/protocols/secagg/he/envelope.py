"""Signed envelopes around ciphertexts: a ciphertext alone can be altered, swapped or replayed unnoticed."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from qflsec.base import ProtocolAbort
from qflsec.federation import Identity
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.secagg.signatures import check_digest, sign_digest
from qflsec.threat import Party

__all__ = ["KEY_ID_BYTES", "envelope_bytes", "open_envelope", "read_envelope", "seal_envelope"]

KEY_ID_BYTES = 16
_HEAD = struct.Struct(f"<{KEY_ID_BYTES}sIH")


def seal_envelope(
    identity: Identity, *, context: bytes, key_id: bytes, round_index: int, chunks: Sequence[bytes]
) -> bytes:
    """Blobs under one signature, bound to the key, the round and the sender.

    Args:
        identity: Who signs.
        context: What it is: protocol, session, and what else both ends know.
        key_id: The name of the key that the ciphertexts belong to.
        round_index: The round.
        chunks: Blobs.
    """
    sizes = struct.pack(f"<{len(chunks)}I", *(len(chunk) for chunk in chunks))
    body = _HEAD.pack(key_id, round_index, len(chunks)) + sizes + b"".join(chunks)
    return body + sign_digest(identity, context, body)


def envelope_bytes(*chunks: int) -> int:
    """The size of an envelope around blobs of these sizes."""
    return _HEAD.size + 4 * len(chunks) + sum(chunks) + ED25519_BYTES


def open_envelope(
    identity: Identity,
    author: Party,
    blob: bytes,
    *,
    context: bytes,
    key_id: bytes,
    round_index: int,
    n: int | None = None,
) -> list[bytes]:
    """The blobs in an envelope.

    Args:
        identity: Who opens it.
        author: Who must have sealed it.
        blob: The envelope.
        context: As in :func:`seal_envelope`.
        key_id: As in :func:`seal_envelope`.
        round_index: The round.
        n: How many blobs it must hold: an author may sign any number. None for any.

    Raises:
        ProtocolAbort: It is not what this author sealed for this key, round and context.
    """
    body, signature = blob[:-ED25519_BYTES], blob[-ED25519_BYTES:]
    if len(body) < _HEAD.size or author not in identity.directory:
        raise ProtocolAbort(f"an envelope of {author} is too short, or of a stranger")
    its_key, its_round, _ = _HEAD.unpack_from(body)
    if its_round != round_index:
        raise ProtocolAbort(
            f"an envelope of {author} is of another round", got=its_round, expected=round_index
        )
    if its_key != key_id:
        raise ProtocolAbort(f"an envelope of {author} is under another key")
    try:
        check_digest(identity, author, context, signature, body)
    except ProtocolAbort:
        raise ProtocolAbort(f"an envelope of {author} has a wrong signature") from None
    try:
        blobs = read_envelope(blob)
    except ProtocolAbort:
        raise ProtocolAbort(f"an envelope of {author} is malformed", caused_by=author) from None
    if n is not None and len(blobs) != n:
        raise ProtocolAbort(
            f"an envelope of {author} is malformed",
            got=f"{len(blobs)} blobs",
            expected=n,
            caused_by=author,
        )
    return blobs


def read_envelope(blob: bytes) -> list[bytes]:
    """The blobs in an envelope, whoever sealed it: what a listener reads.

    Raises:
        ProtocolAbort: It is malformed.
    """
    body = blob[:-ED25519_BYTES]
    count = _HEAD.unpack_from(body)[2] if len(body) >= _HEAD.size else 0
    start = _HEAD.size + 4 * count
    if len(body) < start:
        raise ProtocolAbort("an envelope is malformed")
    chunks = []
    for size in struct.unpack_from(f"<{count}I", body, _HEAD.size):
        chunks.append(body[start : start + size])
        start += size
    if start != len(body):
        raise ProtocolAbort("an envelope is malformed")
    return chunks
