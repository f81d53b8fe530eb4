"""Layers: the places in a round where a defense or protocol acts.

A layer is a frozen, public configuration. Secrets live in states that :meth:`SecretLayer.open` makes for
each party from that party's own source of secrets. The base classes stand for the places in the round:

========================  =========================================================  ====================
class                     acts on                                                    binds a liar?
========================  =========================================================  ====================
``DelegationLayer``       the execution of circuits, at every local step             no
``AuditLayer``            models that clients get from each other                    no
``ExecutionLayer``        a client's own execution of circuits                       no
``RecordLayer``           the records of every local step                            no
``GradientLayer``         per-sample gradients, at every local step                  no
:class:`ShapeLayer`       a client's update before it is sealed                      no
``StatementLayer``        what a client says that it trains                          words, not deeds
:class:`AggregationLayer` the sealed update: weight, quantise, mask or encrypt       form, not numbers
:class:`LinkLayer`        every message between two parties, up and down             yes
:class:`BoundLayer`       the updates that the server opened                         yes
:class:`AggregatorLayer`  the updates or their sum: the server's rule                yes
:class:`NoiseLayer`       the server's step                                          yes
``ServingLayer``          the answers of the final model                             yes
========================  =========================================================  ====================

The kinds without a link have modules of their own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, final

import torch

from qflsec.accounting import LedgerContext, LedgerRow
from qflsec.base import DefenseCard, ProtocolAbort, Secrets
from qflsec.federation.control import Control, Question
from qflsec.federation.identity import Identity
from qflsec.federation.parties import Header, PartyState, Setup
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.streams import Streams
from qflsec.federation.updates import RoundUpdates, SummedUpdates
from qflsec.threat import Item, LaneFacts, Party, Payload, Traffic, Workload
from qflsec.threat.codec import ENCODING_BYTES

__all__ = [
    "AggregationLayer",
    "AggregatorLayer",
    "BoundLayer",
    "ClientLayer",
    "Layer",
    "Leaves",
    "LinkLayer",
    "NoiseLayer",
    "PayloadForm",
    "SecretLayer",
    "ServerLayer",
    "ShapeLayer",
    "Streams",
]

PayloadForm = Literal["plain", "integers", "masked", "ciphertext", "sealed"]
Leaves = Literal["individual", "groups", "sum", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Layer(ABC):
    """A defense or protocol as a public configuration.

    Attributes:
        topologies: The topologies in which it does what its card says, None for any: not thought through is incompatible.
        imports: Modules that it imports where it needs them, as they take seconds; workers start with them.
    """

    card: ClassVar[DefenseCard]
    topologies: ClassVar[frozenset[str] | None] = frozenset({"star"})
    imports: ClassVar[tuple[str, ...]] = ()

    def check(self, pipeline: Pipeline) -> None:  # noqa: B027 - most layers fit every pipeline
        """Refuse a pipeline under which the layer cannot keep its promise.

        Raises:
            IncompatibleStack: The pipeline and the layer do not fit.
        """

    def remarks(self, pipeline: Pipeline, traffic: Traffic | None = None) -> tuple[str, ...]:
        """What is to be said before a run, such as what would end it; nothing by default.

        Args:
            pipeline: A pipeline that the layer fits.
            traffic: For a link layer, what it gets to carry.
        """
        return ()

    def ledger(self, context: LedgerContext) -> tuple[LedgerRow, ...]:
        """The guarantees that this layer gives against one observer; none by default."""
        return ()

    @final
    def to_config(self) -> dict[str, Any]:
        """The layer's name and every parameter, JSON-able."""
        return {"name": self.card.name, **asdict(self)}


class ClientLayer(Layer):
    """A layer at the clients.

    Attributes:
        takes: The payload forms that it accepts.
        gives: The payload form that it makes; None where it leaves the form as it is.
        leaves: What it leaves the server to see of the updates.
        alone: Whether its guarantee speaks of all that a client sends, so that numbers beside the update would void it.
    """

    alone: ClassVar[bool] = False
    takes: ClassVar[frozenset[PayloadForm]] = frozenset({"plain"})
    gives: ClassVar[PayloadForm | None] = None
    leaves: ClassVar[Leaves] = "individual"


