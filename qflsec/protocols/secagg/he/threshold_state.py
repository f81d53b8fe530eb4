"""What each party holds of threshold encryption: a share each, and the public key of all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from qflsec.base import ProtocolAbort, Secrets, blaming
from qflsec.base.framing import pack_fields
from qflsec.federation import Identity, PartyState, Setup
from qflsec.protocols.secagg.he.envelope import KEY_ID_BYTES, open_envelope, seal_envelope
from qflsec.protocols.secagg.he.threshold_scheme import KeyShare, ThresholdScheme
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import SERVER, Party

__all__ = ["ThresholdClient", "ThresholdServer", "key_id_of", "share_key_name"]

_PROTOCOL = "qflsec/he-threshold/1"
_SETUP_ROUND = 0
_NO_KEY = bytes(KEY_ID_BYTES)


def share_key_name(party: Party) -> str:
    """The name of a client's share of the key, such as ``"he-share:2"``."""
    return f"he-share:{party.index}"


def key_id_of(public: bytes) -> bytes:
    """The name of a key: a hash of its public half."""
    return hashlib.sha256(b"qflsec/he-threshold/key" + public).digest()[:KEY_ID_BYTES]


class _State(PartyState, Staged):
    """What clients and the server have in common."""

    def __init__(self, setup: Setup, identity: Identity, scheme: ThresholdScheme) -> None:
        self.setup, self.identity, self.scheme = setup, identity, scheme
        self.party = identity.party
        self.public = b""

    @property
    def key_id(self) -> bytes:
        """The name of the key of all."""
        return key_id_of(self.public) if self.public else _NO_KEY

    def key_names(self) -> frozenset[str]:
        """A client's share."""
        return frozenset() if self.party == SERVER else frozenset({share_key_name(self.party)})

    def seal(self, what: str, round_index: int, chunks: Sequence[bytes]) -> bytes:
        """A signed envelope."""
        return seal_envelope(
            self.identity,
            context=self._bound(what),
            key_id=_NO_KEY if what == "public" else self.key_id,
            round_index=round_index,
            chunks=[what.encode(), *chunks],
        )

    def unseal(
        self, what: str, author: Party, round_index: int, message: bytes, *, n: int | None = None
    ) -> list[bytes]:
        """What is in a signed envelope.

        Args:
            what: What it must be.
            author: Who must have sealed it.
            round_index: The round.
            message: The envelope.
            n: How many blobs it must hold; None for one or more.

        Raises:
            ProtocolAbort: It is not what this author sealed.
        """
        chunks = open_envelope(
            self.identity,
            author,
            message,
            context=self._bound(what),
            key_id=_NO_KEY if what == "public" else self.key_id,
            round_index=round_index,
            n=None if n is None else n + 1,
        )
        if len(chunks) < 2:
            raise ProtocolAbort(f"an envelope of {author} is empty")
        return chunks[1:]

    def added(self, sent: Mapping[Party, bytes], round_index: int) -> list[bytes]:
        """The sum of the ciphertexts that clients sealed in a round.

        Each envelope is judged by itself, so that none is blamed for not fitting one before it.

        Raises:
            ProtocolAbort: An envelope is not its client's, or does not hold the ciphertexts of an update.
        """
        n = -(-(self.setup.n_params + 1) // self.scheme.slots)
        total: list[bytes] = []
        for party, envelope in sent.items():
            chunks = self.unseal("update", party, round_index, envelope, n=n)
            with blaming(party):
                for chunk in chunks:
                    self.scheme.check(chunk)
            total = [self.scheme.add(a, b) for a, b in zip(total, chunks, strict=True)] if total else chunks
        return total

    def _bound(self, what: str) -> bytes:
        return pack_fields(_PROTOCOL, self.setup.session, what)

    def _take_key(self, message: bytes) -> None:
        (self.public,) = self.unseal("public", self.setup.clients[-1], _SETUP_ROUND, message, n=1)

    def require_key(self) -> None:
        """Refuse to go on without a key.

        Raises:
            ProtocolAbort: There is none.
        """
        if not self.public:
            raise ProtocolAbort(f"{self.party} has no threshold key")


class ThresholdServer(_State):
    """The server: the public key, and what it could open.

    Attributes:
        opened: The sum of a round, by round.
    """

    def __init__(self, setup: Setup, identity: Identity, scheme: ThresholdScheme) -> None:
        super().__init__(setup, identity, scheme)
        self.opened: dict[int, bytes] = {}

    @stage()
    def finish(self, message: bytes) -> None:
        """Take the public key of all from the last client's message.

        Raises:
            ProtocolAbort: It is not authentic.
        """
        self._take_key(message)


class ThresholdClient(_State):
    """A client, with its share of the key."""

    def __init__(self, setup: Setup, identity: Identity, scheme: ThresholdScheme, secrets: Secrets) -> None:
        super().__init__(setup, identity, scheme)
        self.secrets = secrets
        self._share: KeyShare = None
        self._sent: dict[int, bytes] = {}

    @stage()
    def extend(self, message: bytes) -> bytes:
        """Draw a share, and add its public key to those of the clients before.

        Raises:
            ProtocolAbort: The message is not the previous client's, or a share was drawn already.
        """
        place = self.setup.clients.index(self.party)
        previous = b""
        if place:
            (previous,) = self.unseal("public", self.setup.clients[place - 1], _SETUP_ROUND, message, n=1)
        self._share, public = self.scheme.new_share(self.secrets, previous)
        return self.seal("public", _SETUP_ROUND, [public])

    @stage("extend")
    def finish(self, message: bytes) -> None:
        """Take the public key of all from the last client's message.

        Raises:
            ProtocolAbort: It is not authentic.
        """
        self._take_key(message)

    @stage("finish", opens=True, each="round_index")
    def encrypt(self, round_index: int, integers: npt.NDArray[np.int64]) -> bytes:
        """Ciphertexts of a round in a signed envelope.

        Raises:
            ProtocolAbort: There is no key, or this round was sealed already.
        """
        sent = self.seal("update", round_index, self.scheme.encrypt(self.public, integers, self.secrets))
        self._sent = {round_index: sent}
        return sent

    @stage("finish", opens=True, each="round_index")
    def open_part(self, message: bytes, round_index: int) -> bytes:
        """This client's part of the decryption of a round's sum, once in a round.

        A part of the decryption of a ciphertext of somebody's choice is an equation in the share, so a client takes no
        sum from anybody: it adds up what all clients signed in this round, its own among it.

        Raises:
            ProtocolAbort: The envelopes are not those of all clients, one of them is not its client's, or a sum of this
                round was opened already.
        """
        _, *envelopes = self.unseal("sum", SERVER, round_index, message)
        with blaming(SERVER):
            if len(envelopes) != len(self.setup.clients):
                raise ProtocolAbort(f"{self.party} opens the sum of all clients and no other")
            sent = dict(zip(self.setup.clients, envelopes, strict=True))
            if self._sent.get(round_index) != sent[self.party]:
                raise ProtocolAbort(f"{self.party} was asked to open a sum without its own update")
        sums = self.added(sent, round_index)
        lead = self.party == self.setup.clients[0]
        parts = [self.scheme.partial(self._share, blob, self.secrets, lead=lead) for blob in sums]
        return self.seal("partial", round_index, parts)
