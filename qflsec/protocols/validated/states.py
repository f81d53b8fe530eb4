"""What client and server hold, and the parcel in which a masked vector travels with its proof."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from qflsec.base import ProtocolAbort, Secrets, blaming
from qflsec.federation import Identity, Setup
from qflsec.protocols.secagg.fixed_point import Words
from qflsec.protocols.secagg.rounds.pairing import Scheme
from qflsec.protocols.secagg.rounds.states import ClientState, ServerState
from qflsec.protocols.secagg.rounds.terms import Policy
from qflsec.protocols.secagg.signatures import SignatureScheme, Signer
from qflsec.protocols.stages import stage
from qflsec.protocols.validated.encoding import to_words
from qflsec.protocols.validated.group import Point
from qflsec.protocols.validated.prover import Proof, Prover, commit, prove
from qflsec.protocols.validated.statement import Statement
from qflsec.protocols.validated.verifier import verify
from qflsec.threat import Party

__all__ = ["PARCEL_HEAD_BYTES", "Parcel", "ProvingClient", "ValidatingServer", "checked", "sealed"]

_LENGTH = struct.Struct("<I")
PARCEL_HEAD_BYTES = _LENGTH.size


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """A masked vector, and the signed proof that goes with it.

    Attributes:
        masked: The message of secure aggregation.
        signed: The proof and a signature, which is over the hash of ``masked`` as well.
    """

    masked: bytes
    signed: bytes

    def to_bytes(self) -> bytes:
        """The parcel as bytes."""
        return _LENGTH.pack(len(self.masked)) + self.masked + self.signed

    @classmethod
    def from_bytes(cls, packed: bytes) -> Parcel:
        """What :meth:`to_bytes` wrote.

        Raises:
            ProtocolAbort: It is cut short.
        """
        size = _LENGTH.unpack(packed[: _LENGTH.size])[0] if len(packed) >= _LENGTH.size else 0
        if size == 0 or len(packed) <= _LENGTH.size + size:
            raise ProtocolAbort("a masked vector came without a proof")
        place = _LENGTH.size + size
        return cls(masked=packed[_LENGTH.size : place], signed=packed[place:])


def sealed(signer: Signer, statement: Statement, masked: bytes, proof: Proof) -> bytes:
    """The parcel of a client."""
    signed = signer.sign(proof.to_bytes(), _context(statement, masked))
    return Parcel(masked=masked, signed=signed).to_bytes()


def checked(signer: Signer, author: Party, statement: Statement, packed: bytes) -> tuple[bytes, Proof]:
    """The masked vector and the proof of a client.

    Raises:
        ProtocolAbort: The parcel is not the client's, or its proof does not hold.
    """
    parcel = Parcel.from_bytes(packed)
    if len(parcel.signed) < Proof.size(statement):
        raise ProtocolAbort(f"the proof of {author} is cut short")
    signed = signer.verify(author, parcel.signed, _context(statement, parcel.masked))
    with blaming(author):
        proof = Proof.from_bytes(signed, statement)
        verify(statement, proof)
    return parcel.masked, proof


def _context(statement: Statement, masked: bytes) -> bytes:
    return b"qflsec/validated/1|" + hashlib.sha256(masked).digest() + statement.to_bytes()


class ProvingClient(ClientState):
    """A client of secure aggregation that proves its norm."""

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
        super().__init__(setup, identity, secrets, signature, policy=policy, scheme=scheme)
        self.model = b""
        self._proof_bytes = 0

    @stage(opens=True, each="statement.round")
    def prove(self, statement: Statement, values: tuple[int, ...]) -> tuple[Proof, Words]:
        """Commitments to integers, a proof, and the words that are masked: integers and blinding factors."""
        opening = commit(values, self.secrets)
        return self._counted(statement, prove(statement, opening, self.secrets)), to_words(opening)

    @stage(opens=True, each="statement.round", name="prove")
    def claim(self, statement: Statement, values: tuple[int, ...]) -> tuple[Proof, Words]:
        """The same of integers of which the statement may be false: the proof then does not hold."""
        opening = commit(values, self.secrets)
        return self._counted(statement, Prover(statement, opening, self.secrets).run()), to_words(opening)

    def _counted(self, statement: Statement, proof: Proof) -> Proof:
        self._proof_bytes += Proof.size(statement)
        return proof

    def costs(self) -> Mapping[str, float]:
        """Bytes of proofs, besides what secure aggregation spends."""
        return {**super().costs(), "proof_bytes": float(self._proof_bytes)}


class ValidatingServer(ServerState):
    """The server of secure aggregation, the commitments of the round, and whom it turned away."""

    def __init__(
        self,
        setup: Setup,
        identity: Identity,
        secrets: Secrets,
        signature: SignatureScheme,
        *,
        scheme: Scheme,
    ) -> None:
        super().__init__(setup, identity, secrets, signature, scheme=scheme)
        self.commitments: dict[int, tuple[Point, ...]] = {}
        self.rejected: dict[int, ProtocolAbort] = {}
