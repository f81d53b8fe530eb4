"""AES-256-GCM in epochs: one key for a number of messages, then the next, with counters as nonces.

The number of a message in its direction is its nonce; it never returns, and every key belongs to one
direction, so no nonce is used twice under a key. Keys live in memory only: after a restart there are none.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qflsec.base import ConfigError
from qflsec.federation import Identity, Setup
from qflsec.protocols.links.key_stream import Frame
from qflsec.protocols.links.link_end import nonce
from qflsec.protocols.links.qkd import QkdEnd
from qflsec.threat import Party

__all__ = ["EpochEnd", "check_rekeying"]


def check_rekeying(messages: int, n_bytes: int) -> None:
    """Refuse limits beyond those of the standard.

    Source:
        NIST SP 800-38D (2007), sections 5.2.1.1 and 8.3.

    Raises:
        ConfigError: A limit is out of range.
    """
    if not 1 <= messages <= 2**32:
        raise ConfigError("'rekey_messages' is out of range", got=messages, expected="1 to 2^32")
    if not 1 <= n_bytes <= 2**36 - 32:
        raise ConfigError("'rekey_bytes' is out of range", got=n_bytes, expected="1 to 2^36 - 32")


@dataclass(kw_only=True)
class _Epoch:
    index: int
    cipher: AESGCM
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
            epoch = self._outgoing[receiver] = _Epoch(index=index, cipher=AESGCM(key))
        epoch.messages += 1
        epoch.n_bytes += len(payload)
        number = self._next_number(receiver)
        frame = Frame(number=number, epoch=epoch.index, key_ids=key_ids, body=opening).to_bytes()
        return frame + epoch.cipher.encrypt(nonce(number), payload, frame + header)

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
            epoch = _Epoch(index=index, cipher=AESGCM(key))
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
