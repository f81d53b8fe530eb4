"""AES-256-GCM links: every message between two parties is encrypted and authenticated, in order.

Both ends derive one key for each direction from their signed X25519 keys. A message carries its number in
its direction, which is the nonce and part of the authenticated data, together with the network's header
(kind, round, sender, receiver). The receiver takes number n + 1 after number n and nothing else, so a
replayed, reordered, inserted, altered or missing message stops the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, ProtocolAbort, Secrets, Source, register
from qflsec.federation import Identity, LinkLayer, PartyState, Setup
from qflsec.protocols.key_agreement import KeyAgreement, expand_key, in_order
from qflsec.protocols.links.ledger import link_rows
from qflsec.protocols.links.link_end import GcmKey, LinkEnd, link_name
from qflsec.threat import Party

__all__ = ["MAX_MESSAGES", "OVERHEAD_BYTES", "AesGcmLink"]

MAX_MESSAGES = 2**32
"""How many messages one key may seal (NIST SP 800-38D, section 8.3)."""
COUNTER_BYTES = 8
OVERHEAD_BYTES = COUNTER_BYTES + 16
"""What a sealed message adds: its number and the tag."""

_PROTOCOL = "qflsec/aes-gcm-link/2"


class _End(LinkEnd):
    """One party's ends of its links: a key for each direction."""

    family = "link"

    def __init__(self, setup: Setup, identity: Identity, secrets: Secrets) -> None:
        super().__init__(setup, identity)
        self._agreement = KeyAgreement(
            protocol=_PROTOCOL, session=setup.session, identity=identity, secrets=secrets
        )
        self._outgoing: dict[Party, GcmKey] = {}
        self._incoming: dict[Party, GcmKey] = {}

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

    def _direction(self, secret: bytes, sender: Party, receiver: Party) -> GcmKey:
        ends = in_order(sender, receiver)
        return GcmKey(expand_key(secret, _PROTOCOL, self._session, "session", *ends, f"{sender}>{receiver}"))

    def seal(self, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The number of the message, the ciphertext and the tag.

        Raises:
            ProtocolAbort: There is no key for this receiver, or it is used up.
        """
        if receiver not in self._outgoing:
            raise ProtocolAbort(f"{self.party} has no link key with {receiver}")
        number = self._next_number(receiver)
        if number >= MAX_MESSAGES:
            raise ProtocolAbort(
                f"the link key from {self.party} to {receiver} has sealed {MAX_MESSAGES} messages"
            )
        counter = number.to_bytes(COUNTER_BYTES, "big")
        return counter + self._outgoing[receiver].encrypt(number, payload, counter + header)

    def unseal(self, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The payload of the next message.

        Raises:
            ProtocolAbort: The blob is not the next message that the sender sealed under this header.
        """
        if sender not in self._incoming:
            raise ProtocolAbort(f"{self.party} has no link key with {sender}")
        counter, sealed = blob[:COUNTER_BYTES], blob[COUNTER_BYTES:]
        number = int.from_bytes(counter, "big")
        self._expect(sender, number)
        payload = self._opened(self._incoming[sender], sender, number, sealed, counter + header)
        self._accept(sender)
        return payload


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

    def sealed_bytes(self, n_bytes: int) -> int:
        """The number of the message and the tag besides."""
        return n_bytes + OVERHEAD_BYTES

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's ends of its links."""
        return _End(setup, identity, secrets)

    def key_name(self, sender: Party, receiver: Party) -> str:
        """The name of the link's key; both directions go by one name, since both ends hold both keys."""
        return link_name("link", sender, receiver)

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
