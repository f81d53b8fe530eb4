"""Identities: signed announcements, so that a key can be traced to the party that made it.

Every party has an Ed25519 signature key, and every party knows the others' public keys beforehand (a
public-key infrastructure is assumed). Set-up messages that carry fresh public keys are signed with it.
libsodium signs and verifies: in about half the time of OpenSSL, and a round of secure aggregation verifies much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from qflsec.base import ProtocolAbort, Secrets
from qflsec.base.framing import pack_fields
from qflsec.threat import Party

__all__ = ["ED25519_BYTES", "Identity", "signed_bytes"]

ED25519_BYTES = 64
"""The size of a signature."""
_PUBLIC_BYTES = 32
_KNOWN = 4096
"""So many signed messages are remembered: those of a few rounds."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One party's signature key, and the directory of everybody's public keys.

    Attributes:
        party: Who signs.
        directory: Everybody's public keys.
        known: Signed messages that were found right, each behind its public key, for all parties of a simulation;
            None where this party checks for itself.
    """

    party: Party
    directory: Mapping[Party, bytes]
    _key: bytes = field(repr=False)
    known: set[tuple[bytes, bytes]] | None = field(default=None, repr=False, compare=False)

    @staticmethod
    def of_all(
        parties: tuple[Party, ...], secrets: Mapping[Party, Secrets], *, checked_once: bool = False
    ) -> dict[Party, Identity]:
        """One identity for each party, with a common directory.

        Args:
            parties: The parties.
            secrets: Each party's own source.
            checked_once: Whether the parties, which one process plays, check a signature once for all of them: it is
                public, and right for all or for none. What one party's own work costs cannot be measured then.
        """
        pairs = {party: crypto_sign_seed_keypair(secrets[party].draw(32)) for party in parties}
        directory = {party: public for party, (public, _) in pairs.items()}
        known: set[tuple[bytes, bytes]] | None = set() if checked_once else None
        return {
            p: Identity(party=p, directory=directory, _key=key, known=known) for p, (_, key) in pairs.items()
        }

    def sign(self, body: bytes, context: bytes) -> bytes:
        """``body`` followed by a signature over it, its author and ``context``."""
        return (
            body + crypto_sign(signed_bytes("ed25519", self.party, context, body), self._key)[:ED25519_BYTES]
        )

    def verify(self, author: Party, signed: bytes, context: bytes) -> bytes:
        """The body of a signed message.

        Raises:
            ProtocolAbort: The signature is not the author's over this body and context.
        """
        body, signature = signed[:-ED25519_BYTES], signed[-ED25519_BYTES:]
        public = self.directory[author]
        # libsodium checks no lengths: it would take the rest of either from what stands behind it
        if len(signature) != ED25519_BYTES or len(public) != _PUBLIC_BYTES:
            raise ProtocolAbort(f"the announcement of {author} has no whole signature, or its key is none")
        whole = signature + signed_bytes("ed25519", author, context, body)
        if self.known is not None and (public, whole) in self.known:
            return body
        try:
            crypto_sign_open(whole, public)
        except BadSignatureError:
            raise ProtocolAbort(f"the announcement of {author} has a wrong signature") from None
        if self.known is not None:
            self._remember(public, whole)
        return body

    def _remember(self, public: bytes, whole: bytes) -> None:
        """Keep what was found right, as long as others may ask for it."""
        assert self.known is not None
        if len(self.known) >= _KNOWN:
            self.known.clear()
        self.known.add((public, whole))


def signed_bytes(scheme: str, author: Party, context: bytes, body: bytes) -> bytes:
    """What a signature is over: each part behind its length, so that none can be taken for a part of another."""
    return _signed_head(scheme, author, context) + pack_fields(body)


@lru_cache(maxsize=_KNOWN)  # whoever signs a message and all who check it
def _signed_head(scheme: str, author: Party, context: bytes) -> bytes:
    return pack_fields("qflsec/signature/2", scheme, author, context)
