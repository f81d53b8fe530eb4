"""Secure aggregation with proofs of the norm, in the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow, RowWriter
from qflsec.base import (
    DefenseCard,
    IncompatibleStack,
    LostRound,
    ProtocolAbort,
    Secrets,
    Source,
    register,
)
from qflsec.federation import AggregationLayer, Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.protocols.secagg import SecAgg, model_digest, scheme
from qflsec.protocols.secagg.ledger import secagg_rows
from qflsec.protocols.secagg.rounds.observer import observed_sums
from qflsec.protocols.secagg.rounds.pairing import PairAgreement
from qflsec.protocols.secagg.rounds.unmask import culprits
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, SignatureScheme
from qflsec.protocols.validated.encoding import LIMBS, Quantiser, SumReader, from_words
from qflsec.protocols.validated.prover import Proof
from qflsec.protocols.validated.statement import Statement
from qflsec.protocols.validated.states import (
    PARCEL_HEAD_BYTES,
    Parcel,
    ProvingClient,
    ValidatingServer,
    checked,
    sealed,
)
from qflsec.protocols.validated.verifier import opens_to
from qflsec.threat import SERVER, Item, LaneFacts, Party, Payload, Traffic, Workload

__all__ = ["Validated"]


@register("layer", "validated")
@dataclass(frozen=True, kw_only=True)
class Validated(AggregationLayer):
    """Secure aggregation of updates that are proved to be short; every client counts the same.

    A stated number of examples would let a short update count for much, so there is none. A client whose proof does
    not hold is left out by name. A client that proves one vector and masks another makes the sum disagree with the
    commitments: the round is then thrown away, and nobody can tell who it was without opening single updates.

    Attributes:
        max_norm: The bound on the L2 norm of an update; honest clients scale down to it.
        resolution_bits: Of the bound: it is 2^r - 1 units.
        threshold: As in ``secagg``.
        min_clients: As in ``secagg``.
        colluders: As in ``secagg``.
        agreement: As in ``secagg``.
        signature: As in ``secagg``.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="validated",
        idea="Clients prove in zero knowledge that the update under their masks is short; the sum must agree with "
        "what was proved.",
        source=Source(
            paper="Lycklama, Burkhalter, Viand, Kuchler, Hithnawi: RoFL: robustness of secure federated learning, "
            "IEEE S&P 2023, arXiv:2107.03311",
            year=2023,
            where="norm bounds on committed updates under secure aggregation; the proofs here are by bits, for few "
            "parameters",
        ),
        claim="Every update in the sum has an L2 norm of at most the bound, unless a client solves a discrete "
        "logarithm; a proof says nothing of the update besides.",
        assumption="computational",
        hides="single updates from the server and the network, as 'secagg' does; commitments hide perfectly",
        does_not=(
            "It does not stop a manipulation that stays within the bound.",
            "It does not name a client that masks another vector than it proved: the round is lost.",
            "It does not withstand a quantum computer while it runs; a later one cannot open commitments.",
        ),
        cost="at 10 bits, 1.6 kilobytes for each parameter and client, and about 3 milliseconds of the client and 4 of "
        "the server; at most 64 parameters",
    )
    takes = frozenset({"plain"})
    gives = "masked"
    leaves = "sum"
    weighted: ClassVar[bool] = False

    max_norm: float = 1.0
    resolution_bits: int = 10
    threshold: int | None = None
    min_clients: int = 3
    colluders: int = 0
    agreement: PairAgreement = "x25519"
    signature: SignatureScheme = "ed25519"

    def __post_init__(self) -> None:
        self._statement(1, b"", 0, 0, b"")
        self.inner  # noqa: B018 - refuses what secure aggregation refuses

    @property
    def inner(self) -> SecAgg:
        """Secure aggregation of integers and blinding factors."""
        return SecAgg(
            bits=64,
            threshold=self.threshold,
            min_clients=self.min_clients,
            colluders=self.colluders,
            agreement=self.agreement,
            signature=self.signature,
        )

    @property
    def quantiser(self) -> Quantiser:
        """How updates become integers."""
        return Quantiser(max_norm=self.max_norm, bound=(1 << self.resolution_bits) - 1)

    def threshold_for(self, n: int) -> int:
        """The threshold of a round with ``n`` participants."""
        return self.inner.threshold_for(n)

    def _statement(
        self, dimension: int, session: bytes, round_index: int, index: int, model: bytes
    ) -> Statement:
        return Statement(
            dimension=dimension,
            resolution_bits=self.resolution_bits,
            max_norm=self.max_norm,
            session=session,
            round=round_index,
            client=index,
            context=model,
        )

    def check(self, pipeline: Pipeline) -> None:
        """Refuse models that are too large for proofs by bits, and what secure aggregation refuses.

        Raises:
            IncompatibleStack: The pipeline does not fit.
        """
        d = pipeline.model.n_params
        if d > 64:
            raise IncompatibleStack(
                "'validated' proves the norm of few parameters", got=f"{d} parameters", expected="at most 64"
            )
        if self.quantiser.bound < 4 * math.sqrt(d):
            raise IncompatibleStack(
                "'validated' would leave a quarter of the bound to rounding, or more",
                got=f"resolution_bits={self.resolution_bits} with {d} parameters",
                fix="raise 'resolution_bits'",
            )
        self.inner.check(pipeline)

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """As secure aggregation says, under this name."""
        return tuple(
            remark.replace(repr(self.inner.card.name), repr(self.card.name), 1)
            for remark in self.inner.remarks(pipeline)
        )

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """Those of secure aggregation."""
        return self.inner.quantum_ends(setup, secrets)

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state: that of secure aggregation for longer vectors.

        Raises:
            ConfigError: There are too many parameters.
        """
        self._statement(setup.n_params, setup.session, 0, 0, b"")
        longer = replace(setup, n_params=(LIMBS + 1) * setup.n_params - 1)
        agreed = scheme(self.agreement)
        if identity.party in setup.clients:
            return ProvingClient(
                longer, identity, secrets, self.signature, policy=self.inner.policy_for(longer), scheme=agreed
            )
        return ValidatingServer(longer, identity, secrets, self.signature, scheme=agreed)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Keys and shares, as in secure aggregation.

        Raises:
            ProtocolAbort: A client refuses, or too few are left.
        """
        server = control.state(SERVER)
        assert isinstance(server, ValidatingServer)
        server.commitments, server.rejected = {}, {}
        for party in control.participants:
            state = control.state(party)
            assert isinstance(state, ProvingClient)
            state.model = model_digest(control.models[party])
        return self.inner.prepare(control)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """A client's masked integers and blinding factors, with its proof.

        Raises:
            ProtocolAbort: The client was not told for whom to mask, or sealed already.
            UpdateError: A number is not finite.
        """
        assert isinstance(state, ProvingClient)
        values = self.quantiser.integers(update, secrets=state.secrets, checked=checked)
        statement = self._statement(
            len(values), state.setup.session, header.round, state.party.index, state.model
        )
        proof, words = state.prove(statement, values) if checked else state.claim(statement, values)
        masked = state.mask(words)
        read = update.new_tensor([*(value * self.quantiser.step for value in values), 1.0])
        return sealed(state.signer, statement, masked, proof), read

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Check the proofs; a client whose own does not hold has dropped out. Then open shares.

        Raises:
            ProtocolAbort: A client refuses, or too few are left.
        """
        server = control.state(SERVER)
        assert isinstance(server, ValidatingServer)
        masked: dict[Party, Payload] = {}
        for party, blob in payloads.items():
            d = (server.setup.n_params + 1) // (LIMBS + 1)
            model = model_digest(control.models[party])
            statement = self._statement(d, server.setup.session, control.round, party.index, model)
            try:
                masked[party], proof = checked(
                    server.signer, party, statement, blob if isinstance(blob, bytes) else b""
                )
                server.commitments[party.index] = proof.commitments
            except ProtocolAbort as abort:
                server.rejected[party.index] = abort
        try:
            alive = self.inner.conclude(control, masked)
        except LostRound as lost:
            missing = server.protocol.threshold - len(masked)
            why = "; ".join(map(str, server.rejected.values()))
            raise LostRound(
                f"{lost}{f'; turned away: {why}' if why else ''}",
                caused_by=lost.caused_by
                or (culprits(server.rejected.values(), missing=missing) if missing > 0 else None),
            ) from None
        survivors = {party.index for party in alive}
        server.commitments = {i: c for i, c in server.commitments.items() if i in survivors}
        return {party: payloads[party] for party in alive}

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sums of the integers, which must be those that were committed to.

        Shapes:
            returns: ``(d,)``

        Raises:
            ProtocolAbort: A client masked another vector than it proved.
        """
        assert isinstance(state, ValidatingServer)
        if state.total is None:
            raise ProtocolAbort(f"secure aggregation of round {header.round} was not concluded")
        values, blindings = from_words(state.total)
        columns = zip(*state.commitments.values(), strict=True)
        for points, value, blinding in zip(columns, values, blindings, strict=True):
            if not opens_to(points, int(value), blinding):
                raise LostRound(
                    f"the sum of round {header.round} is not that of the vectors that were proved short",
                    got="a client that masked another vector than it proved; which one cannot be told",
                    fix="find the liar among smaller groups",
                )
        return values

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The mean over the clients that remain, and their number."""
        assert isinstance(state, ValidatingServer)
        assert isinstance(combined, np.ndarray)
        n = len(state.commitments)
        return torch.from_numpy(combined.astype(np.float64) * (self.quantiser.step / n)), float(n)

    def turned_away(self, state: PartyState) -> Mapping[int, ProtocolAbort]:
        """Whose proofs do not hold, and whose messages secure aggregation refused."""
        assert isinstance(state, ValidatingServer)
        return {**state.protocol.rejected, **state.rejected}

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """Secure aggregation of integers and blinding factors, each vector with its proof."""
        inside = self.inner.sizes(load.participants, 8 * (LIMBS + 1) * load.n_params)
        proof = Proof.size(self._statement(load.n_params, b"", 0, 0, b"")) + SIGNATURE_BYTES[self.signature]
        each = inside.traffic(model=load.model_bytes, update=PARCEL_HEAD_BYTES + inside.masked + proof)
        return Traffic.of_rounds(load.rounds, each=each)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The other participants' shares of the sender's secrets."""
        return self.inner.keys(sender, participants)

    def keys_needed(self, sender: Party, participants: tuple[Party, ...]) -> int | None:
        """As in secure aggregation."""
        return self.inner.keys_needed(sender, participants)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sum of a round for whoever hears everything that is said to the server."""
        bare = [_without_proof(item) for item in items]
        found: list[Item] = []
        for round_index, members in sorted(facts.participants.items()):
            found += observed_sums(
                bare,
                replace(facts, participants={round_index: members}),
                words=SumReader(bits=64, fractional_bits=1, n=len(members), step=self.quantiser.step),
                scheme=scheme(self.agreement),
                signature_bytes=SIGNATURE_BYTES[self.signature],
            )
        return found

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer, and what it bounds."""
        n = context.training.invited
        rows = secagg_rows(
            self.card.name,
            context,
            threshold=self.threshold_for(n),
            deviators=self.inner.deviators_for(n),
            agreement=self.agreement,
            min_clients=max(self.min_clients, self.threshold_for(n)),
            quantum=self.inner.quantum_keys(n, context.training.rounds),
        )
        rows = tuple(
            replace(row, note="binds the server and the network") if row.guarantee == "integrity" else row
            for row in rows
        )
        writer = RowWriter.of(self.card.name, context)
        if context.observer.threat.server:
            said = "the server checks the proofs: against a coalition with it nothing bounds the norm of an update"
            return (*rows, writer.not_covered(said))
        if not (context.observer.clients or context.observer.threat.wire):
            return rows
        bound = writer.guarantee(
            "integrity",
            f"every update in a sum has an L2 norm of at most {self.max_norm:g}, which moves the mean by at most that over "
            "the number of clients that remain",
            trusted="the server, to check the proofs and to add up nothing else; the directory of signature keys",
            note=_BOUND_NOTE,
        )
        return (*rows, bound)


_BOUND_NOTE = (
    "proofs rest on discrete logarithms in Ed25519 and the random oracle, and fall to a quantum computer that exists "
    "while they are checked; a client that masks another vector than it proved costs the round and stays unnamed; what stays within "
    "the bound is not stopped"
)


def _without_proof(item: Item) -> Item:
    if item.kind != "update" or item.form != "masked" or not isinstance(item.value, bytes):
        return item
    try:
        return replace(item, value=Parcel.from_bytes(item.value).masked)
    except ProtocolAbort:
        return item
