"""Homomorphic aggregation in the loop: clients share a key, the server adds ciphertexts and learns nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import ProtocolAbort, Secrets
from qflsec.federation import AggregationLayer, Control, Header, Identity, PartyState, Setup
from qflsec.federation.control import Question
from qflsec.protocols.key_agreement import Agreement, key_exchange
from qflsec.protocols.secagg.he.envelope import open_envelope, seal_envelope
from qflsec.protocols.secagg.he.ledger import he_rows
from qflsec.protocols.secagg.he.parameters import LARGEST_MODULUS, Security
from qflsec.protocols.secagg.he.sizes import HeSizes
from qflsec.protocols.secagg.he.state import KEY_NAME, Handle, HeClient, HeServer, refused
from qflsec.threat import SERVER, Party, Payload, Traffic, Workload

__all__ = ["HeLayer"]


@dataclass(frozen=True, kw_only=True)
class HeLayer(AggregationLayer):
    """What the two homomorphic layers have in common.

    Attributes:
        security: The row of the security table: ``"classical-128"`` or ``"quantum-128"``.
        agreement: How the secret key travels to the clients: ``"x25519"``, ``"ml-kem-768"`` or ``"hybrid"``.

    Raises:
        ConfigError: A value is out of range.
    """

    takes = frozenset({"plain"})
    gives = "ciphertext"
    leaves = "nothing"
    protocol: ClassVar[str]

    security: Security = "quantum-128"
    agreement: Agreement = "hybrid"

    def __post_init__(self) -> None:
        if self.security not in LARGEST_MODULUS:
            self.new_context(2)
        key_exchange(self.agreement)

    @abstractmethod
    def new_context(self, n_clients: int, n_values: int = 1) -> Handle:
        """A fresh context with its secret key.

        Args:
            n_clients: How many ciphertexts are added.
            n_values: How many numbers a client sends: its parameters and its weight.

        Raises:
            ConfigError: No parameters fit.
        """

    @abstractmethod
    def check_room(self, n_clients: int, max_count: int, n_values: int = 1) -> None:
        """Refuse sessions whose sums could not be held.

        Raises:
            ConfigError: The largest weight does not fit, or no parameters do.
        """

    @abstractmethod
    def encrypt(
        self,
        context: Handle,
        update: torch.Tensor,
        weight: float,
        n_clients: int,
        *,
        secrets: Secrets,
        checked: bool = True,
    ) -> tuple[list[bytes], torch.Tensor]:
        """Ciphertexts of a weighted update and its weight, and what whoever decrypts them reads.

        Args:
            context: The shared key.
            update: The update.
            weight: Its weight.
            n_clients: The number of clients that the sum must have room for.
            secrets: The client's own source, for what is rounded at random.
            checked: As in :meth:`seal`.

        Shapes:
            update: ``(P,)``; returns: ciphertexts, and ``(P + 1,)``

        Raises:
            UpdateError: A value does not fit.
        """

    @abstractmethod
    def load(self, context: Handle, blob: bytes) -> Handle:
        """A ciphertext from bytes."""

    @abstractmethod
    def decrypt(
        self,
        context: Handle,
        blobs: Sequence[bytes],
        size: int,
        most: float,
    ) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight behind a sum.

        Raises:
            ProtocolAbort: The weight is impossible.
        """

    def opened_values(self, context: Handle, blobs: Sequence[bytes], size: int) -> list[float]:
        """The first values behind ciphertexts.

        Raises:
            ProtocolAbort: They cannot be decrypted, or are fewer.
        """
        with refused("an encrypted sum cannot be opened"):
            found = [value for blob in blobs for value in self.load(context, blob).decrypt()]
        if len(found) < size:
            raise ProtocolAbort("an encrypted sum is cut short", got=len(found), expected=f"{size} values")
        return found[:size]

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The session's sums do not fit.
        """
        self.check_room(len(setup.clients), setup.max_count, setup.n_params + 1)
        if identity.party in setup.clients:
            return self.new_client(setup, identity, secrets)
        return HeServer(setup, identity, self.protocol)

    def new_client(self, setup: Setup, identity: Identity, secrets: Secrets) -> HeClient:
        """A client's state."""
        return HeClient(setup, identity, secrets, self.protocol, key_exchange(self.agreement))

    def protect(
        self, state: HeClient, update: torch.Tensor, weight: float, header: Header, *, checked: bool
    ) -> tuple[list[bytes], torch.Tensor]:
        """A client's ciphertexts, and what they carry."""
        n = len(state.setup.clients)
        return self.encrypt(state.context, update, weight, n, secrets=state.secrets, checked=checked)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Before the first round, give the clients their key and the server its parameters.

        Raises:
            ProtocolAbort: Some party did not get its part.
        """
        server = control.state(SERVER)
        assert isinstance(server, HeServer)
        if not server.key_id:
            made = control.hear("make", [server.leader], self.answer)
            if server.leader not in made:
                raise ProtocolAbort(f"the server did not hear of the key that {server.leader} made")
            told = control.tell("take", server.take(made[server.leader]), self.answer)
            for party in server.setup.clients:
                if party not in {*told, server.leader}:
                    raise ProtocolAbort(f"{party} has no part of the homomorphic key")
        return frozenset(control.participants)

    def answer(self, state: PartyState, question: Question) -> bytes:
        """A client's half of the handing out of the key.

        Raises:
            ProtocolAbort: The client refuses.
        """
        assert isinstance(state, HeClient)
        if question.step == "make":
            setup = state.setup
            return state.make(self.new_context(len(setup.clients), setup.n_params + 1))
        if question.step == "take":
            state.take(question.body)
            return b""
        return super().answer(state, question)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """A client's ciphertexts in a signed envelope, and what they carry.

        Raises:
            ProtocolAbort: The client has no key, or sealed this round already.
            UpdateError: A value does not fit.
        """
        assert isinstance(state, HeClient)
        state.require_key()
        chunks, read = self.protect(state, update, weight, header, checked=checked)
        return state.seal(header.round, chunks), read

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the ciphertexts, in an envelope of the server.

        Raises:
            ProtocolAbort: An envelope is not authentic, or ciphertexts do not fit together.
        """
        assert isinstance(state, HeServer)
        state.require_key()
        strangers = sorted(set(payloads) - set(header.participants))
        if strangers or len(set(header.participants)) != len(header.participants):
            who = strangers[0] if strangers else "somebody who is named twice"
            raise ProtocolAbort(f"{who} takes no part in round {header.round}")
        total: list[Handle] = []
        for party, payload in payloads.items():
            if not isinstance(payload, bytes):
                raise ProtocolAbort(f"the update of {party} is no envelope")
            chunks = open_envelope(
                state.identity,
                party,
                payload,
                context=state.bound("update"),
                key_id=state.key_id,
                round_index=header.round,
            )
            with refused(f"the ciphertexts of {party} do not fit"):
                vectors = [self.load(state.context, chunk) for chunk in chunks]
                total = [a + b for a, b in zip(total, vectors, strict=True)] if total else vectors
        return seal_envelope(
            state.identity,
            context=state.bound("aggregate"),
            key_id=state.key_id,
            round_index=header.round,
            chunks=[vector.serialize() for vector in total],
        )

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight, by a client.

        Raises:
            ProtocolAbort: The party has no key, or the envelope is not the server's.
        """
        if not isinstance(state, HeClient):
            raise ProtocolAbort("the server has no key to open an aggregate with")
        state.require_key()
        if not isinstance(combined, bytes):
            raise ProtocolAbort("an aggregate is no envelope")
        chunks = open_envelope(
            state.identity,
            SERVER,
            combined,
            context=state.bound("aggregate"),
            key_id=state.key_id,
            round_index=header.round,
        )
        most = float(state.setup.max_count * len(header.participants))
        return self.decrypt(state.context, chunks, state.setup.n_params + 1, most)

    @abstractmethod
    def sizes(self, load: Workload) -> HeSizes:
        """The sizes of what is sent.

        Raises:
            ConfigError: No parameters fit.
        """

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """The key before the first round, then ciphertexts both ways."""
        return self.sizes(load).traffic(load)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The one key that all clients share."""
        return frozenset({KEY_NAME})

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        return he_rows(self.card.name, context, security=self.security, agreement=self.agreement)
