"""Key exchange between two clients, pluggable: X25519, ML-KEM-768, or both.

Every scheme works from a 32-byte root, so that a root is all that has to be shared to rebuild a private
key. One of two clients encapsulates, the other decapsulates; under X25519 the ciphertext is empty and both
compute the same from their own root.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from qflsec.base import ConfigError, ProtocolAbort

__all__ = [
    "ROOT_BYTES",
    "Agreement",
    "HybridExchange",
    "KeyExchange",
    "MlKemExchange",
    "X25519Exchange",
    "key_exchange",
]

Agreement = Literal["x25519", "ml-kem-768", "hybrid"]
ROOT_BYTES = 32
_ML_KEM_PUBLIC, _ML_KEM_CIPHERTEXT = 1184, 1088


class KeyExchange(ABC):
    """A key encapsulation whose private key follows from a root.

    Attributes:
        name: Its name in configurations.
        public_bytes: The size of a public key.
        ciphertext_bytes: The size of a ciphertext; 0 where the root and the other's public key are enough.
    """

    name: ClassVar[Agreement]
    public_bytes: ClassVar[int]
    ciphertext_bytes: ClassVar[int]

    @abstractmethod
    def public(self, root: bytes) -> bytes:
        """The public key that belongs to a root."""

    @abstractmethod
    def encapsulate(self, root: bytes, peer: bytes) -> tuple[bytes, bytes]:
        """A 256-bit secret for the holder of a public key, and its ciphertext.

        Raises:
            ProtocolAbort: The public key cannot be used.
        """

    @abstractmethod
    def decapsulate(self, root: bytes, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret that the holder of ``peer`` encapsulated for this root.

        Raises:
            ProtocolAbort: The ciphertext or the public key cannot be used.
        """


class X25519Exchange(KeyExchange):
    """Elliptic curve Diffie-Hellman: small and fast; falls to a later quantum computer.

    Source:
        Langley, Hamburg and Turner: RFC 7748 (2016), section 6.1.
    """

    name = "x25519"
    public_bytes = 32
    ciphertext_bytes = 0

    def public(self, root: bytes) -> bytes:
        """The public key that belongs to a root."""
        return X25519PrivateKey.from_private_bytes(root).public_key().public_bytes_raw()

    def encapsulate(self, root: bytes, peer: bytes) -> tuple[bytes, bytes]:
        """The common secret, and nothing to send."""
        return self.decapsulate(root, peer, b""), b""

    def decapsulate(self, root: bytes, peer: bytes, ciphertext: bytes) -> bytes:
        """The common secret.

        Raises:
            ProtocolAbort: The public key cannot be used.
        """
        private = X25519PrivateKey.from_private_bytes(root)
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(peer))
        except ValueError as error:
            raise ProtocolAbort("a public key cannot be used", got=error) from None
        both = sorted((private.public_key().public_bytes_raw(), peer))
        salt = hashlib.sha256(b"".join(both)).digest()
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"qflsec/exchange/x25519").derive(shared)


class MlKemExchange(KeyExchange):
    """Lattice-based key encapsulation: large and fast; no quantum attack is known.

    Source:
        NIST FIPS 203 (2024), section 7.
    """

    name = "ml-kem-768"
    public_bytes = _ML_KEM_PUBLIC
    ciphertext_bytes = _ML_KEM_CIPHERTEXT

    def public(self, root: bytes) -> bytes:
        """The public key that belongs to a root."""
        return self._private(root).public_key().public_bytes_raw()

    def encapsulate(self, root: bytes, peer: bytes) -> tuple[bytes, bytes]:
        """A fresh secret and its ciphertext.

        Raises:
            ProtocolAbort: The public key cannot be used.
        """
        try:
            return MLKEM768PublicKey.from_public_bytes(peer).encapsulate()
        except ValueError as error:
            raise ProtocolAbort("a public key cannot be used", got=error) from None

    def decapsulate(self, root: bytes, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext; an altered one gives an unrelated secret.

        Raises:
            ProtocolAbort: The ciphertext has the wrong length.
        """
        try:
            return self._private(root).decapsulate(ciphertext)
        except ValueError as error:
            raise ProtocolAbort("a ciphertext cannot be used", got=error) from None

    @staticmethod
    def _private(root: bytes) -> MLKEM768PrivateKey:
        long = HKDFExpand(algorithm=SHA256(), length=64, info=b"qflsec/exchange/ml-kem-768").derive(root)
        return MLKEM768PrivateKey.from_seed_bytes(long)


class HybridExchange(KeyExchange):
    """X25519 and ML-KEM-768 together: the secret holds while one of the two does.

    Source:
        Barbosa et al.: X-Wing, eprint 2024/039, section 3 (ciphertext and public keys enter the derivation).
    """

    name = "hybrid"
    public_bytes = 32 + _ML_KEM_PUBLIC
    ciphertext_bytes = _ML_KEM_CIPHERTEXT

    def __init__(self) -> None:
        self._one, self._two = X25519Exchange(), MlKemExchange()

    def public(self, root: bytes) -> bytes:
        """Both public keys."""
        return self._one.public(self._first(root)) + self._two.public(root)

    def encapsulate(self, root: bytes, peer: bytes) -> tuple[bytes, bytes]:
        """A fresh secret and its ciphertext.

        Raises:
            ProtocolAbort: A public key cannot be used.
        """
        classical, _ = self._one.encapsulate(self._first(root), peer[:32])
        lattice, ciphertext = self._two.encapsulate(root, peer[32:])
        return self._combine(classical, lattice, ciphertext, peer), ciphertext

    def decapsulate(self, root: bytes, peer: bytes, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext.

        Raises:
            ProtocolAbort: The ciphertext or a public key cannot be used.
        """
        classical = self._one.decapsulate(self._first(root), peer[:32], b"")
        lattice = self._two.decapsulate(root, peer[32:], ciphertext)
        return self._combine(classical, lattice, ciphertext, self.public(root))

    @staticmethod
    def _first(root: bytes) -> bytes:
        return HKDFExpand(algorithm=SHA256(), length=32, info=b"qflsec/exchange/hybrid/x25519").derive(root)

    @staticmethod
    def _combine(classical: bytes, lattice: bytes, ciphertext: bytes, receiver: bytes) -> bytes:
        said = hashlib.sha256(ciphertext + receiver).digest()
        info = b"qflsec/exchange/hybrid"
        return HKDF(algorithm=SHA256(), length=32, salt=said, info=info).derive(lattice + classical)


def key_exchange(name: str) -> KeyExchange:
    """The key exchange of this name.

    Raises:
        ConfigError: There is none.
    """
    for kind in (X25519Exchange, MlKemExchange, HybridExchange):
        if kind.name == name:
            return kind()
    raise ConfigError("unknown key agreement", got=repr(name), expected="'x25519', 'ml-kem-768' or 'hybrid'")
