"""How two clients come to a seed for their common masks, and what is shared in case one of them drops out.

============  ======================  ==============  ===============================================
agreement     each client advertises  a parcel has    what is shared among the clients
============  ======================  ==============  ===============================================
``x25519``    two public keys         nothing         the private key of its masks, which gives all seeds
``ml-kem-768``  one public key        a ciphertext    the seeds that it chose: those with higher clients
``hybrid``    one public key          a ciphertext    the seeds that it chose
``bb84``      nothing                 a key's name    the seeds that it chose
============  ======================  ==============  ===============================================

Where a seed is chosen, the lower client of a pair chooses it, and shares of it among all clients open it if
either of the two drops out. Everything is fresh in every round and derived for it, so that what is opened in
one round opens nothing in another.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from qflsec.base import ConfigError, ProtocolAbort, Secrets
from qflsec.protocols.key_agreement import ROOT_BYTES, KeyExchange, KeyPair, key_exchange
from qflsec.protocols.keystore import KeyProvider
from qflsec.threat import Party

__all__ = ["PRIVATE_KEY", "QKD_KEY_BITS", "PairAgreement", "Pairing", "Scheme", "pair_seed", "scheme"]

PairAgreement = Literal["x25519", "ml-kem-768", "hybrid", "bb84"]
PRIVATE_KEY = 0xFFFF
"""The label of a private key among a client's secrets; other labels are indices of clients."""
QKD_KEY_BITS = 256
"""What one direction of one pair of clients takes in a round."""
_KEY_ID_BYTES = 16


class Pairing(ABC):
    """One client's key material of one round.

    Attributes:
        masks: The key pair of its masks; None where seeds are chosen.
        channel: The public key of its channels; empty where none is needed.
        root: What rebuilds the private key of its masks; empty where seeds are chosen.
    """

    masks: KeyPair | None = None
    channel: bytes = b""
    root: bytes = b""

    @property
    def mask(self) -> bytes:
        """The public key of its masks; empty where seeds are chosen."""
        return b"" if self.masks is None else self.masks.public

    @abstractmethod
    def send(self, peer: Party, public: bytes) -> tuple[bytes, bytes]:
        """A secret for what this client sends to ``peer``, and what tells it the secret.

        Raises:
            ProtocolAbort: There is no key for it.
        """

    @abstractmethod
    def receive(self, peer: Party, public: bytes, token: bytes) -> bytes:
        """The secret of what ``peer`` sent.

        Raises:
            ProtocolAbort: The token or the public key cannot be used.
        """


def pair_seed(masks: KeyPair, public: bytes) -> bytes:
    """The seed of two clients' common mask, by the key pair of one and the public key of the other: both get the same.

    Raises:
        ProtocolAbort: The public key cannot be used.
    """
    return masks.decapsulate(public, b"")


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A key agreement, as everybody knows it.

    Attributes:
        name: Its name in configurations.
        exchange: The key exchange; None where keys come from quantum links.
    """

    name: PairAgreement
    exchange: KeyExchange | None

    @property
    def shares_private_key(self) -> bool:
        """Whether a private key is shared, and not seeds."""
        return self.exchange is not None and not self.exchange.ciphertext_bytes

    @property
    def mask_bytes(self) -> int:
        """The size of a public key of masks."""
        return self.channel_bytes if self.shares_private_key else 0

    @property
    def channel_bytes(self) -> int:
        """The size of a public key of channels."""
        return 0 if self.exchange is None else self.exchange.public_bytes

    @property
    def token_bytes(self) -> int:
        """What a parcel carries so that its receiver finds the secret: a ciphertext, or a key's name."""
        return _KEY_ID_BYTES if self.exchange is None else self.exchange.ciphertext_bytes

    @property
    def signs_parcels(self) -> bool:
        """Whether parcels are signed: a ciphertext could come from anybody, the other secrets belong to a pair."""
        return self.exchange is not None and self.exchange.ciphertext_bytes > 0

    def canonical(self, public: bytes) -> tuple[bytes, ...]:
        """What of a public key tells it from others, however it is written; nothing where there is no key."""
        return () if self.exchange is None or not public else self.exchange.canonical(public)

    def labels(self, owner: int, roster: Iterable[int]) -> tuple[int, ...]:
        """The secrets of a client, in the order in which it shares them: its own mask's, then those of its pairs."""
        if self.shares_private_key:
            return owner, PRIVATE_KEY
        return owner, *sorted(other for other in roster if other > owner)

    def wanted(self, sharers: Iterable[int], survivors: Iterable[int]) -> tuple[tuple[int, int], ...]:
        """The secrets that a round needs, each as its owner and its label: never both kinds of one mask.

        A survivor's own mask, and the masks of survivors with those who dropped out.
        """
        alive, everybody = set(survivors), sorted(sharers)
        own = [(index, index) for index in everybody if index in alive]
        if self.shares_private_key:
            return (*own, *((index, PRIVATE_KEY) for index in everybody if index not in alive))
        pairs = [(one, two) for one in everybody for two in everybody if one < two]
        return (*own, *(pair for pair in pairs if (pair[0] in alive) != (pair[1] in alive)))

    def start(self, secrets: Secrets, links: KeyProvider | None = None) -> Pairing:
        """A client's fresh key material.

        Args:
            secrets: The client's own source.
            links: Its end of the quantum links with the other clients.

        Raises:
            ConfigError: The links are missing, or a third party holds their keys.
        """
        if self.exchange is None:
            return _QuantumPairing(links)
        if self.shares_private_key:
            return _AgreedPairing(self.exchange, secrets)
        return _SentPairing(self.exchange, secrets)

    def rebuilt(self, root: bytes) -> KeyPair:
        """The key pair of masks that a shared private key gives."""
        assert self.exchange is not None
        return self.exchange.pair(root)


