"""What each party holds of secure aggregation over a session."""

from __future__ import annotations

from collections.abc import Mapping

from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation import Control, Identity, PartyState, Setup
from qflsec.federation.control import Question
from qflsec.protocols.keystore import KeyProvider
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.rounds.client import Client
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.server import Server
from qflsec.protocols.secagg.rounds.terms import Policy
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, MlDsaIdentity, SignatureScheme, Signer
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import SERVER, Party, client

__all__ = [
    "ClientState",
    "ServerState",
    "by_index",
    "by_party",
    "server_state",
    "share_name",
]

_ANNOUNCED = b"qflsec/secagg/1|ml-dsa-65"


def share_name(party: Party) -> str:
    """The name of what one client holds of everybody's secrets, such as ``"shares:2"``."""
    return f"shares:{party.index}"


class _State(PartyState, Staged):
    """A party's keys for signatures, and what it has agreed with the others."""

    def __init__(
        self, setup: Setup, identity: Identity, secrets: Secrets, signature: SignatureScheme
    ) -> None:
        self.setup, self.party = setup, identity.party
        self._identity = identity
        self._announcement = b""
        self._directory: dict[Party, bytes] = {}
        self.signer: Signer = identity
        if signature == "ml-dsa-65":
            key = MlDsaIdentity.new_key(secrets)
            public = key.public_key().public_bytes_raw()
            self._directory[self.party] = public
            self._announcement = identity.sign(public, _ANNOUNCED + setup.session)
            self.signer = MlDsaIdentity(party=self.party, directory=self._directory, _key=key)

    @stage()
    def announce(self) -> bytes:
        """An ML-DSA public key, signed by the party's identity; nothing under Ed25519."""
        return self._announcement

    @stage(each="author")
    def learn(self, author: Party, announcement: bytes) -> None:
        """Take in another party's ML-DSA public key.

        Raises:
            ProtocolAbort: It is not authentic, or a second one.
        """
        public = self._identity.verify(author, announcement, _ANNOUNCED + self.setup.session)
        self._directory[author] = public

    def key_names(self) -> frozenset[str]:
        """A client's shares of everybody's secrets."""
        return frozenset() if self.party == SERVER else frozenset({share_name(self.party)})


class ClientState(_State):
    """A client, and the message that tells it for whom to mask.

    Raises:
        ConfigError: Quantum links are needed and missing, or a third party holds their keys.
    """

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        signature: SignatureScheme,
        *,
        policy: Policy,
        scheme: Scheme,
    ) -> None:
        super().__init__(setup, identity, secrets, signature)
        self.secrets = secrets
        links = setup.quantum if isinstance(setup.quantum, KeyProvider) else None
        if scheme.exchange is None:
            scheme.start(secrets, links)  # refuses links that cannot serve, before the first round
        self.protocol = Client(
            session=setup.session,
            signer=self.signer,
            signature_bytes=SIGNATURE_BYTES[signature],
            secrets=secrets,
            policy=policy,
            scheme=scheme,
            links=links,
            server=setup.server,
        )
        self.delivery: bytes | None = None

    def answer(self, question: Question) -> bytes:
        """The stages after the first, but for the second.

        Raises:
            ProtocolAbort: The client refuses, or there is no such stage.
        """
        if question.step == "deliver":
            self.delivery = question.body
            return b""
        one = self.protocol
        stages = {"share": one.share, "agree": one.agree, "reveal": one.reveal}
        if question.step not in stages:
            raise ProtocolAbort(f"{self.party} knows no such stage", got=question.step)
        return stages[question.step](question.body)

    def mask(self, words: Words) -> bytes:
        """Mask a vector for the clients that the server named, once in a round.

        Raises:
            ProtocolAbort: The server named none, or not those of the round.
        """
        delivery, self.delivery = self.delivery, None
        if delivery is None:
            raise ProtocolAbort(f"{self.party} was asked to seal out of order")
        return self.protocol.mask(delivery, words)

    def costs(self) -> Mapping[str, float]:
        """Key drawn from quantum links, where there are any."""
        bits = self.protocol.qkd_key_bits
        return {"qkd_key_bits": float(bits)} if bits else {}


class ServerState(_State):
    """The server, and the sum of the round."""

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        signature: SignatureScheme,
        *,
        scheme: Scheme,
    ) -> None:
        super().__init__(setup, identity, secrets, signature)
        self.protocol = Server(
            session=setup.session,
            signer=self.signer,
            signature_bytes=SIGNATURE_BYTES[signature],
            scheme=scheme,
        )
        self.total: Words | None = None


def server_state(control: Control) -> ServerState:
    """The server's state."""
    state = control.state(SERVER)
    assert isinstance(state, ServerState)
    return state


def by_party(messages: Mapping[int, bytes]) -> dict[Party, bytes]:
    """Messages by client, from those by index."""
    return {client(index): message for index, message in messages.items()}


def by_index(messages: Mapping[Party, bytes]) -> dict[int, bytes]:
    """Messages by index, from those by client."""
    return {party.index: message for party, message in messages.items()}
