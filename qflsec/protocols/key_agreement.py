"""Key agreement: signed public keys, one secret for each pair, and keys for each use of it.

The exchange is pluggable: X25519, ML-KEM-768, or both. Every scheme works from a 32-byte root, so that a root is all
that has to be shared to rebuild a private key. One of two parties encapsulates, the other decapsulates; under X25519
the ciphertext is empty and both compute the same from their own root. X25519 gives no protection against an adversary
who records today and has a large quantum computer later.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Hashable
from functools import lru_cache
from typing import ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.base.framing import pack_fields
from qflsec.federation import Identity
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Party

__all__ = [
    "KEY_BYTES",
    "ROOT_BYTES",
    "Agreement",
    "HybridExchange",
    "KeyAgreement",
    "KeyExchange",
    "KeyPair",
    "MlKemExchange",
    "X25519Exchange",
    "expand_key",
    "in_order",
    "key_exchange",
]

Agreement = Literal["x25519", "ml-kem-768", "hybrid"]
KEY_BYTES = ROOT_BYTES = 32
_ML_KEM_PUBLIC, _ML_KEM_CIPHERTEXT = 1184, 1088
_X25519_PRIME = 2**255 - 19
_KNOWN = 4096
"""So many public keys are remembered as what they are read as: every party of a simulated round reads all of them."""


class KeyPair(ABC):
    """A private key, made from a root, with its public key."""

    public: bytes

    @abstractmethod
    def encapsulate(self, peer: bytes) -> tuple[bytes, bytes]:
        """A 256-bit secret for the holder of a public key, and its ciphertext.

        Raises:
            ProtocolAbort: The public key cannot be used.
        """

    @abstractmethod
    def decapsulate(self, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret that the holder of ``peer`` encapsulated for this key.

        Raises:
            ProtocolAbort: The ciphertext or the public key cannot be used.
        """


class KeyExchange(ABC):
    """A key encapsulation whose private key follows from a root.

    Attributes:
        name: Its name in configurations.
        public_bytes: The size of a public key.
        ciphertext_bytes: The size of a ciphertext; 0 where both compute the secret from their own private key and
            the other's public key. Such a secret is known to these two alone, so that what is sealed under it
            needs no signature; a ciphertext could come from anybody.
    """

    name: ClassVar[Agreement]
    public_bytes: ClassVar[int]
    ciphertext_bytes: ClassVar[int]

    @abstractmethod
    def pair(self, root: bytes) -> KeyPair:
        """The key pair that belongs to a root."""

    def check(self, public: bytes) -> None:
        """Refuse what is no public key, as far as that shows without a private one.

        Raises:
            ProtocolAbort: It cannot be used.
        """
        if len(public) != self.public_bytes:
            raise ProtocolAbort("a public key cannot be used", got=f"{len(public)} bytes")

    def canonical(self, public: bytes) -> tuple[bytes, ...]:
        """The parts of a public key, each in its one form: two keys with a part in common are one key in two guises."""
        return (public,)