def scheme(name: str) -> Scheme:
    """The key agreement of this name.

    Raises:
        ConfigError: There is none.
    """
    if name == "bb84":
        return Scheme(name="bb84", exchange=None)
    try:
        exchange = key_exchange(name)
    except ConfigError:
        raise ConfigError(
            "unknown key agreement", got=repr(name), expected="'x25519', 'ml-kem-768', 'hybrid' or 'bb84'"
        ) from None
    return Scheme(name=exchange.name, exchange=exchange)


class _AgreedPairing(Pairing):
    """Both compute the same from their own private key; masks and channels have keys of their own."""

    def __init__(self, exchange: KeyExchange, secrets: Secrets) -> None:
        self.root = secrets.draw(ROOT_BYTES)
        self.masks = exchange.pair(self.root)
        self._channels = exchange.pair(secrets.draw(ROOT_BYTES))
        self.channel = self._channels.public
        self._known: dict[bytes, bytes] = {}

    def send(self, peer: Party, public: bytes) -> tuple[bytes, bytes]:
        self._known[public] = self._channels.decapsulate(public, b"")
        return self._known[public], b""

    def receive(self, peer: Party, public: bytes, token: bytes) -> bytes:
        return self._known[public]


class _SentPairing(Pairing):
    """Each direction has a secret that its sender encapsulates."""

    def __init__(self, exchange: KeyExchange, secrets: Secrets) -> None:
        self._pair = exchange.pair(secrets.draw(ROOT_BYTES))
        self.channel = self._pair.public

    def send(self, peer: Party, public: bytes) -> tuple[bytes, bytes]:
        return self._pair.encapsulate(public)

    def receive(self, peer: Party, public: bytes, token: bytes) -> bytes:
        return self._pair.decapsulate(public, token)


class _QuantumPairing(Pairing):
    """Each direction takes one key of the quantum link between its two clients; its name travels openly."""

    def __init__(self, links: KeyProvider | None) -> None:
        if links is None:
            raise ConfigError(
                "'bb84' agreement needs quantum links between the clients",
                expected="a KeyProvider: this client's end of its links with the other clients",
            )
        if links.relays:
            raise ConfigError(
                "'bb84' agreement refuses keys that a third party relays: it could take the masks off",
                got=f"keys that pass through {', '.join(sorted(map(str, links.relays)))}",
                expected="keys of direct links between clients",
                fix="use agreement='hybrid' where clients have no quantum links with each other",
            )
        self._links = links

    def send(self, peer: Party, public: bytes) -> tuple[bytes, bytes]:
        if peer.role != "client":
            raise ProtocolAbort(
                f"a key that is shared with {peer} cannot mask anything from it",
                expected="a link between two clients",
            )
        keys = self._links.draw(peer, QKD_KEY_BITS)
        if len(keys) != 1 or keys[0].bits != QKD_KEY_BITS:
            raise ConfigError(
                "'bb84' agreement takes one key of a link at a time",
                got=f"{len(keys)} keys of {keys[0].bits} bits",
                expected=f"keys of {QKD_KEY_BITS} bits",
            )
        return keys[0].material, keys[0].key_id.bytes

    def receive(self, peer: Party, public: bytes, token: bytes) -> bytes:
        (key,) = self._links.fetch(peer, [UUID(bytes=token)])
        if key.bits != QKD_KEY_BITS:
            raise ProtocolAbort(f"{peer} named a key of the wrong length", got=f"{key.bits} bits")
        return key.material
