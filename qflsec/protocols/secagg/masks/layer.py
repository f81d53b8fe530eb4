"""Masked aggregation: pairwise masks that cancel in the sum, without tolerance for dropouts.

Each pair of clients shares a secret. In every round each client adds, for every other participant, a
fresh mask expanded from that secret: the lower of the two adds it, the higher subtracts it. One masked
vector is uniform in the ring to whoever lacks one of its keys; the sum over all participants is exact.

The participants of the round enter the derivation of the masks, so that a server which tells clients of
different participants gets noise, and a client seals once in a round, so that nobody can subtract two of
its vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import (
    DefenseCard,
    IncompatibleStack,
    LostRound,
    Secrets,
    Source,
    register,
)
from qflsec.federation import AggregationLayer, Header, Identity, PartyState, Pipeline, Setup
from qflsec.protocols.key_agreement import KeyAgreement, in_order
from qflsec.protocols.secagg.derived_sums import Heard, Sum, derived_sums
from qflsec.protocols.secagg.fixed_point import FixedPoint, Words
from qflsec.protocols.secagg.ledger import masked_rows
from qflsec.protocols.secagg.masks.expansion import (
    add_expanded,
    check_peers,
    pair_masks,
    participants_digest,
)
from qflsec.protocols.stages import Staged, stage
from qflsec.threat import Item, LaneFacts, Party, Payload, Traffic, Workload

__all__ = ["Masked", "mask_name"]

_PROTOCOL = "qflsec/masked/2"


def mask_name(one: Party, other: Party) -> str:
    """The name of the key that two clients share, such as ``"mask:2-5"``."""
    lower, higher = in_order(one, other)
    return f"mask:{lower.index}-{higher.index}"


class _Server(PartyState):
    """The server holds no key: it adds up what it gets."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def key_names(self) -> frozenset[str]:
        """None."""
        return frozenset()


class _Client(PartyState, Staged):
    """A client's own private key, and the secrets that it shares with the others."""

    def __init__(self, setup: Setup, identity: Identity, secrets: Secrets) -> None:
        self.setup = setup
        self.party = identity.party
        self.secrets = secrets
        self._agreement = KeyAgreement(
            protocol=_PROTOCOL, session=setup.session, identity=identity, secrets=secrets
        )
        self._secrets: dict[Party, bytes] = {}

    def announce(self) -> bytes:
        """A fresh public key, signed."""
        return self._agreement.announce()

    def learn(self, author: Party, announcement: bytes) -> None:
        """Agree on a secret with another client.

        Raises:
            ProtocolAbort: The announcement is not authentic, or a second one.
        """
        if author in self.setup.clients:
            self._secrets[author] = self._agreement.agree(author, announcement)

    def key_names(self) -> frozenset[str]:
        """The pairs that this client belongs to."""
        return frozenset(mask_name(self.party, peer) for peer in self.setup.clients if peer != self.party)

    @stage(opens=True, each="header.round")
    def mask(self, header: Header, words: Words) -> Words:
        """The words under all of this client's masks of a round.

        Raises:
            ProtocolAbort: The round was sealed already, or its participants are not acceptable.
        """
        peers = check_peers(self.party, header, self._secrets, least=2)
        about = (_PROTOCOL, self.setup.session, header.round, participants_digest(header))
        return add_expanded(words, pair_masks(self.party, self._secrets, peers, *about))


