"""Masks: expanded from keys by ChaCha20, added by clients and taken off by the server."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from qflsec.base import ProtocolAbort
from qflsec.federation import Header
from qflsec.protocols.key_agreement import expand_key, in_order
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.threat import Party, client

__all__ = [
    "PairPlace",
    "add_expanded",
    "add_masks",
    "check_peers",
    "expand",
    "keystream_of",
    "model_digest",
    "pair_key",
    "pair_masks",
    "participants_digest",
    "self_key",
]

_PROTOCOL = "qflsec/secagg/2"
_BLOCK_BYTES = 1 << 17
Sign = int
PairPlace = tuple[bytes, int, bytes, bytes]
"""What masks of a round are bound to: session, round, hash of the model, hash of the sharing clients."""


def model_digest(model: torch.Tensor, *, about: bytes = b"") -> bytes:
    """A hash of the model that a client received.

    Args:
        model: The parameters that all clients receive: without what is personal to each of them.
        about: Where clients get slices, the description of who gets which: one and the same for all, or the
            clients would take each other's part for a deviation.
    """
    flat = np.ascontiguousarray(model.detach().cpu().numpy())
    hashed = hashlib.sha256(f"{flat.dtype.str}|{flat.shape}|{len(about)}|".encode() + about)
    hashed.update(flat.reshape(-1).view(np.uint8).data)
    return hashed.digest()


def pair_masks(
    me: Party, secrets: Mapping[Party, bytes], peers: Iterable[Party], *about: object
) -> Iterator[tuple[Sign, bytes]]:
    """The keys of a client's masks with its peers, each with its sign: the lower of a pair adds, the higher subtracts.

    Args:
        me: The client.
        secrets: What it shares with each of them.
        peers: The other clients of the sum.
        about: What the masks are for, such as protocol, session and round; they are good for nothing else.
    """
    for peer in peers:
        key = expand_key(secrets[peer], *about, *in_order(me, peer), "pair")
        yield (1 if me < peer else -1), key


def pair_key(secret: bytes, one: int, other: int, place: PairPlace) -> bytes:
    """The key of the mask that two clients of a round with drop-outs share."""
    ((_, key),) = pair_masks(client(one), {client(other): secret}, (client(other),), _PROTOCOL, *place)
    return key


def check_peers(me: Party, header: Header, known: Container[Party], *, least: int) -> list[Party]:
    """The other participants of a round in which all must be heard.

    Args:
        me: The client that is to mask.
        header: Whom the server names.
        known: The clients with which it shares secrets.
        least: With how many participants it masks.

    Raises:
        ProtocolAbort: The list is wrong, too short, or names a stranger.
    """
    peers = [party for party in header.participants if party != me]
    named = header.participants
    if header.sender != me or len(set(named)) != len(named) or len(peers) != len(named) - 1:
        raise ProtocolAbort(f"{me} was given a wrong list of participants")
    if len(named) < least:
        raise ProtocolAbort(
            f"{me} was asked to mask for {len(named)} participants",
            expected=f"at least {least}: of fewer, somebody would read its update",
        )
    strangers = [str(party) for party in peers if party not in known]
    if strangers:
        raise ProtocolAbort(f"{me} shares no secret with {', '.join(strangers)}")
    return peers


def participants_digest(header: Header) -> bytes:
    """A hash of the participants of a round: of another list, masks do not cancel."""
    return hashlib.sha256("|".join(sorted(map(str, header.participants))).encode()).digest()


def self_key(secret: bytes, owner: int, place: PairPlace) -> bytes:
    """The key of a client's own mask in one round."""
    session, round_index, model, sharers = place
    return expand_key(secret, _PROTOCOL, session, round_index, owner, model, sharers, "self")


def expand(key: bytes, size: int, dtype: np.dtype[np.unsignedinteger[Any]]) -> Words:
    """A mask: the ChaCha20 keystream under a key that serves this mask only."""
    return np.frombuffer(
        keystream_of(key).update(bytes(size * dtype.itemsize)), dtype=dtype.newbyteorder("<")
    )


def keystream_of(key: bytes) -> CipherContext:
    """The ChaCha20 keystream under a key that serves one mask."""
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()


def add_expanded(words: Words, keys: Iterable[tuple[Sign, bytes]]) -> Words:
    """Words with the masks of these keys added or subtracted."""
    total = words.copy()
    streams = [(np.add if sign > 0 else np.subtract, keystream_of(key)) for sign, key in keys]
    # every mask of a block before the next block: what a mask is expanded into stays in the cache
    step = _BLOCK_BYTES // total.itemsize
    mask = np.empty(min(step, total.size), dtype=total.dtype.newbyteorder("<"))
    zeros, place = memoryview(bytes(mask.nbytes)), mask.data.cast("B")
    for start in range(0, total.size, step):
        block = total[start : start + step]
        for put, keystream in streams:
            keystream.update_into(zeros[: block.nbytes], place)
            put(block, mask[: block.size], out=block)
    return total


def add_masks(words: Words, masks: Iterable[tuple[Sign, Words]]) -> Words:
    """Words with masks added (+1) or subtracted (-1), in their ring; each mask is used as it comes."""
    total = words.copy()
    for sign, mask in masks:
        if sign > 0:
            total += mask
        else:
            total -= mask
    return total
