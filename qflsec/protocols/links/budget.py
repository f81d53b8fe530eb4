"""How much key a run takes: what a one-time pad needs, and what AES-256 needs."""

from __future__ import annotations

from collections.abc import Iterable

from qflsec.protocols.bb84.authentication import BLOCK_BYTES
from qflsec.threat.codec import ENCODING_BYTES

__all__ = ["AES_KEY_BYTES", "aes_bits", "pad_bits", "pad_bytes"]

AES_KEY_BYTES = 32


def pad_bytes(n_bytes: int, *, first: bool) -> int:
    """Key that one message under a one-time pad takes: the pad, its tag, and once the point of the hash.

    Units:
        bytes
    """
    return n_bytes + BLOCK_BYTES * (2 if first else 1)


def pad_bits(sizes: Iterable[int], *, key_bits: int) -> int:
    """Key that a direction under a one-time pad takes in a run, in whole keys.

    Args:
        sizes: The sizes of its messages, before their encoding.
        key_bits: The length of a key.

    Units:
        sizes: bytes; key_bits, returns: bits
    """
    total = [pad_bytes(n_bytes + ENCODING_BYTES, first=place == 0) for place, n_bytes in enumerate(sizes)]
    return _whole(8 * sum(total), key_bits)


def aes_bits(sizes: Iterable[int], *, key_bits: int, rekey_messages: int, rekey_bytes: int) -> int:
    """Key that a direction under AES-256 takes in a run, in whole keys.

    Messages are put under keys as the links do it, in order. Larger or further messages never take fewer keys, so
    upper bounds of their sizes give an upper bound.

    Args:
        sizes: As for :func:`pad_bits`.
        key_bits: The length of a key.
        rekey_messages: Messages under one key.
        rekey_bytes: Bytes under one key.

    Units:
        sizes, rekey_bytes: bytes; key_bits, returns: bits
    """
    epochs = messages = n_bytes = 0
    for size in sizes:
        encoded = size + ENCODING_BYTES
        if epochs == 0 or messages >= rekey_messages or n_bytes + encoded > rekey_bytes:
            epochs, messages, n_bytes = epochs + 1, 0, 0
        messages, n_bytes = messages + 1, n_bytes + encoded
    return _whole(8 * AES_KEY_BYTES * epochs, key_bits)


def _whole(bits: int, key_bits: int) -> int:
    return -(-bits // key_bits) * key_bits