class _X25519Pair(KeyPair):
    def __init__(self, root: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(root)
        self.public = self._private.public_key().public_bytes_raw()

    def encapsulate(self, peer: bytes) -> tuple[bytes, bytes]:
        """The common secret, and nothing to send."""
        return self.decapsulate(peer, b""), b""

    def decapsulate(self, peer: bytes, ciphertext: bytes) -> bytes:
        """The common secret."""
        try:
            shared = self._private.exchange(_x25519_public(peer))
        except ValueError as error:
            raise ProtocolAbort("a public key cannot be used", got=error) from None
        salt = hashlib.sha256(b"".join(sorted((self.public, peer)))).digest()
        # HKDF with SHA-256 for one block (RFC 5869), in a third of the time of its general form
        extracted = hmac.digest(salt, shared, "sha256")
        return hmac.digest(extracted, b"qflsec/exchange/x25519\x01", "sha256")


@lru_cache(maxsize=_KNOWN)
def _x25519_public(public: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(public)


@lru_cache(maxsize=_KNOWN)
def _x25519_coordinate(public: bytes) -> bytes:
    return (int.from_bytes(public, "little") % 2**255 % _X25519_PRIME).to_bytes(32, "little")


class X25519Exchange(KeyExchange):
    """Elliptic curve Diffie-Hellman: small and fast; falls to a later quantum computer.

    Source:
        Langley, Hamburg and Turner: RFC 7748 (2016), section 6.1.
    """

    name = "x25519"
    public_bytes = 32
    ciphertext_bytes = 0

    def canonical(self, public: bytes) -> tuple[bytes, ...]:
        """The coordinate as it is computed with: without the highest bit, and below the prime.

        Up to three more encodings of a key give the same secrets (RFC 7748, section 5). Points that differ by one of
        small order give the same products too; the secrets made from those differ, since both keys enter them as they
        were sent.
        """
        return (_x25519_coordinate(public),)

    def pair(self, root: bytes) -> KeyPair:
        """The key pair that belongs to a root."""
        return _X25519Pair(root)


class _MlKemPair(KeyPair):
    def __init__(self, root: bytes) -> None:
        long = HKDFExpand(algorithm=SHA256(), length=64, info=b"qflsec/exchange/ml-kem-768").derive(root)
        self._private = MLKEM768PrivateKey.from_seed_bytes(long)
        self.public = self._private.public_key().public_bytes_raw()

    def encapsulate(self, peer: bytes) -> tuple[bytes, bytes]:
        """A fresh secret and its ciphertext."""
        return _ml_kem_key(peer).encapsulate()

    def decapsulate(self, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext; an altered one gives an unrelated secret."""
        try:
            return self._private.decapsulate(ciphertext)
        except ValueError as error:
            raise ProtocolAbort("a ciphertext cannot be used", got=error) from None


def _ml_kem_key(public: bytes) -> MLKEM768PublicKey:
    try:
        return MLKEM768PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise ProtocolAbort("a public key cannot be used", got=error) from None


class MlKemExchange(KeyExchange):
    """Lattice-based key encapsulation: large and fast; no quantum attack is known.

    Source:
        NIST FIPS 203 (2024), section 7.
    """

    name = "ml-kem-768"
    public_bytes = _ML_KEM_PUBLIC
    ciphertext_bytes = _ML_KEM_CIPHERTEXT

    def pair(self, root: bytes) -> KeyPair:
        """The key pair that belongs to a root."""
        return _MlKemPair(root)

    def check(self, public: bytes) -> None:
        """Refuse what is no encapsulation key."""
        _ml_kem_key(public)


class _HybridPair(KeyPair):
    def __init__(self, root: bytes) -> None:
        first = HKDFExpand(algorithm=SHA256(), length=32, info=b"qflsec/exchange/hybrid/x25519").derive(root)
        self._one, self._two = _X25519Pair(first), _MlKemPair(root)
        self.public = self._one.public + self._two.public

    def encapsulate(self, peer: bytes) -> tuple[bytes, bytes]:
        """A fresh secret and its ciphertext."""
        classical, _ = self._one.encapsulate(peer[:32])
        lattice, ciphertext = self._two.encapsulate(peer[32:])
        return _combine(classical, lattice, ciphertext, peer), ciphertext

    def decapsulate(self, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext."""
        classical = self._one.decapsulate(peer[:32], b"")
        lattice = self._two.decapsulate(peer[32:], ciphertext)
        return _combine(classical, lattice, ciphertext, self.public)


def _combine(classical: bytes, lattice: bytes, ciphertext: bytes, receiver: bytes) -> bytes:
    said = hashlib.sha256(ciphertext + receiver).digest()
    kdf = HKDF(algorithm=SHA256(), length=32, salt=said, info=b"qflsec/exchange/hybrid")
    return kdf.derive(lattice + classical)


class HybridExchange(KeyExchange):
    """X25519 and ML-KEM-768 together: the secret holds while one of the two does.

    Source:
        Barbosa et al.: X-Wing, eprint 2024/039, section 3 (ciphertext and public keys enter the derivation).
    """

    name = "hybrid"
    public_bytes = 32 + _ML_KEM_PUBLIC
    ciphertext_bytes = _ML_KEM_CIPHERTEXT

    def canonical(self, public: bytes) -> tuple[bytes, ...]:
        """Both halves: either alone may carry the secret one day."""
        return (*X25519Exchange().canonical(public[:32]), public[32:])

    def pair(self, root: bytes) -> KeyPair:
        """The key pair that belongs to a root."""
        return _HybridPair(root)


def key_exchange(name: str) -> KeyExchange:
    """The key exchange of this name.

    Raises:
        ConfigError: There is none.
    """
    for kind in (X25519Exchange, MlKemExchange, HybridExchange):
        if kind.name == name:
            return kind()
    raise ConfigError("unknown key agreement", got=repr(name), expected="'x25519', 'ml-kem-768' or 'hybrid'")


def in_order(one: Party, other: Party) -> tuple[Party, Party]:
    """The two parties, the lower first: both ends name a pair alike."""
    return (one, other) if one < other else (other, one)


def expand_key(secret: bytes, *fields: Hashable) -> bytes:
    """A 256-bit key for one use.

    Each field enters with its length, so that no two uses share a key. This is HKDF-Expand for one block.

    Source:
        Krawczyk and Eronen: RFC 5869 (2010), section 2.3.

    Args:
        secret: A secret key.
        fields: What the key is for: protocol, session, round, lower party, higher party, purpose.
    """
    return hmac.digest(secret, _purpose(*fields), "sha256")


# both ends of a pair name the same purpose; typed, as 1 and True have names of their own
@lru_cache(maxsize=_KNOWN, typed=True)
def _purpose(*fields: Hashable) -> bytes:
    return pack_fields(*fields) + b"\x01"


class KeyAgreement(Staged):
    """One party's half of the key agreements of a session.

    Args:
        protocol: What the keys are for, with its version.
        session: The public name of the session.
        identity: The party's signature key, and the others' public keys.
        secrets: The party's own source of secrets.
        exchange: The key exchange; X25519 by default.
    """

    def __init__(
        self,
        *,
        protocol: str,
        session: bytes,
        identity: Identity,
        secrets: Secrets,
        exchange: KeyExchange | None = None,
    ) -> None:
        self.party, self._context = identity.party, (protocol, session)
        self._identity, self._exchange = identity, exchange or X25519Exchange()
        self._pair = self._exchange.pair(secrets.draw(ROOT_BYTES))
        self._publics: dict[Party, bytes] = {}

    @stage()
    def announce(self) -> bytes:
        """This party's fresh public key, signed."""
        return self._identity.sign(self._pair.public, pack_fields(*self._context, "public key"))

    @stage(each="author")
    def hear(self, author: Party, announcement: bytes) -> None:
        """Keep another party's public key.

        Raises:
            ProtocolAbort: The announcement is not authentic, is a second one, or carries no usable key.
        """
        if author == self.party or author not in self._identity.directory:
            raise ProtocolAbort(f"{self.party} heard an announcement of {author}, who is no peer")
        context = pack_fields(*self._context, "public key")
        public = self._identity.verify(author, announcement, context)
        self._exchange.check(public)
        self._publics[author] = public

    def agree(self, author: Party, announcement: bytes) -> bytes:
        """The 256-bit secret shared with the author of an announcement, where nothing has to be sent for it.

        Raises:
            ProtocolAbort: The announcement is not authentic, is a second one, or carries no usable key.
        """
        self.hear(author, announcement)
        return expand_key(
            self.decapsulate(author, b""), *self._context, *in_order(self.party, author), "pair"
        )

    def encapsulate(self, peer: Party) -> tuple[bytes, bytes]:
        """A 256-bit secret for a peer whose key was heard, and what tells it the secret."""
        return self._pair.encapsulate(self._publics[peer])

    def decapsulate(self, peer: Party, ciphertext: bytes) -> bytes:
        """The secret that a peer encapsulated for this party.

        Raises:
            ProtocolAbort: The ciphertext or the peer's key cannot be used.
        """
        return self._pair.decapsulate(self._publics[peer], ciphertext)
