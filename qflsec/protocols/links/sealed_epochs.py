"""AES-256-GCM in epochs: one key for a number of messages, then the next, with counters as nonces.

The number of a message in its direction is its nonce; it never returns, and every key belongs to one
direction, so no nonce is used twice under a key. Keys live in memory only: after a restart there are none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from qflsec.base import ConfigError
from qflsec.federation import Identity, Setup
from qflsec.protocols.links.budget import AES_KEY_BYTES, aes_bits
from qflsec.protocols.links.key_stream import Frame
from qflsec.protocols.links.link_end import GcmKey
from qflsec.protocols.links.qkd import QkdEnd, QkdLink
from qflsec.threat import Party

__all__ = ["EpochEnd", "EpochLink"]

_TAG_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class EpochLink(QkdLink):
    """Links that change their AES key after so many messages or bytes.

    Source:
        NIST SP 800-38D (2007), sections 5.2.1.1 and 8.3, for the limits.

    Attributes:
        opening_bytes: What the first message of an epoch carries besides its ciphertext.
        rekey_messages: Messages of a direction under one key.
        rekey_bytes: Bytes of a direction under one key.

    Raises:
        ConfigError: A value is out of range.
    """

    opening_bytes: ClassVar[int] = 0

    rekey_messages: int = 1024
    rekey_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.rekey_messages <= 2**32:
            raise ConfigError(
                "'rekey_messages' is out of range", got=self.rekey_messages, expected="1 to 2^32"
            )
        if not 1 <= self.rekey_bytes <= 2**36 - 32:
            raise ConfigError(
                "'rekey_bytes' is out of range", got=self.rekey_bytes, expected="1 to 2^36 - 32"
            )

    def takes_bits(self, sizes: Sequence[int]) -> int:
        """A key of AES-256 for each epoch."""
        return aes_bits(
            sizes,
            key_bits=self.key_bits,
            rekey_messages=self.rekey_messages,
            rekey_bytes=self.rekey_bytes,
        )

    def sealed_bytes(self, n_bytes: int) -> int:
        """The frame with the names of the keys, what opens an epoch, and the tag, besides."""
        keys = -(-8 * AES_KEY_BYTES // self.key_bits)
        return Frame.head_bytes(keys) + self.opening_bytes + n_bytes + _TAG_BYTES


@dataclass(kw_only=True)
class _Epoch:
    index: int
    cipher: GcmKey
    messages: int = 0
    n_bytes: int = 0


class EpochEnd(QkdEnd):
    """A party's ends of links under AES-256-GCM.

    Args:
        setup: What every party knows, with this party's end of the quantum links.
        identity: Who the party is.
        rekey_messages: Messages under one key.
        rekey_bytes: Bytes under one key; a longer message has a key to itself.
    """

    opening_bytes = 0
    """What the first message of an epoch carries besides its ciphertext."""

    def __init__(self, setup: Setup, identity: Identity, *, rekey_messages: int, rekey_bytes: int) -> None:
        super().__init__(setup, identity)
        self._most_messages, self._most_bytes = rekey_messages, rekey_bytes
        self._outgoing: dict[Party, _Epoch] = {}
        self._incoming: dict[Party, _Epoch] = {}

    @abstractmethod
    def _new_key(self, receiver: Party, epoch: int) -> tuple[bytes, tuple[UUID, ...], bytes]:
        """A key for sending, the QKD keys that were drawn for it, and what opens the epoch.

        Raises:
            ProtocolAbort: Too little key is left.
        """

    @abstractmethod
    def _same_key(self, sender: Party, epoch: int, key_ids: tuple[UUID, ...], opening: bytes) -> bytes:
        """The key that the sender made.

        Raises:
            ProtocolAbort: What opens the epoch is not authentic.
        """

    def seal(self, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The frame with the ciphertext and its tag.

        Raises:
            ProtocolAbort: Too little key is left.
        """
        key_ids: tuple[UUID, ...] = ()
        opening = b""
        epoch = self._outgoing.get(receiver)
        if epoch is None or self._used_up(epoch, len(payload)):
            index = 0 if epoch is None else epoch.index + 1
            key, key_ids, opening = self._new_key(receiver, index)
            epoch = self._outgoing[receiver] = _Epoch(index=index, cipher=GcmKey(key))
        epoch.messages += 1
        epoch.n_bytes += len(payload)
        number = self._next_number(receiver)
        frame = Frame(number=number, epoch=epoch.index, key_ids=key_ids, body=opening).to_bytes()
        return frame + epoch.cipher.encrypt(number, payload, frame + header)

    def unseal(self, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The payload of the next message.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """
        frame = self._open_frame(sender, blob)
        epoch = self._incoming.get(sender)
        opening = 0
        if epoch is None or frame.epoch != epoch.index:
            index = 0 if epoch is None else epoch.index + 1
            opening = self.opening_bytes
            if frame.epoch != index or len(frame.body) < opening:
                raise self._altered(sender)
            key = self._same_key(sender, index, frame.key_ids, frame.body[:opening])
            epoch = _Epoch(index=index, cipher=GcmKey(key))
        elif frame.key_ids:
            raise self._altered(sender)
        sealed = frame.body[opening:]
        covered = blob[: len(blob) - len(sealed)]
        payload = self._opened(epoch.cipher, sender, frame.number, sealed, covered + header)
        self._incoming[sender] = epoch
        self._accept(sender)
        return payload

    def _used_up(self, epoch: _Epoch, n_bytes: int) -> bool:
        return epoch.messages >= self._most_messages or epoch.n_bytes + n_bytes > self._most_bytes