class ShapeLayer(ClientLayer):
    """Acts on a client's update; voluntary, so a corrupted client skips it."""

    @abstractmethod
    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The update to release.

        Shapes:
            update: ``(lane, client, P)``
            returns: ``(lane, client, P)``
        """


class SecretLayer(ClientLayer):
    """A layer with secrets; each party has a state of its own."""

    def quantum_ends(self, setup: Setup, secrets: Secrets) -> Mapping[Party, object]:
        """The ends of the quantum links that one run of this layer has between its parties; none by default.

        The links stand for nature: neither party could make them alone. Each gets its end in :attr:`Setup.quantum`.

        Args:
            setup: What every party knows.
            secrets: The links' own source, which no party shares.
        """
        return {}

    @abstractmethod
    def open(self, setup: Setup, identity: Identity, secrets: Secrets) -> PartyState:
        """One party's state, made from nothing but public set-up and its own secrets."""

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """What crosses a client's link with the server, at most; None where it cannot be told.

        Without announcements, which come before there are keys. A corrupted party may send anything.

        Args:
            load: What a run has to carry.
            inner: What crosses under the layers before this one.
        """
        return None


class LinkLayer(SecretLayer):
    """Protects every message between two parties on the network, up and down."""

    takes = frozenset({"plain", "integers", "masked", "ciphertext", "sealed"})
    gives = "sealed"

    def sealed_bytes(self, n_bytes: int) -> int | None:
        """The size of a sealed message of so many encoded bytes, at most; None where it cannot be told."""
        return None

    def traffic(self, load: Workload, inner: Traffic) -> Traffic | None:
        """The same messages, sealed."""
        if self.sealed_bytes(0) is None:
            return None
        return inner.sized(lambda n_bytes: self.sealed_bytes(n_bytes + ENCODING_BYTES) or 0)

    def check_traffic(self, traffic: Traffic | None) -> None:
        """Refuse a run that the link's keys cannot carry, before its first round; none by default.

        Raises:
            IncompatibleStack: There is too little key, or what the link gets to carry cannot be told.
        """

    @abstractmethod
    def key_name(self, sender: Party, receiver: Party) -> str:
        """The name of the key that opens what ``sender`` sends to ``receiver``."""

    @abstractmethod
    def seal(self, state: PartyState, receiver: Party, payload: bytes, header: bytes) -> bytes:
        """The sender's half."""

    @abstractmethod
    def unseal(self, state: PartyState, sender: Party, blob: bytes, header: bytes) -> bytes:
        """The receiver's half.

        Raises:
            ProtocolAbort: The blob is not what the sender sealed under this header.
        """


class AggregationLayer(SecretLayer):
    """Seals a client's weighted update so that only an aggregate can be opened.

    Attributes:
        weighted: Whether a client counts by its number of examples; every client counts the same where not.
        additive: Whether the aggregate is the exact sum, with the weights that ``weighted`` states, of what the honest
            clients' layers gave, up to a grid of fixed point: nothing that was given is clipped, scaled, noised or
            approximated, so that noise in it adds up. Not stated means no.
        remote: Whether clients may be other processes: all that they say goes through :meth:`answer` and :meth:`seal`.
    """

    weighted: ClassVar[bool] = True
    additive: ClassVar[bool] = False
    remote: ClassVar[bool] = False

    @property
    def grid(self) -> float:
        """The step to which a client's weighted coordinates are rounded before they are added; 0 where they are not."""
        return 0.0

    @abstractmethod
    def seal(
        self, state: PartyState, update: torch.Tensor, weight: float, header: Header, *, checked: bool = True
    ) -> tuple[Payload, torch.Tensor]:
        """A client's half.

        Args:
            state: What the client holds.
            update: Its update.
            weight: Its number of examples.
            header: What the payload is bound to.
            checked: Whether the client's own code refuses, clips or perturbs numbers before it seals them. A corrupted
                client seals the nearest words that there are, and only what others check holds it back.

        Shapes:
            update: ``(P,)``
            returns: the sealed payload, and the vector ``(P + 1,)`` that whoever removes the protection
                reads: the update as rounded, then the weight.
        """

    @abstractmethod
    def combine(self, state: PartyState, payloads: Mapping[Party, Payload], header: Header) -> Payload:
        """The server's half: the payload of the aggregate.

        Raises:
            ProtocolAbort: The payloads cannot be combined.
        """

    @abstractmethod
    def reveal(self, state: PartyState, combined: Payload, header: Header) -> tuple[torch.Tensor, float]:
        """The weighted mean and its weight, by the server (leaves ``sum``) or by a client (``nothing``)."""

    def peers(self, state: PartyState, header: Header) -> tuple[Party, ...]:
        """The participants with whom a client seals, itself included; all by default."""
        return header.participants

    @abstractmethod
    def keys(self, sender: Party, participants: tuple[Party, ...]) -> frozenset[str]:
        """The names of the keys that together open what this client sealed."""

    def keys_needed(self, sender: Party, participants: tuple[Party, ...]) -> int | None:
        """How many of :meth:`keys` are enough, where any so many are; None where all are needed."""
        return None

    def answer(self, state: PartyState, question: Question) -> bytes:
        """A client's half of what :meth:`prepare` and :meth:`conclude` ask, or a :class:`ProtocolAbort`."""
        raise ProtocolAbort(f"{self.card.name!r} has no step of this name", got=question.step)

    def prepare(self, control: Control) -> frozenset[Party]:
        """Talk before the updates of a round are sealed, where a protocol has such phases.

        Returns:
            The clients that are to seal; all participants by default.

        Raises:
            ProtocolAbort: The parties could not agree.
        """
        return frozenset(control.participants)

    def conclude(self, control: Control, payloads: Mapping[Party, Payload]) -> Mapping[Party, Payload]:
        """Talk after the updates arrived and before they are combined.

        Args:
            control: The parties, and their way to talk.
            payloads: What arrived, by sender.

        Returns:
            The payloads that count; all by default.

        Raises:
            ProtocolAbort: The parties could not agree.
        """
        return payloads

    def turned_away(self, state: PartyState) -> Mapping[int, ProtocolAbort]:
        """Why the server left clients out of the round, or proved their lie too late for that, by their index.

        Args:
            state: What the server holds.
        """
        return {}

    def derive(
        self, items: Sequence[Item], facts: LaneFacts, parties: frozenset[Party], held: frozenset[str]
    ) -> Sequence[Item]:
        """What a coalition can compute from sealed payloads without opening any; nothing by default."""
        return ()