@register("layer", "masked")
@dataclass(frozen=True, kw_only=True)
class Masked(AggregationLayer):
    """Pairwise masks in the ring of integers modulo ``2^bits``; the server reads only the weighted mean.

    All participants of a round must be heard, or the round aborts.

    Attributes:
        bits: The size of the ring's elements, 32 or 64.
        fractional_bits: The resolution of a weighted coordinate is ``2^-fractional_bits``.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="masked",
        idea="Clients add pairwise masks that cancel in the sum, so the server reads only the weighted mean.",
        source=Source(
            paper="Bonawitz et al.: Practical secure aggregation for privacy-preserving machine learning, "
            "CCS 2017, eprint 2017/281",
            year=2017,
            where="section 4, the protocol with pairwise masks alone, before dropouts are handled",
        ),
        claim="The server, and whoever hears everything, read the sum over the participants and no part of it, "
        "unless all but one of them collude.",
        assumption="computational",
        hides="single updates from the server and the network",
        does_not=(
            "It does not survive a dropout.",
            "It does not hide the sum, or numbers of records, which are taken as public.",
            "It does not detect altered payloads or lying clients.",
            "It does not notice that a server sent clients different models.",
            "It does not withstand a later quantum computer, which breaks X25519.",
        ),
        cost="4 or 8 bytes for each parameter, one key agreement for each pair, one mask for each pair and round",
    )
    takes = frozenset({"plain"})
    gives = "masked"
    leaves = "sum"
    additive = True
    remote = True

    bits: int = 64
    fractional_bits: int = 20

    def __post_init__(self) -> None:
        self.words  # noqa: B018 - refuses sizes that are out of range

    @property
    def grid(self) -> float:
        """The resolution of a weighted coordinate."""
        return 1 / self.words.scale

    @property
    def words(self) -> FixedPoint:
        """How numbers become elements of the ring."""
        return FixedPoint(bits=self.bits, fractional_bits=self.fractional_bits)

    def check(self, pipeline: Pipeline) -> None:
        """Refuse rounds with a single participant.

        Raises:
            IncompatibleStack: A round has fewer than two participants.
        """
        if pipeline.federation.n_participants < 2:
            raise IncompatibleStack(
                "'masked' needs two clients in a round, or the sum is one client's update",
                got=f"{pipeline.federation.n_participants} participant",
                fix="raise 'participation' or 'n_clients'",
            )

    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """A party's state.

        Raises:
            ConfigError: The largest weight does not fit into the ring.
        """
        self.words.check_room("masked", setup)
        return _Client(setup, identity, secrets) if identity.party in setup.clients else _Server(setup)

    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """A client's masked words, and what they carry.

        Raises:
            ProtocolAbort: The round was sealed already, or its participants are not acceptable.
            UpdateError: A weighted coordinate does not fit into the ring.
        """
        assert isinstance(state, _Client)
        words = self.words.encode(
            update, weight, n=len(state.setup.clients), secrets=state.secrets, checked=checked
        )
        return state.mask(header, words), self.words.inside(words, update)

    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The sum of the masked words.

        Raises:
            ProtocolAbort: A participant is missing, a stranger sent something, or a payload is malformed.
        """
        missing = sorted(set(header.participants) - set(payloads))
        if missing or len(payloads) != len(header.participants):
            raise LostRound(
                f"masked aggregation of round {header.round} is incomplete",
                got=f"nothing from {', '.join(map(str, missing))}" if missing else "payloads of strangers",
                expected="every participant: their masks do not cancel otherwise",
            )
        assert isinstance(state, _Server)
        total = np.zeros(state.setup.n_params + 1, dtype=self.words.dtype)
        for party, payload in payloads.items():
            if (
                not isinstance(payload, np.ndarray)
                or payload.dtype != total.dtype
                or payload.shape != total.shape
            ):
                raise LostRound(
                    f"the masked update of {party} is malformed",
                    expected=f"{total.size} words of {self.bits} bits",
                )
            total = total + payload
        return total

    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and the weight.

        Raises:
            ProtocolAbort: The weight is impossible, so a payload was altered.
        """
        assert isinstance(state, _Server)
        assert isinstance(combined, np.ndarray)
        most = float(state.setup.max_count * len(header.participants))
        return self.words.read(combined.astype(self.words.dtype, copy=False), most=most)

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """A word for each parameter and the weight."""
        update = self.bits // 8 * (load.n_params + 1)
        each = Traffic().then(down={"model": load.model_bytes}, up={"update": update})
        return Traffic.of_rounds(load.rounds, each=each)

    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The sender's pairs with the other participants: all of them open its vector."""
        return frozenset(mask_name(sender, party) for party in participants if party != sender)

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """The sum of a round for whoever holds the masked vectors of all its participants.

        The masks are those of a complete graph, so no smaller set cancels among itself. What a coalition of
        clients takes off the sum besides, its own updates, is the closure's business.
        """
        return derived_sums(items, facts, partial(self._sum, facts.counts))

    def _sum(self, counts: Sequence[float], heard: Heard) -> Sum | None:
        vectors = [item.value for item in heard.uploads.values() if isinstance(item.value, np.ndarray)]
        if not heard.complete or len(vectors) < len(heard.uploads):
            return None
        total = np.stack(vectors).astype(self.words.dtype).sum(axis=0, dtype=self.words.dtype)
        mean, weight = self.words.read(total)
        if weight != sum(counts[member] for member in heard.members):
            return None  # a lost round: masks that others did not cancel, and no sum
        return Sum(mean=mean, weight=weight, said=list(heard.uploads.values())[-1])

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """What the masks hide from this observer."""
        return masked_rows(self.card.name, context)
