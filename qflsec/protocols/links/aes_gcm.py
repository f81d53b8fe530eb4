"""AES-256-GCM links: every message between two parties is encrypted and authenticated, in order.

Both ends derive one key for each direction from their signed X25519 keys. A message carries its number in
its direction, which is the nonce and part of the authenticated data, together with the network's header
(kind, round, sender, receiver). The receiver takes number n + 1 after number n and nothing else, so a
replayed, reordered, inserted, altered or missing message stops the run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, ProtocolAbort, Secrets, Source, register
from qflsec.federation import Identity, LinkLayer, PartyState, Setup
from qflsec.protocols.links.agreement import KeyAgreement, expand_key, in_order
from qflsec.protocols.links.ledger import link_rows
from qflsec.threat import Party

__all__ = ["MAX_MESSAGES", "OVERHEAD_BYTES", "AesGcmLink"]

MAX_MESSAGES = 2**32
"""How many messages one key may seal (NIST SP 800-38D, section 8.3)."""
OVERHEAD_BYTES = 24
"""What a sealed message adds: its number (8) and the tag (16)."""

_PROTOCOL = "qflsec/aes-gcm-link/1"


class _End(PartyState):
    """One party's ends of its links: keys and counters by peer."""

    def __init__(self, setup: Setup, identity: Identity, secrets: Secrets) -> None:
        self.party = identity.party
        self._setup = setup
        self._agreement = KeyAgreement(
            protocol=_PROTOCOL, session=setup.session, identity=identity, secrets=secrets
        )
        self._outgoing: dict[Party, AESGCM] = {}
        self._incoming: dict[Party, AESGCM] = {}
        self._sent: dict[Party, int] = {}
        self._received: dict[Party, int] = {}

    def announce(self) -> bytes:
        """A fresh public key, signed."""
        return self._agreement.announce()

    def learn(self, author: Party, announcement: bytes) -> None:
        """Agree on the two keys of a link.

        Raises:
            ProtocolAbort: The announcement is not authentic, or a second one.
        """
        secret = self._agreement.agree(author, announcement)
        self._outgoing[author] = self._direction(secret, self.party, author)
        self._incoming[author] = self._direction(secret, author, self.party)
        self._sent[author] = self._received[author] = 0

    def _direction(self, secret: bytes, sender: Party, receiver: Party) -> AESGCM:
        lower, higher = in_order(sender, receiver)
        use = (_PROTOCOL, self._setup.session, "session", str(lower), str(higher), f"{sender}>{receiver}")
        return AESGCM(expand_key(secret, *use))

    def key_names(self) -> frozenset[str]:
        """The links that this party belongs to."""
        everybody = (*self._setup.clients, self._setup.server)
        return frozenset(_link_name(self.party, peer) for peer in everybody if peer != self.party)

    def seal(self, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The number of the message, the ciphertext and the tag.

        Raises:
            ProtocolAbort: There is no key for this receiver, or it is used up.
        """
        if receiver not in self._outgoing:
            raise ProtocolAbort(f"{self.party} has no link key with {receiver}")
        number = self._sent[receiver]
        if number >= MAX_MESSAGES:
            raise ProtocolAbort(
                f"the link key from {self.party} to {receiver} has sealed {MAX_MESSAGES} messages"
            )
        self._sent[receiver] = number + 1
        counter = struct.pack(">Q", number)
        return counter + self._outgoing[receiver].encrypt(_nonce(counter), payload, counter + header)

    def unseal(self, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The payload of the next message.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """
        if sender not in self._incoming:
            raise ProtocolAbort(f"{self.party} has no link key with {sender}")
        counter, sealed = blob[:8], blob[8:]
        expected = self._received[sender]
        try:
            payload = self._incoming[sender].decrypt(
                _nonce(counter.ljust(8, b"\0")), sealed, counter + header
            )
        except InvalidTag:
            raise ProtocolAbort(f"a message from {sender} to {self.party} was altered on its way") from None
        (number,) = struct.unpack(">Q", counter)
        if number != expected:
            fault = "repeated or delayed" if number < expected else "preceded by one that is missing"
            raise ProtocolAbort(
                f"a message from {sender} to {self.party} is {fault}",
                got=f"number {number}",
                expected=f"number {expected}",
            )
        self._received[sender] = expected + 1
        return payload


def _nonce(counter: bytes) -> bytes:
    return b"\0\0\0\0" + counter


def _link_name(one: Party, other: Party) -> str:
    """``"link:client:3"`` between client 3 and the server, ``"link:client:1-client:3"`` between clients."""
    clients = [str(party) for party in in_order(one, other) if party.role == "client"]
    return "link:" + "-".join(clients)


@register("layer", "aes-gcm-link")
@dataclass(frozen=True, kw_only=True)
class AesGcmLink(LinkLayer):
    """AES-256-GCM between every client and the server, up and down."""

    card = DefenseCard(
        name="aes-gcm-link",
        idea="Every message between a client and the server is encrypted and authenticated with AES-256-GCM.",
        source=Source(
            paper="Dworkin: Recommendation for block cipher modes of operation: Galois/Counter Mode (GCM) and "
            "GMAC, NIST SP 800-38D",
            year=2007,
            where="sections 7 and 8.2.1 (deterministic nonces)",
        ),
        claim="The network reads no message, and a run that it altered, replayed, reordered, inserted into or "
        "dropped from stops.",
        assumption="computational",
        hides="updates and models from the network",
        does_not=(
            "It hides nothing from the server or from the receiver of a message.",
            "It does not hide sizes, times and who takes part.",
            "It does not keep a run alive under attack.",
            "It does not withstand a later quantum computer, which breaks X25519.",
        ),
        cost="one key agreement for each link; 24 bytes for each message, and 5 for its type and length",
    )

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's ends of its links."""
        return _End(setup, identity, secrets)

    def key_name(self, sender: Party, receiver: Party) -> str:
        """The name of the link's key; both directions go by one name, since both ends hold both keys."""
        return _link_name(sender, receiver)

    def seal(self, state: PartyState, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half.

        Raises:
            ProtocolAbort: There is no key for this receiver, or it is used up.
        """
        assert isinstance(state, _End)
        return state.seal(receiver, payload, header)

    def unseal(self, state: PartyState, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """
        assert isinstance(state, _End)
        return state.unseal(sender, blob, header)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What the links hide from this observer, and what they do not."""
        return link_rows(self.card.name, context)
