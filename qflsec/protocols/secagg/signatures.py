"""Signatures of protocol messages: Ed25519 through the party's identity, or ML-DSA-65."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation.identity import ED25519_BYTES, signed_bytes
from qflsec.threat import Party

__all__ = ["SIGNATURE_BYTES", "MlDsaIdentity", "SignatureScheme", "Signer", "check_digest", "sign_digest"]

SignatureScheme = Literal["ed25519", "ml-dsa-65"]
SIGNATURE_BYTES: Mapping[SignatureScheme, int] = {"ed25519": ED25519_BYTES, "ml-dsa-65": 3309}


class Signer(Protocol):
    """One party's signature key, and the directory of everybody's public keys."""

    @property
    def party(self) -> Party:
        """Who signs."""

    @property
    def directory(self) -> Mapping[Party, bytes]:
        """Everybody's public keys."""

    def sign(self, body: bytes, context: bytes) -> bytes:
        """``body`` followed by a signature over it, its author and ``context``."""

    def verify(self, author: Party, signed: bytes, context: bytes) -> bytes:
        """The body of a signed message.

        Raises:
            ProtocolAbort: The signature is not the author's over this body and context.
        """


@dataclass(frozen=True, kw_only=True)
class MlDsaIdentity:
    """A party's ML-DSA-65 key: signatures that no known quantum attack forges.

    Source:
        NIST FIPS 204 (2024), section 5.

    Attributes:
        party: Who signs.
        directory: Everybody's public keys.
    """

    party: Party
    directory: Mapping[Party, bytes]
    _key: MLDSA65PrivateKey = field(repr=False)

    @staticmethod
    def new_key(secrets: Secrets) -> MLDSA65PrivateKey:
        """A fresh private key."""
        return MLDSA65PrivateKey.from_seed_bytes(secrets.draw(32))

    def sign(self, body: bytes, context: bytes) -> bytes:
        """``body`` followed by a signature over it, its author and ``context``."""
        return body + self._key.sign(signed_bytes("ml-dsa-65", self.party, context, body))

    def verify(self, author: Party, signed: bytes, context: bytes) -> bytes:
        """The body of a signed message.

        Raises:
            ProtocolAbort: The signature is not the author's over this body and context.
        """
        size = SIGNATURE_BYTES["ml-dsa-65"]
        body, signature = signed[:-size], signed[-size:]
        try:
            public = MLDSA65PublicKey.from_public_bytes(self.directory[author])
            public.verify(signature, signed_bytes("ml-dsa-65", author, context, body))
        except (InvalidSignature, ValueError):
            raise ProtocolAbort(f"a message of {author} has a wrong signature") from None
        return body


def sign_digest(signer: Signer, context: bytes, *parts: bytes | memoryview) -> bytes:
    """A signature over the hash of what these parts make together."""
    digest = _digest(parts)
    return signer.sign(digest, context)[len(digest) :]


def check_digest(
    signer: Signer, author: Party, context: bytes, signature: bytes, *parts: bytes | memoryview
) -> None:
    """Check what :func:`sign_digest` made.

    Raises:
        ProtocolAbort: It is not the author's signature over these parts and this context.
    """
    signer.verify(author, _digest(parts) + signature, context)


def _digest(parts: tuple[bytes | memoryview, ...]) -> bytes:
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.digest()
