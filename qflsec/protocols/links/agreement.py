"""Key agreement: a fresh X25519 key of each party, signed, and one secret for each pair.

X25519 gives no protection against an adversary who records today and has a large quantum computer later.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation import Identity
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Party

__all__ = ["KEY_BYTES", "KeyAgreement", "expand_key", "in_order"]

KEY_BYTES = 32


def in_order(one: Party, other: Party) -> tuple[Party, Party]:
    """The two parties, the lower first: both ends name a pair alike."""
    return (one, other) if one < other else (other, one)


def expand_key(secret: bytes, *fields: bytes | str | int) -> bytes:
    """A 256-bit key for one use.

    Each field enters with its length, so that no two uses share a key. This is HKDF-Expand for one block.

    Source:
        Krawczyk and Eronen: RFC 5869 (2010), section 2.3.

    Args:
        secret: A secret key.
        fields: What the key is for: protocol, session, round, lower party, higher party, purpose.
    """
    return hmac.digest(secret, _pack(*fields) + b"\x01", "sha256")


class KeyAgreement(Staged):
    """One party's half of the key agreements of a session.

    Args:
        protocol: What the keys are for, with its version.
        session: The public name of the session.
        identity: The party's signature key, and the others' public keys.
        secrets: The party's own source of secrets.
    """

    def __init__(self, *, protocol: str, session: bytes, identity: Identity, secrets: Secrets) -> None:
        self.party, self._context = identity.party, _pack(protocol, session)
        self._identity = identity
        self._private = X25519PrivateKey.from_private_bytes(secrets.draw(KEY_BYTES))
        self._public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @stage()
    def announce(self) -> bytes:
        """This party's fresh public key, signed."""
        return self._identity.sign(self._public, self._context)

    @stage(each="author")
    def agree(self, author: Party, announcement: bytes) -> bytes:
        """The 256-bit secret shared with the author of an announcement.

        Raises:
            ProtocolAbort: The announcement is not authentic, is a second one, or carries no usable key.
        """
        if author == self.party or author not in self._identity.directory:
            raise ProtocolAbort(f"{self.party} heard an announcement of {author}, who is no peer")
        public = self._identity.verify(author, announcement, self._context)
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError as error:
            raise ProtocolAbort(f"{author} announced a key that cannot be used", got=error) from None
        lower, higher = in_order(self.party, author)
        keys = (self._public, public) if lower == self.party else (public, self._public)
        salt = hashlib.sha256(_pack(*keys)).digest()
        info = self._context + _pack(str(lower), str(higher), "pair")
        return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(shared)


def _pack(*fields: bytes | str | int) -> bytes:
    parts: list[bytes] = []
    for field in fields:
        raw = field if isinstance(field, bytes) else str(field).encode()
        parts += (len(raw).to_bytes(4, "little"), raw)
    return b"".join(parts)
