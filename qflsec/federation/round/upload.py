"""Uploads: updates on their way from the clients to the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from qflsec.base import LostRound, ProtocolAbort, UpdateError
from qflsec.federation.control import Control
from qflsec.federation.groups import LeavesGroups
from qflsec.federation.layers import AggregationLayer, SecretLayer
from qflsec.federation.parties import Header
from qflsec.federation.payloads import Sent, sent_raw
from qflsec.federation.round.opened import Opened, open_plain
from qflsec.federation.round.session import Session
from qflsec.federation.stack import Stack
from qflsec.federation.statements import Asked
from qflsec.threat import (
    SERVER,
    Delivery,
    Envelope,
    MessageLayer,
    Network,
    Party,
    Payload,
    Slot,
    Version,
    client,
)

__all__ = ["Uploads"]

_NO_KEYS: frozenset[str] = frozenset()


class Uploads:
    """The upload step of a batch.

    Args:
        stack: The stack.
        session: The parties' states.
        network: The network.
        aggregator: Whom the clients send to.
        beside: How many entries of a metric clients send behind their updates.
    """

    def __init__(
        self, *, stack: Stack, session: Session, network: Network, aggregator: Party = SERVER, beside: int = 0
    ) -> None:
        self._layer, self._statements = stack.aggregation, stack.statements
        self._beside = beside
        self._hidden, self._asks = stack.leaves == "nothing", stack.asks
        self._session = session
        self._network, self._aggregator = network, aggregator
        self._round = 0
        self._lost: dict[int, LostRound] = {}
        self._refused: dict[int, dict[int, str]] = {}
        self._arrived: list[tuple[Delivery, torch.Tensor]] = []
        self._participants: torch.Tensor = torch.zeros(0, 0, dtype=torch.bool)
        self._models: torch.Tensor = torch.zeros(0, 0, 0)
        self._sealing: torch.Tensor = self._participants
        self._bases: Sequence[Sequence[Version | None]] = ()

    def start(
        self,
        round_index: int,
        participants: torch.Tensor,
        models: torch.Tensor,
        bases: Sequence[Sequence[Version | None]],
        asked: Asked | None = None,
    ) -> None:
        """Begin a round, with what the aggregation layer has to say before updates are sealed.

        Args:
            round_index: The round.
            participants: Who takes part.
            models: What each client received.
            bases: Which version that was.
            asked: What clients are asked to state; None where nobody asks.

        Shapes:
            participants: ``(lane, client)``; models: ``(lane, client, P)``
        """
        self._round = round_index
        self._participants, self._models, self._bases = participants, models, bases
        self._arrived, self._lost, self._refused = [], {}, {}
        if self._statements and asked is not None:
            self._ask(asked)
        self._sealing = self._participants.clone()
        if self._layer is None:
            return
        for lane in range(participants.shape[0]):
            if lane in self._network.aborts or not bool(self._participants[lane].any()):
                self._sealing[lane] = False
                continue
            try:
                sealing = self._layer.prepare(self._control(self._layer, lane))
            except LostRound as lost:
                self._lost[lane], sealing = lost, frozenset()
            except ProtocolAbort as abort:
                self._network.aborts[lane] = abort
                sealing = frozenset()
            for index in range(participants.shape[1]):
                self._sealing[lane, index] &= client(index) in sealing

    def _ask(self, asked: Asked) -> None:
        """Have clients state what they train, and leave out those whose statement the server refuses."""
        self._participants = self._participants.clone()
        for lane in range(self._participants.shape[0]):
            for layer in self._statements:
                if lane in self._network.aborts:
                    continue
                try:
                    refused = layer.collect(self._control(layer, lane), asked, lane)
                except ProtocolAbort as abort:
                    self._network.aborts[lane] = abort
                    continue
                self._refused.setdefault(lane, {}).update(refused)
                self._participants[lane, list(refused)] = False

    def _control(self, layer: SecretLayer, lane: int) -> Control:
        parties = self._parties(lane)
        return Control(
            states=lambda party: self._session.state(lane, layer, party),
            network=self._network,
            lane=lane,
            round_index=self._round,
            participants=parties,
            models={party: self._models[lane, party.index] for party in parties},
        )

    def send(self, sent: Sent, counts: torch.Tensor, now: torch.Tensor) -> None:
        """Seal and send the updates of the clients whose turn it is.

        Shapes:
            counts: ``(lane, client)``; now: ``(lane, client)``
        """
        now = now & self._sealing
        for place, payload in sent.irregular.items():
            now[place] &= payload is not None
        n_lanes, n = now.shape
        lanes = list(range(n_lanes))
        if self._layer is None:
            envelope = Envelope.plain(sent.messages(counts, now))
        else:
            envelope = self._seal(self._layer, sent.numbers(counts), sent, now)
        delivery = self._network.send(
            envelope,
            kind="update",
            round_index=self._round,
            lanes=lanes,
            slots=[Slot(client(index), self._aggregator) for index in range(n)],
            present=now.tolist(),
            members=[[frozenset({index}) for index in range(n)] for _ in lanes],
            versions=self._bases,
            reports=self._asks,
        )
        self._arrived.append((delivery, now))

    def _seal(self, layer: AggregationLayer, plain: torch.Tensor, sent: Sent, now: torch.Tensor) -> Envelope:
        inner: list[list[Payload]] = []
        outer: list[list[Payload]] = []
        keys: list[list[frozenset[str]]] = []
        enough: list[list[int | None]] = []
        for lane in range(now.shape[0]):
            rows: list[tuple[Payload, Payload, frozenset[str], int | None]] = []
            parties = self._parties(lane)
            for index in range(now.shape[1]):
                rows.append((b"", b"", _NO_KEYS, None))
                if not now[lane, index] or lane in self._network.aborts:
                    continue
                odd = sent.irregular.get((lane, index))
                if odd is not None:
                    # there is no seal for what is no update: it goes out as it is
                    rows[-1] = (sent_raw(odd), sent_raw(odd), _NO_KEYS, None)
                    continue
                sender = client(index)
                header = Header(round=self._round, sender=sender, participants=parties)
                vector = plain[lane, index]
                bound = (lane, index) not in sent.corrupted
                try:
                    state = self._session.state(lane, layer, sender)
                    payload, read = layer.seal(state, vector[:-1], float(vector[-1]), header, checked=bound)
                except ProtocolAbort as abort:
                    self._network.aborts[lane] = abort
                    continue
                except UpdateError as error:
                    # the client says itself that it has nothing to send
                    self._network.aborts[lane] = ProtocolAbort(str(error), caused_by=sender)
                    continue
                peers = layer.peers(state, header)
                rows[-1] = (read, payload, layer.keys(sender, peers), layer.keys_needed(sender, peers))
            inner.append([row[0] for row in rows])
            outer.append([row[1] for row in rows])
            keys.append([row[2] for row in rows])
            enough.append([row[3] for row in rows])
        none = [[_NO_KEYS] * now.shape[1] for _ in range(now.shape[0])]
        return Envelope(
            layers=(
                MessageLayer(form="plain", value=inner, keys=none),
                MessageLayer(form=str(layer.gives), value=outer, keys=keys, enough=enough),
            )
        )

    def participants(self, lane: int) -> tuple[int, ...]:
        """The clients that take part in the round of one run."""
        return tuple(torch.nonzero(self._participants[lane]).flatten().tolist())

    def _parties(self, lane: int) -> tuple[Party, ...]:
        return tuple(client(index) for index in self.participants(lane))

    def _received(self, lane: int) -> dict[int, Payload]:
        found: dict[int, Payload] = {}
        for delivery, now in self._arrived:
            for index in torch.nonzero(now[lane]).flatten().tolist():
                value = delivery.at(lane, index)
                if value is not None:
                    found[index] = value
        return dict(sorted(found.items()))

    def open(self, lane: int) -> Opened:
        """What the server can open of what arrived for one run; of an aggregate that it cannot, what a client reads.

        Raises:
            ProtocolAbort: The payloads cannot be combined, or there are none.
        """
        opened = self.gather(lane)
        if opened.combined is None:
            return opened
        mean, weight = self._reveal(lane, client(opened.ids[0]), opened.combined, opened)
        return replace(opened, mean=mean, weight=weight)

    def gather(self, lane: int) -> Opened:
        """What the server alone makes of what arrived for one run.

        Raises:
            LostRound: The round has no result.
            ProtocolAbort: Nothing that counts arrived, or the payloads cannot be combined.
        """
        if lane in self._lost:
            raise self._lost[lane]
        received = self._received(lane)
        if self._layer is not None and not received:
            raise ProtocolAbort(f"no update arrived in round {self._round}")
        opened = (
            open_plain(received, self._models, self._asks, beside=self._beside)
            if self._layer is None
            else self._unseal(lane, received)
        )
        opened = replace(opened, malformed={**opened.malformed, **self._refused.get(lane, {})})
        why = self._turned_away(lane)
        counted = {*opened.ids, *opened.malformed}
        absent = [index for index in self.participants(lane) if index not in counted]
        return replace(
            opened,
            missing={i: str(why.get(i, "its update did not arrive")) for i in absent},
            proved=tuple(abort for abort in why.values() if abort.caused_by is not None),
        )

    def _turned_away(self, lane: int) -> Mapping[int, ProtocolAbort]:
        layer = self._layer
        return {} if layer is None else layer.turned_away(self._session.state(lane, layer, self._aggregator))

    def heard(self, lane: int) -> tuple[int, ...]:
        """The clients whose vectors arrived and were not turned away: those of a sum that a lost round may have had."""
        return tuple(index for index in self._received(lane) if index not in self._turned_away(lane))

    def _unseal(self, lane: int, received: Mapping[int, Payload]) -> Opened:
        assert self._layer is not None
        header = Header(round=self._round, sender=self._aggregator, participants=self._parties(lane))
        payloads: Mapping[Party, Payload] = {client(index): payload for index, payload in received.items()}
        payloads = self._layer.conclude(self._control(self._layer, lane), payloads)
        ids = tuple(party.index for party in payloads)
        combined = self._layer.combine(
            self._session.state(lane, self._layer, self._aggregator), payloads, header
        )
        if isinstance(self._layer, LeavesGroups):
            groups = self._layer.reveal_groups(
                self._session.state(lane, self._layer, self._aggregator), combined, header
            )
            return Opened(
                ids=tuple(i for group in groups for i in group.members), groups=groups, header=header
            )
        opened = Opened(ids=ids, header=header)
        if self._hidden:
            return replace(opened, combined=combined)
        mean, weight = self._reveal(lane, self._aggregator, combined, opened)
        if self._beside:
            return replace(opened, mean=mean[: -self._beside], metrics=mean[-self._beside :], weight=weight)
        return replace(opened, mean=mean, weight=weight)

    def sealed_aggregate(self, opened: Sequence[Opened | None], n_clients: int) -> MessageLayer:
        """The layer around the model when the server sends on an aggregate that it cannot open."""
        assert self._layer is not None
        values: list[list[Payload]] = []
        keys: list[list[frozenset[str]]] = []
        for entry in opened:
            payload: Payload = b""
            names = _NO_KEYS
            if entry is not None and entry.combined is not None and entry.header is not None:
                payload, names = entry.combined, self._layer.keys(self._aggregator, entry.header.participants)
            values.append([payload] * n_clients)
            keys.append([names] * n_clients)
        return MessageLayer(form=str(self._layer.gives), value=values, keys=keys)

    def client_reads(self, lane: int, index: int, payload: Payload, opened: Opened) -> torch.Tensor:
        """The mean that one client reads in a sealed aggregate, with its own keys.

        Raises:
            ProtocolAbort: The aggregate is not authentic.
        """
        return self._reveal(lane, client(index), payload, opened)[0]

    def _reveal(
        self, lane: int, reader: Party, payload: Payload, opened: Opened
    ) -> tuple[torch.Tensor, float]:
        assert self._layer is not None
        assert opened.header is not None
        return self._layer.reveal(self._session.state(lane, self._layer, reader), payload, opened.header)
