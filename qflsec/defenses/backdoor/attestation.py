"""Circuit attestation: every client signs the circuit that it says it trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from qflsec.base import DefenseCard, IncompatibleStack, ProtocolAbort, Secrets, Source, register
from qflsec.base.framing import pack_fields
from qflsec.circuits import Circuit
from qflsec.federation import Asked, Control, Identity, PartyState, Pipeline, Setup, StatementLayer
from qflsec.federation.identity import ED25519_BYTES
from qflsec.models import Model
from qflsec.threat import SERVER, Party, Traffic, Workload

__all__ = ["CircuitAttestation", "CircuitSigner", "circuit_of"]


def circuit_of(model: Model) -> Circuit | None:
    """The circuit of a model; None where it has none that can be read."""
    found = getattr(model, "circuit", None)
    return found if isinstance(found, Circuit) else None


@dataclass(kw_only=True)
class CircuitSigner(PartyState):
    """One party's half: a client signs, and the server compares.

    Attributes:
        identity: The party's signature key, and everybody's public keys.
        session: The public name of the session, so that a statement counts in no other.
    """

    identity: Identity = field(repr=False)
    session: bytes
    _signed: int = field(default=0, init=False)

    def sign(self, circuit: Circuit, model: torch.Tensor, round_index: int) -> bytes:
        """The signed statement "in this round I executed this circuit from this model".

        Args:
            circuit: The circuit.
            model: The model that the client received.
            round_index: The round.

        Shapes:
            model: ``(P,)``
        """
        self._signed += 1
        return self.identity.sign(_digest(circuit, model), self._context(round_index))

    def refusal(
        self, author: Party, statement: bytes | None, circuit: Circuit, model: torch.Tensor, round_index: int
    ) -> str | None:
        """What is wrong with a client's statement; None where it is signed and names this circuit and model.

        Args:
            author: The client.
            statement: What arrived; None for nothing.
            circuit: The circuit that was agreed upon.
            model: The model that was sent to the client.
            round_index: The round.

        Shapes:
            model: ``(P,)``
        """
        if statement is None:
            return "it stated no circuit"
        try:
            said = self.identity.verify(author, statement, self._context(round_index))
        except ProtocolAbort:
            return "its statement of a circuit has a wrong signature"
        return None if said == _digest(circuit, model) else "it signed another circuit, or another model"

    def key_names(self) -> frozenset[str]:
        """None that opens anything."""
        return frozenset()

    def costs(self) -> Mapping[str, float]:
        """How many statements it signed."""
        return {"circuit_statements": float(self._signed)} if self._signed else {}

    def _context(self, round_index: int) -> bytes:
        return pack_fields("circuit-attestation", self.session, round_index)


def _digest(circuit: Circuit, model: torch.Tensor) -> bytes:
    body = pack_fields(circuit.digest(), model.detach().cpu().contiguous().numpy().tobytes())
    return hashlib.sha256(body).digest()


@register("layer", "circuit-attestation")
@dataclass(frozen=True, kw_only=True)
class CircuitAttestation(StatementLayer):
    """Each client signs the circuit, and the model, that it says it trained; the server drops who signed another.

    **What it proves.** That the holder of the client's key said so, in this round of this session, and cannot deny it later:
    where the client is honest and its tools are not, a compiler that put gates in is found out, as is a client with an
    outdated circuit. **What it does not prove.** That this circuit ran. A corrupted client signs the shared circuit and
    trains another, and its update is the same to the last bit; nor would a signature of the device help, as an
    update need not come from what the device executed. Only who computes the update again, or tests the device
    (the layers ``blind`` and ``delegated``), knows more.
    """

    card = DefenseCard(
        name="circuit-attestation",
        idea="Each client signs the circuit and the model that it says it trained; others are dropped.",
        source=Source(
            paper="this project: signed statements (Ed25519, RFC 8032) about executed circuits",
            year=2026,
            where="docs/robust.md, attested circuits",
        ),
        claim="A client whose tools report another circuit is dropped, and what a client signed it cannot deny.",
        assumption="computational",
        hides="nothing",
        does_not=(
            "It does not prove that the circuit ran: a corrupted client signs one and trains another.",
            "It does not tie an update to an execution.",
            "It does not cover what is executed after training.",
        ),
        cost="one signature and 96 bytes for each client and round",
    )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse a model without a circuit to sign.

        Raises:
            IncompatibleStack: There is none.
        """
        if circuit_of(pipeline.model) is None:
            raise IncompatibleStack(
                f"{self.card.name!r} signs circuits, but the model {pipeline.model.name!r} has none that can be read",
                fix="use a variational circuit, a hybrid, or a QNode of affine angles",
            )

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """A signed digest from each client before everything else that it sends in a round."""
        signed = hashlib.sha256().digest_size + ED25519_BYTES
        return inner.each_round(load.rounds, up={"statement": signed})

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A signer; the server's compares."""
        return CircuitSigner(identity=identity, session=setup.session)

    def collect(self, control: Control, asked: Asked, lane: int) -> Mapping[int, str]:
        """Every client's statement about its circuit, and who is dropped for it."""
        messages = {}
        for party in control.participants:
            circuit, signer = circuit_of(asked.of(lane, party.index)), control.state(party)
            assert isinstance(signer, CircuitSigner)
            if circuit is not None:
                messages[party] = signer.sign(circuit, control.models[party], control.round)
        arrived = control.to_server(messages)
        server, agreed = control.state(SERVER), circuit_of(asked.agreed)
        assert isinstance(server, CircuitSigner)
        assert agreed is not None  # check() said so
        reasons = {
            party.index: server.refusal(
                party, arrived.get(party), agreed, control.models[party], control.round
            )
            for party in control.participants
        }
        return {index: reason for index, reason in reasons.items() if reason is not None}