class ServerLayer(Layer):
    """A layer at the server.

    Attributes:
        accepts: What it can work on: ``individual`` updates, or their ``sum``.
        over_groups: Whether means of groups may stand for updates; not where it follows clients or bounds what one adds.
        parts: Whether it does what its card says where clients send parts of the model.
        linear: Whether the aggregate stays the weighted mean of what the clients sent.
        asks: What clients report of themselves beside their updates, such as ``"loss"``; nothing checks what they say.
    """

    asks: ClassVar[frozenset[str]] = frozenset()
    accepts: ClassVar[frozenset[Leaves]] = frozenset({"individual"})
    over_groups: ClassVar[bool] = True
    parts: ClassVar[bool] = False
    linear: ClassVar[bool] = False

    def works_on(self, leaves: Leaves) -> bool:
        """Whether it can work on what the clients' layers leave."""
        return ("individual" if leaves == "groups" and self.over_groups else leaves) in self.accepts


class BoundLayer(ServerLayer):
    """Bounds or filters the updates before the rule.

    Attributes:
        regroups: Whether the rule gets means of groups in place of clients.
    """

    regroups: ClassVar[bool] = False

    @property
    def separate(self) -> bool:
        """Whether what happens to an update depends on that update alone; not stated means no."""
        return False

    @property
    def validation_records(self) -> int:
        """On how many records of its own, at most, the server tries out models for it; none by default."""
        return 0

    @abstractmethod
    def bound(self, batch: RoundUpdates) -> RoundUpdates:
        """The updates that the rule gets to see."""


class AggregatorLayer(ServerLayer):
    """The server's rule.

    Attributes:
        needs_separate: Whether its guarantee needs every update to be treated apart from the others before it.
        acts_on_nobody: Whether it makes a step of a round in which no client was sampled.
    """

    needs_separate: ClassVar[bool] = False
    acts_on_nobody: ClassVar[bool] = False

    @property
    def root_records(self) -> int:
        """On how many records of its own, at most, the server trains for the rule in every round; none by default."""
        return 0

    @abstractmethod
    def start(self, n_params: int) -> object:
        """The rule's state before the first round; None where it has none."""

    @abstractmethod
    def aggregate(self, batch: RoundUpdates | SummedUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step and the next state.

        Shapes:
            returns: a step ``(P,)``
        """


class NoiseLayer(ServerLayer):
    """Perturbs the server's step."""

    accepts = frozenset({"individual", "sum"})

    @abstractmethod
    def perturb(self, step: torch.Tensor, batch: RoundUpdates | SummedUpdates) -> torch.Tensor:
        """The step with noise.

        Shapes:
            step: ``(P,)``
        """
