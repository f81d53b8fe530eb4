"""Uploads: updates on their way from the clients to the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from qflsec.base import ProtocolAbort, UpdateError
from qflsec.federation.control import Control
from qflsec.federation.groups import GroupMean
from qflsec.federation.layers import AggregationLayer
from qflsec.federation.parties import Header
from qflsec.federation.session import Session
from qflsec.federation.stack import Stack
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

__all__ = ["Opened", "Uploads"]

_NO_KEYS: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What the server could open of one round of one run.

    Attributes:
        ids: The clients whose updates arrived.
        updates: Individual updates, where the stack leaves them.
        counts: The number of examples that each client states.
        mean: The weighted mean, where the stack leaves the sum; of ``nothing``, what a client reads.
        weight: The weight behind the mean.
        groups: The mean of each group, where the stack leaves sums over groups.
        combined: The sealed aggregate, where the server cannot open it.
        header: What the aggregate is bound to.

    Shapes:
        updates: ``(n, P)``; counts: ``(n,)``; mean: ``(P,)``
    """

    ids: tuple[int, ...]
    updates: torch.Tensor | None = None
    counts: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    weight: float = 0.0
    groups: tuple[GroupMean, ...] = ()
    combined: Payload | None = None
    header: Header | None = None


class Uploads:
    """The upload step of a batch.

    Args:
        stack: The stack.
        session: The parties' states.
        network: The network.
    """

    def __init__(self, *, stack: Stack, session: Session, network: Network) -> None:
        self._layer = stack.aggregation
        self._hidden = stack.leaves == "nothing"
        self._session = session
        self._network = network
        self._round = 0
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
    ) -> None:
        """Begin a round, with what the aggregation layer has to say before updates are sealed.

        Args:
            round_index: The round.
            participants: Who takes part.
            models: What each client received.
            bases: Which version that was.

        Shapes:
            participants: ``(lane, client)``; models: ``(lane, client, P)``
        """
        self._round = round_index
        self._participants, self._models, self._bases = participants, models, bases
        self._arrived = []
        self._sealing = participants.clone()
        if self._layer is None:
            return
        for lane in range(participants.shape[0]):
            if lane in self._network.aborts:
                self._sealing[lane] = False
                continue
            try:
                sealing = self._layer.prepare(self._control(self._layer, lane))
            except ProtocolAbort as abort:
                self._network.aborts[lane] = str(abort)
                sealing = frozenset()
            for index in range(participants.shape[1]):
                self._sealing[lane, index] &= client(index) in sealing

    def _control(self, layer: AggregationLayer, lane: int) -> Control:
        parties = self._parties(lane)
        return Control(
            states=lambda party: self._session.state(lane, layer, party),
            network=self._network,
            lane=lane,
            round_index=self._round,
            participants=parties,
            models={party: self._models[lane, party.index] for party in parties},
        )

    def send(self, updates: torch.Tensor, counts: torch.Tensor, now: torch.Tensor) -> None:
        """Seal and send the updates of the clients whose turn it is.

        Shapes:
            updates: ``(lane, client, P)``; counts: ``(lane, client)``; now: ``(lane, client)``
        """
        now = now & self._sealing
        n_lanes, n = now.shape
        lanes = list(range(n_lanes))
        plain = torch.cat([updates, counts[..., None].to(updates.dtype)], dim=-1)
        envelope = Envelope.plain(plain) if self._layer is None else self._seal(self._layer, plain, now)
        delivery = self._network.send(
            envelope,
            kind="update",
            round_index=self._round,
            lanes=lanes,
            slots=[Slot(client(index), SERVER) for index in range(n)],
            present=now.tolist(),
            members=[[frozenset({index}) for index in range(n)] for _ in lanes],
            versions=self._bases,
        )
        self._arrived.append((delivery, now))

    def _seal(self, layer: AggregationLayer, plain: torch.Tensor, now: torch.Tensor) -> Envelope:
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
                sender = client(index)
                header = Header(round=self._round, sender=sender, participants=parties)
                vector = plain[lane, index]
                try:
                    state = self._session.state(lane, layer, sender)
                    payload, read = layer.seal(state, vector[:-1], float(vector[-1]), header)
                except (ProtocolAbort, UpdateError) as abort:
                    self._network.aborts[lane] = str(abort)
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

    def _parties(self, lane: int) -> tuple[Party, ...]:
        return tuple(client(index) for index in torch.nonzero(self._participants[lane]).flatten().tolist())

    def _received(self, lane: int) -> dict[int, Payload]:
        found: dict[int, Payload] = {}
        for delivery, now in self._arrived:
            for index in torch.nonzero(now[lane]).flatten().tolist():
                value = delivery.at(lane, index)
                if value is not None:
                    found[index] = value
        return dict(sorted(found.items()))

    def open(self, lane: int) -> Opened:
        """What the server can open of what arrived for one run.

        Raises:
            ProtocolAbort: Nothing arrived, or the payloads cannot be combined.
            UpdateError: An update has the wrong shape.
        """
        received = self._received(lane)
        if not received:
            raise ProtocolAbort(f"no update arrived in round {self._round}")
        ids = tuple(received)
        if self._layer is None:
            vectors = [value for value in received.values() if isinstance(value, torch.Tensor)]
            if len(vectors) < len(ids) or len({tuple(vector.shape) for vector in vectors}) > 1:
                shapes = sorted({str(tuple(vector.shape)) for vector in vectors})
                raise UpdateError(f"updates of round {self._round} differ in shape", got=", ".join(shapes))
            stacked = torch.stack(vectors)
            return Opened(ids=ids, updates=stacked[:, :-1], counts=stacked[:, -1])
        header = Header(round=self._round, sender=SERVER, participants=self._parties(lane))
        payloads: Mapping[Party, Payload] = {client(index): payload for index, payload in received.items()}
        payloads = self._layer.conclude(self._control(self._layer, lane), payloads)
        ids = tuple(party.index for party in payloads)
        combined = self._layer.combine(self._session.state(lane, self._layer, SERVER), payloads, header)
        if self._layer.leaves == "groups":
            groups = self._layer.reveal_groups(
                self._session.state(lane, self._layer, SERVER), combined, header
            )
            return Opened(
                ids=tuple(i for group in groups for i in group.members), groups=groups, header=header
            )
        reader = client(ids[0]) if self._hidden else SERVER
        mean, weight = self._layer.reveal(self._session.state(lane, self._layer, reader), combined, header)
        return Opened(
            ids=ids,
            mean=mean,
            weight=weight,
            combined=combined if self._hidden else None,
            header=header,
        )

    def sealed_aggregate(self, opened: Sequence[Opened | None], n_clients: int) -> MessageLayer:
        """The layer around the model when the server sends on an aggregate that it cannot open."""
        assert self._layer is not None
        values: list[list[Payload]] = []
        keys: list[list[frozenset[str]]] = []
        for entry in opened:
            payload: Payload = b""
            names = _NO_KEYS
            if entry is not None and entry.combined is not None and entry.header is not None:
                payload, names = entry.combined, self._layer.keys(SERVER, entry.header.participants)
            values.append([payload] * n_clients)
            keys.append([names] * n_clients)
        return MessageLayer(form=str(self._layer.gives), value=values, keys=keys)

    def client_reads(self, lane: int, index: int, payload: Payload, opened: Opened) -> torch.Tensor:
        """The mean that one client reads in a sealed aggregate, with its own keys.

        Raises:
            ProtocolAbort: The aggregate is not authentic.
        """
        assert self._layer is not None
        assert opened.header is not None
        state = self._session.state(lane, self._layer, client(index))
        return self._layer.reveal(state, payload, opened.header)[0]
