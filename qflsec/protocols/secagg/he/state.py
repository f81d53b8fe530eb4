"""Who holds which part of a homomorphic key, and how the clients come to share it without the server.

The first client makes the key pair and sends the secret half to each other client, sealed for that client
alone and signed; the server relays it, and gets a context that can add and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qflsec.base import ProtocolAbort, Secrets
from qflsec.base.framing import cut, pack_fields
from qflsec.federation import Identity, PartyState, Setup
from qflsec.protocols.key_agreement import KeyAgreement, KeyExchange, expand_key
from qflsec.protocols.secagg.he.envelope import KEY_ID_BYTES, open_envelope, seal_envelope
from qflsec.protocols.secagg.rounds.records import open_box, seal_box
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import SERVER, Party

__all__ = [
    "KEY_NAME",
    "Handle",
    "HeClient",
    "HeServer",
    "load_context",
    "public_part",
    "refused",
    "secret_part",
]

Handle = Any
"""An object of TenSEAL, which has no type hints."""
KEY_NAME = "he:key"
_SETUP_ROUND = 0


def secret_part(context: Handle) -> bytes:
    """A context with its secret key, for clients."""
    return bytes(
        context.serialize(
            save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
    )


def public_part(context: Handle) -> bytes:
    """The parameters alone, for the server: it adds, and neither encrypts nor decrypts."""
    return bytes(
        context.serialize(
            save_public_key=False, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
        )
    )


@contextmanager
def refused(what: str) -> Iterator[None]:
    """What the library refuses of keys and ciphertexts that others made ends the protocol, not the program.

    Args:
        what: What cannot be done then.

    Raises:
        ProtocolAbort: The library refused.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        raise ProtocolAbort(what, got=error) from None


def load_context(blob: bytes) -> Handle:
    """A context from bytes.

    Raises:
        ProtocolAbort: The bytes are no context.
    """
    import tenseal

    with refused("a homomorphic context cannot be read"):
        return tenseal.context_from(blob)


class _State(PartyState, Staged):
    """What clients and server have in common."""

    def __init__(self, setup: Setup, identity: Identity, protocol: str) -> None:
        self.setup, self.identity = setup, identity
        self.party = identity.party
        self.leader = setup.clients[0]
        self.key_id = b""
        self.context: Handle = None
        self._protocol = protocol

    def bound(self, *what: str) -> bytes:
        """What signatures are bound to besides key, round and author."""
        return pack_fields(self._protocol, self.setup.session, *what)

    def require_key(self) -> None:
        """Refuse to go on without a key.

        Raises:
            ProtocolAbort: There is none.
        """
        if not self.key_id:
            raise ProtocolAbort(f"{self.party} has no part of the homomorphic key")

    def key_names(self) -> frozenset[str]:
        """The secret key, for clients."""
        return frozenset() if self.party == SERVER else frozenset({KEY_NAME})


class HeServer(_State):
    """The server: parameters to add with, and no key.

    Attributes:
        released: Sums that clients released to it, by round.
    """

    def __init__(self, setup: Setup, identity: Identity, protocol: str) -> None:
        super().__init__(setup, identity, protocol)
        self.released: dict[int, bytes] = {}

    @stage(name="key")
    def take(self, message: bytes) -> dict[Party, bytes]:
        """The first client's message: parameters to keep, and sealed keys to hand on.

        Raises:
            ProtocolAbort: It is not authentic.
        """
        context = self.bound("parameters")
        blobs = open_envelope(
            self.identity,
            self.leader,
            message,
            context=context,
            key_id=message[:KEY_ID_BYTES],
            round_index=_SETUP_ROUND,
        )
        others = [party for party in self.setup.clients if party != self.leader]
        if len(blobs) != 1 + len(others):
            raise ProtocolAbort(f"{self.leader} sent keys for other clients than those of the session")
        self.context, self.key_id = load_context(blobs[0]), message[:KEY_ID_BYTES]
        if self.context.has_secret_key():
            raise ProtocolAbort("the server was sent the secret key", fix="do not use this key")
        return dict(zip(others, blobs[1:], strict=True))


