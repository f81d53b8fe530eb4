"""Secure aggregation in the training loop: the five stages as control messages around the upload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    ConfigError,
    DefenseCard,
    IncompatibleStack,
    ProtocolAbort,
    Secrets,
    Source,
    register,
)
from qflsec.federation import AggregationLayer, Control, Header, Identity, PartyState, Pipeline, Setup
from qflsec.federation.control import Question
from qflsec.federation.layers import Leaves
from qflsec.protocols.secagg.fixed_point import FixedPoint
from qflsec.protocols.secagg.ledger import QuantumKeys, secagg_rows
from qflsec.protocols.secagg.masks.expansion import model_digest
from qflsec.protocols.secagg.rounds.observer import observed_sums
from qflsec.protocols.secagg.rounds.pair_links import PairLinks, pair_ends
from qflsec.protocols.secagg.rounds.pairing import PairAgreement, scheme
from qflsec.protocols.secagg.rounds.sizes import RoundSizes
from qflsec.protocols.secagg.rounds.states import (
    ClientState,
    ServerState,
    by_index,
    by_party,
    server_state,
    share_name,
)
from qflsec.protocols.secagg.rounds.terms import Policy, default_threshold, no_drop_out
from qflsec.protocols.secagg.signatures import SIGNATURE_BYTES, SignatureScheme
from qflsec.threat import Item, LaneFacts, Party, Payload, Traffic, Workload

__all__ = ["SecAgg", "share_name"]


@register("layer", "secagg")
@dataclass(frozen=True, kw_only=True)
class SecAgg(AggregationLayer):
    """Double masking with shared keys: the server reads the sum of the clients that remain, and nothing else.

    Attributes:
        bits: The size of the ring's elements, 32 or 64.
        fractional_bits: The resolution of a weighted coordinate is ``2^-fractional_bits``.
        threshold: How many clients must remain, and how many shares open a secret; None takes more than two
            thirds of the participants.
        min_clients: The smallest round that a client takes part in.
        colluders: How many clients may collude with an active server.
        agreement: ``"x25519"``, ``"ml-kem-768"``, ``"hybrid"``, or ``"bb84"``: keys of quantum links between
            the clients, which the server has no part in.
        signature: ``"ed25519"`` or ``"ml-dsa-65"``.
        key_source: For ``"bb84"``, where the links' keys come from: ``"ideal"`` links, key ``"stores"`` that were
            filled beforehand, or ``"bb84"`` runs between every two clients before the first round.
        key_directory: For ``"stores"``, the directory of the clients' key stores.
        eps_sec: For ``"bb84"``, the secrecy of the key that a link gives for one round.
        eps_cor: Its correctness, likewise.
        eps_auth: The failure of the authentication of its public discussion, likewise.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="secagg",
        idea="Pairwise masks that cancel and a mask of one's own, with keys shared among the clients so that "
        "dropouts do no harm: the server reads only the sum of those who remain.",
        source=Source(
            paper="Bonawitz et al.: Practical secure aggregation for privacy-preserving machine learning, "
            "CCS 2017, eprint 2017/281",
            year=2017,
            where="figure 4, with the rounds for active adversaries",
        ),
        claim="A server that follows the protocol with fewer than t clients, or one that deviates with fewer than "
        "2t - n of them, learns one sum over at least t of a round's n clients, for the threshold t, and no part of "
        "the honest ones' share of it; clients that were told different things of the model or the round stop and "
        "name each other.",
        assumption="computational",
        hides="single updates from the server and the network",
        does_not=(
            "It does not hide the sum.",
            "It does not hide who takes part, who drops out and when, sizes, or hashes of the model.",
            "It is not relied on to hide numbers of records, which are taken as public.",
            "It does not bound what a lying client submits.",
            "It does not save a round in which too few clients remain.",
            "It does not keep a run alive when a client lies to other clients and not to the server.",
        ),
        cost="4 or 8 bytes for each parameter, five messages of each client, and for each other client keys, "
        "shares and a mask in every round",
    )
    takes = frozenset({"plain"})
    gives = "masked"
    leaves: ClassVar[Leaves] = "sum"
    additive: ClassVar[bool] = True
    remote: ClassVar[bool] = True

    bits: int = 32
    fractional_bits: int = 16
    threshold: int | None = None
    min_clients: int = 3
    colluders: int = 0
    agreement: PairAgreement = "x25519"
    signature: SignatureScheme = "ed25519"
    key_source: str = "ideal"
    key_directory: str = ""
    eps_sec: float = 1e-10
    eps_cor: float = 1e-15
    eps_auth: float = 1e-30

    def __post_init__(self) -> None:
        self.words  # noqa: B018 - refuses sizes that are out of range
        if self.threshold is not None and self.threshold < 2:
            raise ConfigError("'threshold' is too small", got=self.threshold, expected="at least 2")
        if self.min_clients < 3:
            raise ConfigError(
                "'min_clients' is too small",
                got=self.min_clients,
                expected="at least 3: of a sum of two, each reads the other's update",
            )
        if self.signature not in SIGNATURE_BYTES:
            raise ConfigError("unknown 'signature'", got=repr(self.signature), expected=list(SIGNATURE_BYTES))
        scheme(self.agreement)
        self.links  # noqa: B018 - refuses sources and epsilons that mean nothing
        if self.agreement != "bb84" and (self.key_source != "ideal" or self.key_directory):
            raise ConfigError(
                "a source of quantum keys has no use here",
                got=f"key_source={self.key_source!r} with agreement={self.agreement!r}",
                fix="set agreement = \"bb84\", or leave 'key_source' and 'key_directory' out",
            )
        self.policy  # noqa: B018 - refuses floors that mean nothing

    @property
    def links(self) -> PairLinks:
        """The quantum links between the clients, for the agreement ``bb84``."""
        return PairLinks(
            source=self.key_source,
            directory=self.key_directory,
            eps_sec=self.eps_sec,
            eps_cor=self.eps_cor,
            eps_auth=self.eps_auth,
        )

    @property
    def grid(self) -> float:
        """The resolution of a weighted coordinate."""
        return 1 / self.words.scale

    @property
    def words(self) -> FixedPoint:
        """How numbers become elements of the ring."""
        return FixedPoint(bits=self.bits, fractional_bits=self.fractional_bits)

    @property
    def policy(self) -> Policy:
        """What every client insists on."""
        return Policy(
            min_clients=self.min_clients,
            min_threshold=self.threshold or 2,
            colluders=self.colluders,
            two_thirds=self.threshold is None,
        )

    def threshold_for(self, n: int) -> int:
        """The threshold of a round with ``n`` participants."""
        if self.threshold is not None:
            return self.threshold
        return max(default_threshold(n), (n + self.colluders) // 2 + 1)

    def expected_clients(self, setup: Setup) -> int:
        """How many clients a round has, as every client knows; 0 where it knows which ones."""
        return setup.participants or len(setup.clients)

    def policy_for(self, setup: Setup) -> Policy:
        """What every client of a session insists on: the threshold of a whole round, however few are asked.

        Else a server could ask few clients into a round, of which few colluders would be enough.
        """
        floor = max(self.policy.min_threshold, self.threshold_for(self.expected_clients(setup)))
        return replace(self.policy, min_threshold=floor)

    def deviators_for(self, n: int) -> int:
        """How many of ``n`` clients may collude with a server that deviates.

        With one more it can have two sets of statements that are each large enough, for two lists of survivors.
        """
        return 2 * self.threshold_for(n) - n - 1

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds that every client would refuse.

        Raises:
            IncompatibleStack: There are too few participants, or no threshold fits them.
        """
        n = pipeline.federation.n_participants
        if n < self.min_clients:
            raise IncompatibleStack(
                f"'secagg' needs {self.min_clients} clients in a round",
                got=f"{n} participants",
                fix="raise 'participation' or 'n_clients'",
            )
        t = self.threshold_for(n)
        if t > n or 2 * t <= n + self.colluders:
            raise IncompatibleStack(
                f"'secagg' cannot keep its promise with a threshold of {t} and {n} participants",
                expected=f"{(n + self.colluders) // 2 + 1} to {n} with {self.colluders} colluders",
                fix="change 'threshold', 'colluders' or the number of participants",
            )

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """That a round survives no drop-out, where it survives none."""
        return no_drop_out(self.card.name, {n: self.threshold_for(n) for n in self.cohorts(pipeline)})

    def cohorts(self, pipeline: Pipeline) -> tuple[int, ...]:
        """How many clients mask with each other."""
        return (pipeline.federation.n_participants,)

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """Each client's end of its links with the other clients; the server has none."""
        return pair_ends(self.links, setup, secrets) if self.agreement == "bb84" else {}

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The largest weight does not fit into the ring.
        """
        self.words.check_room(self.card.name, setup)
        agreed = scheme(self.agreement)
        if identity.party in setup.clients:
            return self.new_client(setup, identity, secrets)
        return ServerState(setup, identity, secrets, self.signature, scheme=agreed)

    def new_client(self, setup: Setup, identity: Identity, secrets: Secrets) -> ClientState:
        """A client's state."""
        agreed = scheme(self.agreement)
        return ClientState(
            setup, identity, secrets, self.signature, policy=self.policy_for(setup), scheme=agreed
        )

    def prepare(self, control: Control) -> frozenset[Party]:
        """Stages 0 and 1: keys and shares.

        Raises:
            ProtocolAbort: A client refuses, or too few are left.
        """
        server = server_state(control)
        size = server.setup.n_params + 1
        indices = tuple(party.index for party in control.participants)
        server.total = None
        starts = server.protocol.start(
            control.round,
            participants=indices,
            threshold=max(map(self.threshold_for, (len(indices), self.expected_clients(server.setup)))),
            size=size,
            bits=self.bits,
        )
        keys = control.ask("advertise", by_party(starts), self.answer)
        rosters = server.protocol.collect_keys(by_index(keys))
        parcels = control.ask("share", by_party(rosters), self.answer)
        deliveries = server.protocol.collect_parcels(by_index(parcels))
        return control.tell("deliver", by_party(deliveries), self.answer)

    def answer(self, state: PartyState, question: Question) -> bytes:
        """A client's half of the stages but for the second, which is :meth:`seal`.

        Raises:
            ProtocolAbort: The client refuses.
        """
        assert isinstance(state, ClientState)
        if question.step == "advertise":
            assert question.model is not None
            state.delivery = None
            return state.protocol.advertise(
                question.body,
                round_index=question.round,
                model=model_digest(question.model),
                size=state.setup.n_params + 1,
                bits=self.bits,
            )
        return state.answer(question)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """Stage 2: a client's masked words, signed, and what they carry.

        Raises:
            ProtocolAbort: The client was not told for whom to mask, or sealed already.
            UpdateError: A weighted coordinate does not fit into the ring.
        """
        assert isinstance(state, ClientState)
        words = self.words.encode(
            update, weight, n=len(state.setup.clients), secrets=state.secrets, checked=checked
        )
        return state.mask(words), self.words.inside(words, update)

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Stages 3 and 4: everybody signs what it was told, then opens shares.

        Raises:
            ProtocolAbort: A client refuses, or too few are left.
        """
        server = server_state(control)
        vectors = {party.index: blob for party, blob in payloads.items() if isinstance(blob, bytes)}
        survivors = server.protocol.collect_vectors(vectors)
        stated = control.ask("agree", by_party(survivors), self.answer)
        shown = server.protocol.collect_statements(by_index(stated))
        opened = control.ask("reveal", by_party(shown), self.answer)
        server.total = server.protocol.open(by_index(opened))
        return {party: blob for party, blob in payloads.items() if party.index in server.protocol.survivors}

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the survivors' words.

        Raises:
            ProtocolAbort: The round was not concluded.
        """
        assert isinstance(state, ServerState)
        if state.total is None:
            raise ProtocolAbort(f"secure aggregation of round {header.round} was not concluded")
        return state.total

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight.

        Raises:
            ProtocolAbort: The weight is impossible: a client lied.
        """
        assert isinstance(combined, np.ndarray)
        assert isinstance(state, ServerState)
        most = float(state.setup.max_count * len(header.participants))
        return self.words.read(combined.astype(self.words.dtype, copy=False), most=most)

    def turned_away(self, state: PartyState) -> Mapping[int, ProtocolAbort]:
        """Whose messages the server refused."""
        assert isinstance(state, ServerState)
        return state.protocol.rejected

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The other participants' shares of the sender's secrets."""
        return frozenset(share_name(party) for party in participants if party != sender)

    def keys_needed(self, sender: Party, participants: tuple[Party, ...]) -> int | None:
        """A threshold of shares opens a vector; so do all other clients, from their pairs with the sender."""
        return min(self.threshold_for(len(participants)), len(participants) - 1)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sum of a round for whoever hears everything that is said to the server."""
        size = SIGNATURE_BYTES[self.signature]
        return observed_sums(
            items, facts, words=self.words, scheme=scheme(self.agreement), signature_bytes=size
        )

    def sizes(self, n: int, vector_bytes: int) -> RoundSizes:
        """The sizes of a round among ``n`` clients."""
        return RoundSizes.under(self.agreement, self.signature, n, self.threshold_for(n), vector_bytes)

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """Five stages in every round."""
        sizes = self.sizes(load.participants, self.bits // 8 * (load.n_params + 1))
        return Traffic.of_rounds(load.rounds, each=sizes.traffic(model=load.model_bytes))

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What it hides from this observer."""
        n = context.training.invited
        return secagg_rows(
            self.card.name,
            context,
            threshold=self.threshold_for(n),
            deviators=self.deviators_for(n),
            agreement=self.agreement,
            min_clients=max(self.min_clients, self.threshold_for(n)),
            quantum=self.quantum_keys(n, context.training.rounds),
        )

    def quantum_keys(self, n: int, rounds: int, groups: int = 1) -> QuantumKeys | None:
        """What the ledger says of the keys of quantum links, where there are such links.

        Args:
            n: How many clients key their pairs with each other.
            rounds: The number of rounds.
            groups: How many such sets of clients there are.
        """
        if self.agreement != "bb84":
            return None
        return self.links.keys(links=groups * n * (n - 1) // 2, rounds=rounds)
