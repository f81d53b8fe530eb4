"""Hybrid links: AES-256-GCM under keys made from QKD, ML-KEM-768 and X25519 together.

A key is HKDF-SHA384 of the three secrets, in this order and each of fixed length, with a hash of all that
was said about them in its info: the signed public keys of both ends, the signed ciphertext of the
encapsulation, the identifiers of the QKD keys, the direction and the epoch. Whoever lacks one of the three
secrets lacks the key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, ProtocolAbort, Secrets, Source, register
from qflsec.base.framing import pack_fields
from qflsec.federation import Identity, Setup
from qflsec.federation.identity import ED25519_BYTES
from qflsec.protocols.key_agreement import KeyAgreement, MlKemExchange
from qflsec.protocols.links.budget import AES_KEY_BYTES
from qflsec.protocols.links.qkd import QkdEnd
from qflsec.protocols.links.qkd_ledger import qkd_rows
from qflsec.protocols.links.sealed_epochs import EpochEnd, EpochLink
from qflsec.threat import Party

__all__ = ["HybridLink", "combine"]

_PROTOCOL = "qflsec/hybrid-link/2"
_X25519_BYTES = 32 + ED25519_BYTES
_OPENING_BYTES = 1088 + ED25519_BYTES


def combine(*, qkd: bytes, ml_kem: bytes, x25519: bytes, salt: bytes, said: bytes) -> bytes:
    """A 256-bit key from three secrets of 256 bits.

    Args:
        qkd: Key from quantum key distribution.
        ml_kem: The shared secret of ML-KEM-768.
        x25519: The secret agreed by X25519.
        salt: A public value of the session.
        said: The transcript.

    Source:
        Krawczyk and Eronen, RFC 5869 (2010); for binding ciphertext and public keys, Barbosa et al.: X-Wing,
        IACR Commun. Cryptol. 1(1), eprint 2024/039.
    """
    assert len(qkd) == len(ml_kem) == len(x25519) == AES_KEY_BYTES
    info = _PROTOCOL.encode() + hashlib.sha384(said).digest()
    return HKDF(algorithm=SHA384(), length=AES_KEY_BYTES, salt=salt, info=info).derive(qkd + ml_kem + x25519)


class _HybridEnd(EpochEnd):
    """A party's ends of hybrid links."""

    opening_bytes = _OPENING_BYTES

    def __init__(
        self, setup: Setup, identity: Identity, secrets: Secrets, *, rekey_messages: int, rekey_bytes: int
    ) -> None:
        super().__init__(setup, identity, rekey_messages=rekey_messages, rekey_bytes=rekey_bytes)
        self._identity = identity
        self._agreement = KeyAgreement(
            protocol=_PROTOCOL, session=setup.session, identity=identity, secrets=secrets
        )
        self._kem = KeyAgreement(
            protocol=f"{_PROTOCOL}/ml-kem-768",
            session=setup.session,
            identity=identity,
            secrets=secrets,
            exchange=MlKemExchange(),
        )
        self._announced = self._agreement.announce() + self._kem.announce()
        self._heard: dict[Party, bytes] = {}
        self._x25519: dict[Party, bytes] = {}

    def announce(self) -> bytes:
        """Fresh public keys for X25519 and ML-KEM-768, both signed."""
        return self._announced

    def learn(self, author: Party, announcement: bytes) -> None:
        """Agree on the X25519 secret of a link, and keep the other's ML-KEM-768 key.

        Raises:
            ProtocolAbort: The announcement is not authentic, is a second one, or carries no usable key.
        """
        secret = self._agreement.agree(author, announcement[:_X25519_BYTES])
        self._kem.hear(author, announcement[_X25519_BYTES:])
        self._x25519[author] = secret
        self._heard[author] = announcement

    def _context(self, receiver: Party, epoch: int) -> bytes:
        return pack_fields(_PROTOCOL, self._session, receiver, epoch)

    def _new_key(self, receiver: Party, epoch: int) -> tuple[bytes, tuple[UUID, ...], bytes]:
        keys = self._keys_to(receiver)
        if receiver not in self._heard:
            raise ProtocolAbort(f"{self.party} has heard no keys of {receiver}")
        qkd, key_ids = keys.take(AES_KEY_BYTES)
        secret, ciphertext = self._kem.encapsulate(receiver)
        opening = self._identity.sign(ciphertext, self._context(receiver, epoch))
        said = self._said(self.party, receiver, epoch, key_ids, opening)
        key = combine(qkd=qkd, ml_kem=secret, x25519=self._x25519[receiver], salt=self._session, said=said)
        return key, key_ids, opening

    def _same_key(self, sender: Party, epoch: int, key_ids: tuple[UUID, ...], opening: bytes) -> bytes:
        if sender not in self._heard:
            raise ProtocolAbort(f"{self.party} has heard no keys of {sender}")
        ciphertext = self._identity.verify(sender, opening, self._context(self.party, epoch))
        qkd = self._receiving[sender].take(AES_KEY_BYTES, key_ids)
        secret = self._kem.decapsulate(sender, ciphertext)
        said = self._said(sender, self.party, epoch, key_ids, opening)
        return combine(qkd=qkd, ml_kem=secret, x25519=self._x25519[sender], salt=self._session, said=said)

    def _said(
        self, sender: Party, receiver: Party, epoch: int, key_ids: tuple[UUID, ...], opening: bytes
    ) -> bytes:
        """All that was said about one key, as both ends heard it."""
        peer = receiver if sender == self.party else sender
        ours, theirs = self._announced, self._heard[peer]
        announced = (ours, theirs) if sender == self.party else (theirs, ours)
        ids = b"".join(key_id.bytes for key_id in key_ids)
        return pack_fields(self._session, sender, receiver, epoch, *announced, ids, opening)


