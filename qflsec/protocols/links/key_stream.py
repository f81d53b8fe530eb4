"""Key of one direction of a quantum link as a stream, and the frames that say which keys were drawn for it.

The sender draws whole keys and uses their bytes in order; what is left of a key serves the next message.
Each frame names the keys that were drawn for it, so that the receiver fetches its copies of the same keys
and uses the same bytes. A byte is overwritten in memory once it is used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from qflsec.base import ProtocolAbort
from qflsec.protocols.keystore import KeyProvider
from qflsec.threat import Party

__all__ = ["MOST_IDS", "Frame", "ReceivingKeys", "SendingKeys"]

_HEAD = struct.Struct(">QIH")
_ID_BYTES = 16
MOST_IDS = 2**16 - 1
"""How many keys a frame can name."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What crosses the network: which message of its direction it is, under which keys, and its body.

    Attributes:
        number: The number of the message in its direction.
        epoch: The number of the encryption key in its direction; 0 where there is one key only.
        key_ids: The keys that were drawn for it.
        body: The rest.
    """

    number: int
    epoch: int
    key_ids: tuple[UUID, ...]
    body: bytes = field(repr=False)

    @staticmethod
    def head_bytes(n_keys: int) -> int:
        """The size of everything before the body, with so many keys named."""
        return _HEAD.size + _ID_BYTES * n_keys

    @property
    def head(self) -> bytes:
        """Everything before the body, as bytes."""
        ids = b"".join(key_id.bytes for key_id in self.key_ids)
        return _HEAD.pack(self.number, self.epoch, len(self.key_ids)) + ids

    def to_bytes(self) -> bytes:
        """The frame as it is sent."""
        return self.head + self.body

    @classmethod
    def from_bytes(cls, blob: bytes) -> Frame:
        """Read a frame.

        Raises:
            ProtocolAbort: It is too short for what it says of itself.
        """
        if len(blob) < _HEAD.size:
            raise ProtocolAbort("a message is too short for a link", got=f"{len(blob)} bytes")
        number, epoch, n_ids = _HEAD.unpack_from(blob)
        body_at = _HEAD.size + _ID_BYTES * n_ids
        if len(blob) < body_at:
            raise ProtocolAbort("a message is too short for the keys that it names", got=f"{len(blob)} bytes")
        ids = tuple(UUID(bytes=blob[at : at + _ID_BYTES]) for at in range(_HEAD.size, body_at, _ID_BYTES))
        return cls(number=number, epoch=epoch, key_ids=ids, body=blob[body_at:])


class SendingKeys:
    """The sender's copy of one direction's key.

    Args:
        provider: The sender's end of its quantum links.
        peer: The receiver.

    Attributes:
        drawn_bits: What has been drawn from the provider.
    """

    def __init__(self, provider: KeyProvider, peer: Party) -> None:
        self._provider = provider
        self._peer = peer
        self._left = bytearray()
        self.drawn_bits = 0

    def take(self, n_bytes: int) -> tuple[bytes, tuple[UUID, ...]]:
        """The next bytes, and the keys that had to be drawn for them.

        Raises:
            ProtocolAbort: Too little key is left, and none was spent; or the message takes more keys than a frame can
                name, and those are spent.
        """
        missing = n_bytes - len(self._left)
        drawn = self._provider.draw(self._peer, 8 * missing) if missing > 0 else ()
        self.drawn_bits += sum(key.bits for key in drawn)
        if len(drawn) > MOST_IDS:
            raise ProtocolAbort(
                f"a message takes more than {MOST_IDS} keys, which are lost",
                got=f"{len(drawn)} keys",
                fix="use longer keys",
            )
        for key in drawn:
            self._left += key.material
        return _pop(self._left, n_bytes), tuple(key.key_id for key in drawn)


class ReceivingKeys:
    """The receiver's copy of one direction's key.

    Args:
        provider: The receiver's end of its quantum links.
        peer: The sender.
    """

    def __init__(self, provider: KeyProvider, peer: Party) -> None:
        self._provider = provider
        self._peer = peer
        self._left = bytearray()

    def take(self, n_bytes: int, key_ids: Sequence[UUID]) -> bytes:
        """The next bytes, after the keys that the sender drew for them have been fetched.

        Raises:
            ProtocolAbort: A key is unknown or was used before, or the keys do not suffice.
        """
        if key_ids:
            for key in self._provider.fetch(self._peer, key_ids):
                self._left += key.material
        if len(self._left) < n_bytes:
            raise ProtocolAbort(f"a message from {self._peer} names too few keys: it was altered on its way")
        return _pop(self._left, n_bytes)


def _pop(left: bytearray, n_bytes: int) -> bytes:
    taken = bytes(left[:n_bytes])
    left[:n_bytes] = bytes(n_bytes)
    del left[:n_bytes]
    return taken
