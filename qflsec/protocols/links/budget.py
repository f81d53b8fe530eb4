"""How much key a run takes: what a one-time pad needs, and what AES-256 needs."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.protocols.bb84.authentication import BLOCK_BYTES

__all__ = ["AES_KEY_BYTES", "Traffic", "aes_bits", "pad_bits", "pad_bytes"]

AES_KEY_BYTES = 32
_ENCODING_BYTES = 5


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What crosses one direction of a link in a run, at most.

    Attributes:
        messages: The number of messages.
        message_bytes: The size of each.
    """

    messages: int
    message_bytes: int

    @classmethod
    def of_run(cls, *, n_params: int, rounds: int, bytes_per_parameter: int) -> Traffic:
        """A message for each round and one for the release, each with a weight beside the parameters."""
        return cls(messages=rounds + 1, message_bytes=_ENCODING_BYTES + bytes_per_parameter * (n_params + 1))


def pad_bytes(n_bytes: int, *, first: bool) -> int:
    """Key that one message under a one-time pad takes: the pad, its tag, and once the point of the hash.

    Units:
        bytes
    """
    return n_bytes + BLOCK_BYTES * (2 if first else 1)


def pad_bits(traffic: Traffic, *, key_bits: int) -> int:
    """Key that a direction under a one-time pad takes in a run, in whole keys.

    Units:
        bits
    """
    each = pad_bytes(traffic.message_bytes, first=False)
    return _whole(8 * (traffic.messages * each + BLOCK_BYTES), key_bits)


def aes_bits(traffic: Traffic, *, key_bits: int, rekey_messages: int, rekey_bytes: int) -> int:
    """Key that a direction under AES-256 takes in a run, in whole keys.

    Units:
        bits
    """
    by_bytes = max(1, rekey_bytes // max(1, traffic.message_bytes))
    epochs = -(-traffic.messages // min(rekey_messages, by_bytes))
    return _whole(8 * AES_KEY_BYTES * epochs, key_bits)


def _whole(bits: int, key_bits: int) -> int:
    return -(-bits // key_bits) * key_bits
