"""Identities: signed announcements, so that a key can be traced to the party that made it.

Every party has an Ed25519 signature key, and every party knows the others' public keys beforehand (a
public-key infrastructure is assumed). Set-up messages that carry fresh public keys are signed with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from qflsec.base import ProtocolAbort, Secrets
from qflsec.threat import Party

__all__ = ["Identity"]

_SIGNATURE_BYTES = 64


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One party's signature key, and the directory of everybody's public keys."""

    party: Party
    directory: Mapping[Party, bytes]
    _key: Ed25519PrivateKey = field(repr=False)

    @staticmethod
    def of_all(parties: tuple[Party, ...], secrets: Mapping[Party, Secrets]) -> dict[Party, Identity]:
        """One identity for each party, with a common directory."""
        keys = {p: Ed25519PrivateKey.from_private_bytes(secrets[p].draw(32)) for p in parties}
        directory = {p: k.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw) for p, k in keys.items()}
        return {p: Identity(party=p, directory=directory, _key=k) for p, k in keys.items()}

    def sign(self, body: bytes, context: bytes) -> bytes:
        """``body`` followed by a signature over it, its author and ``context``."""
        return body + self._key.sign(_bound(self.party, body, context))

    def verify(self, author: Party, signed: bytes, context: bytes) -> bytes:
        """The body of a signed message.

        Raises:
            ProtocolAbort: The signature is not the author's over this body and context.
        """
        body, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.directory[author]).verify(
                signature, _bound(author, body, context)
            )
        except InvalidSignature:
            raise ProtocolAbort(f"the announcement of {author} has a wrong signature") from None
        return body


def _bound(author: Party, body: bytes, context: bytes) -> bytes:
    return b"qflsec/announcement\x00" + str(author).encode() + b"\x00" + context + b"\x00" + body
