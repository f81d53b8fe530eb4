"""A party's ends of its links: messages are numbered in their direction, and taken in that order alone."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qflsec.base import ProtocolAbort
from qflsec.federation import Identity, PartyState, Setup
from qflsec.protocols.key_agreement import in_order
from qflsec.threat import Party

__all__ = ["GcmKey", "LinkEnd", "link_name", "nonce"]


def link_name(family: str, one: Party, other: Party) -> str:
    """``"qkd:client:3"`` between client 3 and the server, ``"qkd:client:1-client:3"`` between clients."""
    clients = [str(party) for party in in_order(one, other) if party.role == "client"]
    return f"{family}:" + "-".join(clients)


def nonce(number: int) -> bytes:
    """The nonce of AES-GCM: the number of the message in its direction, which never returns under a key."""
    return number.to_bytes(12, "big")


class GcmKey:
    """A key of AES-256-GCM that can be put away with the state that it belongs to, and taken out again.

    Args:
        key: The key, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key, self._cipher = key, AESGCM(key)

    def __reduce__(self) -> tuple[type[GcmKey], tuple[bytes]]:
        """The key alone: OpenSSL's object is made anew from it."""
        return GcmKey, (self._key,)

    def encrypt(self, number: int, payload: bytes, about: bytes) -> bytes:
        """The ciphertext and the tag of one message.

        Args:
            number: Of the message; none is used twice under a key.
            payload: What is encrypted.
            about: What the tag is over besides.
        """
        return self._cipher.encrypt(nonce(number), payload, about)

    def decrypt(self, number: int, sealed: bytes, about: bytes) -> bytes:
        """What :meth:`encrypt` was given.

        Raises:
            InvalidTag: It was altered.
        """
        return self._cipher.decrypt(nonce(number), sealed, about)


class LinkEnd(PartyState):
    """One party's ends of its links.

    Args:
        setup: What every party knows.
        identity: Who the party is.

    Attributes:
        family: What the names of its links begin with.
    """

    family: ClassVar[str]

    def __init__(self, setup: Setup, identity: Identity) -> None:
        self.party = identity.party
        self._session = setup.session
        self._peers = [party for party in (*setup.clients, setup.server) if party != self.party]
        self._sent = dict.fromkeys(self._peers, 0)
        self._received = dict.fromkeys(self._peers, 0)

    def key_names(self) -> frozenset[str]:
        """The links that this party belongs to."""
        return frozenset(link_name(self.family, self.party, peer) for peer in self._peers)

    @abstractmethod
    def seal(self, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half.

        Raises:
            ProtocolAbort: Too little key is left.
        """

    @abstractmethod
    def unseal(self, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """

    def _next_number(self, receiver: Party) -> int:
        """The number of a message that is about to be sent."""
        number = self._sent[receiver]
        self._sent[receiver] = number + 1
        return number

    def _expect(self, sender: Party, number: int) -> None:
        """Refuse a message that does not claim to be the next one; its tag proves the claim."""
        if sender not in self._received:
            raise ProtocolAbort(f"{self.party} has no link with {sender}")
        expected = self._received[sender]
        if number != expected:
            fault = "repeated or delayed" if number < expected else "preceded by one that is missing"
            raise ProtocolAbort(
                f"a message from {sender} to {self.party} is {fault}, or was altered on its way",
                got=f"number {number}",
                expected=f"number {expected}",
            )

    def _opened(self, cipher: GcmKey, sender: Party, number: int, sealed: bytes, about: bytes) -> bytes:
        try:
            return cipher.decrypt(number, sealed, about)
        except InvalidTag:
            raise self._altered(sender) from None

    def _accept(self, sender: Party) -> None:
        self._received[sender] += 1

    def _altered(self, sender: Party) -> ProtocolAbort:
        return ProtocolAbort(f"a message from {sender} to {self.party} was altered on its way")