@register("layer", "hybrid-link")
@dataclass(frozen=True, kw_only=True)
class HybridLink(EpochLink):
    """AES-256-GCM under hybrid keys between every client and the server, up and down."""

    card = DefenseCard(
        name="hybrid-link",
        idea="AES-256-GCM under keys from QKD, ML-KEM-768 and X25519 together: one of the three must hold.",
        source=Source(
            paper="NIST FIPS 203 for ML-KEM; RFC 7748 for X25519; RFC 5869 for HKDF; combined as in Barbosa et "
            "al.: X-Wing, eprint 2024/039, with QKD as a third secret",
            year=2024,
            where="section 3 of the last (ciphertext and public keys enter the derivation)",
        ),
        claim="The network reads no message while AES-256 and HKDF hold and one of QKD, ML-KEM-768 and X25519 "
        "does; this quantum channel is simulated.",
        assumption="computational",
        hides="updates and models from the network",
        does_not=(
            "It hides nothing from the server or from the receiver of a message.",
            "It does not hide sizes, times and who takes part.",
            "It does not become information-theoretic by its QKD part.",
            "It does not keep a run alive under attack.",
        ),
        cost="256 bits of QKD key, an encapsulation and 1152 bytes for each direction and change of keys; 1344 "
        "bytes for each announcement; 30 bytes for each message and 16 for each key drawn",
    )

    opening_bytes: ClassVar[int] = _OPENING_BYTES

    def new_end(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links."""
        return _HybridEnd(
            setup, identity, secrets, rekey_messages=self.rekey_messages, rekey_bytes=self.rekey_bytes
        )

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What the links hide from this observer, and what they do not."""
        return qkd_rows(
            self,
            context,
            assumption="computational",
            secrecy="AES-256-GCM under keys from QKD, ML-KEM-768 and X25519, of which one must hold; if QKD is the one, "
            "up to its epsilon",
            integrity="tags of AES-256-GCM, under keys that need one of the three, and signatures by Ed25519",
        )
