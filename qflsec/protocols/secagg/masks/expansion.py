"""Masks: expanded from keys by ChaCha20, added by clients and taken off by the server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from qflsec.protocols.links import expand_key
from qflsec.protocols.secagg.fixed_point import Words

__all__ = ["PairPlace", "add_expanded", "add_masks", "expand", "model_digest", "pair_key", "self_key"]

_PROTOCOL = "qflsec/secagg/1"
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


def pair_key(secret: bytes, one: int, other: int, place: PairPlace) -> bytes:
    """The key of the mask that two clients share in one round."""
    session, round_index, model, sharers = place
    return expand_key(
        secret, _PROTOCOL, session, round_index, min(one, other), max(one, other), model, sharers, "pair"
    )


def self_key(secret: bytes, owner: int, place: PairPlace) -> bytes:
    """The key of a client's own mask in one round."""
    session, round_index, model, sharers = place
    return expand_key(secret, _PROTOCOL, session, round_index, owner, model, sharers, "self")


def expand(key: bytes, size: int, dtype: np.dtype[np.unsignedinteger[Any]]) -> Words:
    """A mask: the ChaCha20 keystream under a key that serves this mask only."""
    return np.frombuffer(_stream(key).update(bytes(size * dtype.itemsize)), dtype=dtype.newbyteorder("<"))


def _stream(key: bytes) -> CipherContext:
    return Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()


def add_expanded(words: Words, keys: Iterable[tuple[Sign, bytes]]) -> Words:
    """Words with the masks of these keys added or subtracted."""
    total = words.copy()
    streams = [(np.add if sign > 0 else np.subtract, _stream(key)) for sign, key in keys]
    # every mask of a block before the next block: what a mask is expanded into stays in the cache
    step = _BLOCK_BYTES // total.itemsize
    mask = np.empty(min(step, total.size), dtype=total.dtype.newbyteorder("<"))
    zeros, place = memoryview(bytes(mask.nbytes)), mask.data.cast("B")
    for start in range(0, total.size, step):
        block = total[start : start + step]
        for put, stream in streams:
            stream.update_into(zeros[: block.nbytes], place)
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