class HeClient(_State):
    """A client: its own root for key exchange, and the shared secret key once it has it."""

    def __init__(
        self, setup: Setup, identity: Identity, secrets: Secrets, protocol: str, exchange: KeyExchange
    ) -> None:
        super().__init__(setup, identity, protocol)
        self.secrets = secrets
        self._exchange = exchange
        self.agreement = KeyAgreement(
            protocol=protocol, session=setup.session, identity=identity, secrets=secrets, exchange=exchange
        )

    @stage()
    def announce(self) -> bytes:
        """A fresh public key, signed."""
        return self.agreement.announce()

    @stage(each="author")
    def learn(self, author: Party, announcement: bytes) -> None:
        """Keep another client's public key.

        Raises:
            ProtocolAbort: The announcement is not authentic, or a second one.
        """
        if author in self.setup.clients:
            self.agreement.hear(author, announcement)

    @stage("learn", name="key")
    def make(self, context: Handle) -> bytes:
        """Take a fresh key pair, and seal its secret half for each other client.

        Args:
            context: A fresh TenSEAL context with its secret key.

        Raises:
            ProtocolAbort: Another client makes the key.
        """
        if self.party != self.leader:
            raise ProtocolAbort(f"{self.party} makes no key: {self.leader} does")
        self._require("learn", {*self.setup.clients, self.setup.server} - {self.party})
        shared = secret_part(context)
        self.context, self.key_id = context, key_id_of(shared)
        blobs = [public_part(context)]
        for peer in (party for party in self.setup.clients if party != self.party):
            secret, ciphertext = self.agreement.encapsulate(peer)
            key = expand_key(secret, self._protocol, self.setup.session, str(peer), "secret key")
            box = seal_box(key, shared, self.key_id)
            blobs.append(
                seal_envelope(
                    self.identity,
                    context=self.bound("secret key", str(peer)),
                    key_id=self.key_id,
                    round_index=_SETUP_ROUND,
                    chunks=[ciphertext + box],
                )
            )
        return seal_envelope(
            self.identity,
            context=self.bound("parameters"),
            key_id=self.key_id,
            round_index=_SETUP_ROUND,
            chunks=blobs,
        )

    @stage("learn", name="key")
    def take(self, message: bytes) -> None:
        """Open what the first client sealed for this one.

        Raises:
            ProtocolAbort: It is not authentic, or the second.
        """
        self._require("learn", {*self.setup.clients, self.setup.server} - {self.party})
        key_id = message[:KEY_ID_BYTES]
        context = self.bound("secret key", str(self.party))
        (blob,) = open_envelope(
            self.identity, self.leader, message, context=context, key_id=key_id, round_index=_SETUP_ROUND, n=1
        )
        ciphertext, box = cut(blob, self._exchange.ciphertext_bytes)
        secret = self.agreement.decapsulate(self.leader, ciphertext)
        key = expand_key(secret, self._protocol, self.setup.session, str(self.party), "secret key")
        shared = open_box(key, box, key_id)
        self.context = load_context(shared)
        if not self.context.has_secret_key() or key_id_of(shared) != key_id:
            raise ProtocolAbort(f"{self.party} was sent something else than the secret key")
        self.key_id = key_id

    @stage("key", opens=True, each="round_index")
    def seal(self, round_index: int, chunks: Sequence[bytes]) -> bytes:
        """Ciphertexts of a round in a signed envelope."""
        return seal_envelope(
            self.identity,
            context=self.bound("update"),
            key_id=self.key_id,
            round_index=round_index,
            chunks=chunks,
        )


def key_id_of(shared: bytes) -> bytes:
    """The name of a key: a hash of all that the clients share, which says nothing of it."""
    return hashlib.sha256(b"qflsec/he/key" + shared).digest()[:KEY_ID_BYTES]
