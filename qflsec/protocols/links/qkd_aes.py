"""AES-256-GCM links whose keys come from quantum key distribution and change after a while.

QKD makes the keys; that AES hides a message under them remains a computational assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, Secrets, Source, register
from qflsec.federation import Identity, Setup
from qflsec.protocols.links.budget import AES_KEY_BYTES
from qflsec.protocols.links.qkd import QkdEnd
from qflsec.protocols.links.qkd_ledger import qkd_rows
from qflsec.protocols.links.sealed_epochs import EpochEnd, EpochLink
from qflsec.threat import Party

__all__ = ["QkdAesLink"]


class _AesEnd(EpochEnd):
    """Keys of quantum key distribution as they are."""

    def _new_key(self, receiver: Party, epoch: int) -> tuple[bytes, tuple[UUID, ...], bytes]:
        key, key_ids = self._keys_to(receiver).take(AES_KEY_BYTES)
        return key, key_ids, b""

    def _same_key(self, sender: Party, epoch: int, key_ids: tuple[UUID, ...], opening: bytes) -> bytes:
        return self._receiving[sender].take(AES_KEY_BYTES, key_ids)


@register("layer", "qkd-aes-link")
@dataclass(frozen=True, kw_only=True)
class QkdAesLink(EpochLink):
    """AES-256-GCM under QKD keys between every client and the server, up and down."""

    card = DefenseCard(
        name="qkd-aes-link",
        idea="Every message is sealed by AES-256-GCM under a key from quantum key distribution.",
        source=Source(
            paper="ETSI GS QKD 014 V1.1.1 (2019) for the keys and their identifiers; Dworkin: NIST SP 800-38D "
            "for the mode",
            year=2007,
            where="section 8.2.1 (deterministic nonces) and section 8.3 (limits) of the second",
        ),
        claim="The network reads no message and alters none unnoticed while AES-256 holds; no key agreement "
        "can be broken later; this quantum channel is simulated.",
        assumption="computational",
        hides="updates and models from the network",
        does_not=(
            "It hides nothing from the server or from the receiver of a message.",
            "It does not hide sizes, times and who takes part.",
            "It does not make AES information-theoretic.",
            "It does not keep a run alive under attack or without key.",
        ),
        cost="256 bits of key for each direction and change of keys; 30 bytes for each message and 16 for each "
        "key drawn",
    )

    def new_end(self, setup: Setup, identity: Identity, secrets: Secrets) -> QkdEnd:
        """A party's ends of its links."""
        return _AesEnd(setup, identity, rekey_messages=self.rekey_messages, rekey_bytes=self.rekey_bytes)

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What the links hide from this observer, and what they do not."""
        return qkd_rows(
            self,
            context,
            assumption="computational",
            secrecy="AES-256-GCM under QKD keys: computational, although the keys are not",
            integrity="tags of AES-256-GCM",
        )
