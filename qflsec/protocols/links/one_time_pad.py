"""One-time pad links: secrecy and integrity that no computing power breaks, as long as there is key.

A message takes as many fresh key bytes as it has, and 16 for its tag; the first one of a direction takes 16
more for the point of the polynomial hash. Each direction has keys of its own, and no byte is used twice.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, Secrets, Source, register
from qflsec.federation import Identity, Setup
from qflsec.protocols.bb84.authentication import BLOCK_BYTES, PolynomialHash
from qflsec.protocols.links.budget import pad_bits, pad_bytes
from qflsec.protocols.links.key_stream import Frame
from qflsec.protocols.links.qkd import QkdEnd, QkdLink
from qflsec.protocols.links.qkd_ledger import pad_rows
from qflsec.threat import Party

__all__ = ["OneTimePadLink"]


class _PadEnd(QkdEnd):
    """A party's ends of one-time pad links."""

    def __init__(self, setup: Setup, identity: Identity) -> None:
        super().__init__(setup, identity)
        self._hash_out: dict[Party, PolynomialHash] = {}
        self._hash_in: dict[Party, PolynomialHash] = {}

    def seal(self, receiver: Party, payload: bytes, header: bytes) -> bytes:
        first = receiver not in self._hash_out
        needed = pad_bytes(len(payload), first=first)
        key, key_ids = self._keys_to(receiver).take(needed)
        if first:
            self._hash_out[receiver] = PolynomialHash(key[-BLOCK_BYTES:])
        hidden = _xor(payload, key[: len(payload)])
        frame = Frame(number=self._next_number(receiver), epoch=0, key_ids=key_ids, body=hidden).to_bytes()
        return frame + _tag(self._hash_out[receiver], header, frame, key[len(payload) :])

    def unseal(self, sender: Party, blob: bytes, header: bytes) -> bytes:
        frame = self._open_frame(sender, blob)
        hidden, tag = frame.body[:-BLOCK_BYTES], frame.body[-BLOCK_BYTES:]
        first = sender not in self._hash_in
        key = self._receiving[sender].take(pad_bytes(len(hidden), first=first), frame.key_ids)
        point = PolynomialHash(key[-BLOCK_BYTES:]) if first else self._hash_in[sender]
        if not hmac.compare_digest(_tag(point, header, blob[:-BLOCK_BYTES], key[len(hidden) :]), tag):
            raise self._altered(sender)
        self._hash_in[sender] = point
        self._accept(sender)
        return _xor(hidden, key[: len(hidden)])


def _tag(point: PolynomialHash, header: bytes, frame: bytes, pad: bytes) -> bytes:
    """A one-time tag over header and frame: their hash under the first 16 bytes of the pad."""
    return _xor(point(struct.pack(">I", len(header)) + header + frame), pad[:BLOCK_BYTES])


def _xor(data: bytes, pad: bytes) -> bytes:
    return (np.frombuffer(data, dtype=np.uint8) ^ np.frombuffer(pad, dtype=np.uint8)).tobytes()


@register("layer", "otp-link")
@dataclass(frozen=True, kw_only=True)
class OneTimePadLink(QkdLink):
    """One-time pads between every client and the server, up and down."""

    card = DefenseCard(
        name="otp-link",
        idea="Every message is hidden by fresh key from quantum key distribution, and tagged with more of it.",
        source=Source(
            paper="Shannon: Communication theory of secrecy systems, Bell Syst. Tech. J. 28, 656; Wegman and "
            "Carter: New hash functions and their use in authentication and set equality, J. Comput. Syst. "
            "Sci. 22, 265 (1981)",
            year=1949,
            where="section 10 (perfect secrecy); section 3 of the second (tags)",
        ),
        claim="The network reads no message and alters none unnoticed, whatever its computing power, up to the "
        "stated epsilons; this quantum channel is simulated.",
        assumption="information-theoretic",
        hides="updates and models from the network",
        does_not=(
            "It hides nothing from the server or from the receiver of a message.",
            "It does not hide sizes, times and who takes part.",
            "It does not keep a run alive under attack or without key.",
        ),
        cost="one bit of key for each bit, 128 bits for each message, 128 bits for each direction; 30 bytes for "
        "each message and 16 for each key drawn",
    )

    def takes_bits(self, sizes: Sequence[int]) -> int:
        """A bit for each bit, the tags, and the point of the hash."""
        return pad_bits(sizes, key_bits=self.key_bits)

    def sealed_bytes(self, n_bytes: int) -> int:
        """The frame with the names of the keys, and the tag, besides."""
        keys = -(-8 * pad_bytes(n_bytes, first=True) // self.key_bits)
        return Frame.head_bytes(keys) + n_bytes + BLOCK_BYTES

    def new_end(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links."""
        return _PadEnd(setup, identity)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What the links hide from this observer, and what they do not."""
        return pad_rows(self, context)
