"""One round of any aggregation protocol on random vectors: the real parties, a real network, and a meter on both.

Nothing is trained. Each client holds a random vector and a random number of examples; the layer's own code runs
for every party, messages cross :class:`qflsec.threat.Network`, and the transcript says who holds what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from qflsec.base import ConfigError, ProtocolAbort
from qflsec.federation import AggregationLayer, ClientLayer, Control, Header, Stack
from qflsec.federation.session import Session
from qflsec.protocols.round_data import random_updates
from qflsec.protocols.secagg.meter import MeteredNetwork, Sent
from qflsec.threat import (
    SERVER,
    Delivery,
    Envelope,
    Granted,
    LaneFacts,
    MessageKind,
    MessageLayer,
    Origin,
    Party,
    Payload,
    Slot,
    Trained,
    Transcript,
    Version,
    client,
)

__all__ = ["MAX_COUNT", "Namer", "RoundReport", "run_round"]

MAX_COUNT = 100
"""The largest number of examples of a client."""
Namer = Callable[[bytes], str]
"""What a control message of a protocol is called."""
_NO_KEYS: frozenset[str] = frozenset()
_START: Version = "0"
_NEXT: Version = "1"


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundReport:
    """What happened in one round.

    Attributes:
        status: ``"sum"``, or ``"aborted"``.
        reason: Why it aborted; empty where it did not.
        survivors: The clients whose vectors are in the sum.
        dropped: The clients that dropped out.
        max_error: The largest difference between the mean that was read and the true mean of the survivors.
        encoding_error: The same against what the clients encoded: 0 up to double precision where the sum is exact.
        sent: Messages by kind and direction.
        up_bytes: What a client that stayed sent, on average.
        down_bytes: What it received, the model or what takes its place included.
        client_ms: Processor time of a client that stayed, on average.
        server_ms: Processor time of the server.
        setup_bytes: What everybody sent in the set-up of the session.
        costs: What else was spent, such as key bits, by name with the unit at its end.
        transcript: Everything that was said.
        thresholds: How many clients must remain, where the protocol has such a number: one, or those of groups
            of different sizes in order.

    Units:
        milliseconds of processor time; bytes
    """

    status: Literal["sum", "aborted"]
    reason: str
    survivors: tuple[int, ...]
    dropped: tuple[int, ...]
    max_error: float | None
    encoding_error: float | None
    sent: tuple[Sent, ...]
    up_bytes: float
    down_bytes: float
    client_ms: float
    server_ms: float
    setup_bytes: int
    costs: Mapping[str, float]
    transcript: Transcript = field(repr=False)
    thresholds: tuple[int, ...] = ()

    @property
    def threshold(self) -> int | None:
        """The lowest of the thresholds: with so many shares of a secret it opens somewhere."""
        return min(self.thresholds, default=None)


def run_round(
    layer: ClientLayer,
    *,
    n_clients: int,
    n_params: int,
    drop: Sequence[int] = (),
    drop_at: str = "update",
    seed: int = 0,
    namer: Namer | None = None,
) -> RoundReport:
    """Run one round.

    Args:
        layer: An aggregation layer, or one that leaves updates as they are.
        n_clients: The number of clients.
        n_params: The length of a vector.
        drop: Clients that go.
        drop_at: The kind of message that they no longer send: ``"update"``, or what ``namer`` calls one.
        seed: Of the vectors and numbers of examples; secrets come from the operating system.
        namer: What the protocol's control messages are called.

    Raises:
        ConfigError: There are too few clients or parameters, or a client that drops out does not exist.
    """
    if n_clients < 2 or n_params < 1:
        raise ConfigError(
            "a round needs clients and parameters",
            got=f"{n_clients} and {n_params}",
            expected="2 and 1 or more",
        )
    if not set(drop) < set(range(n_clients)):
        raise ConfigError(
            "impossible clients to drop out", got=list(drop), expected=f"some of 0 to {n_clients - 1}"
        )
    return _Round(layer, n_clients, n_params, tuple(drop), drop_at, seed, namer).run()


class _Round:
    def __init__(
        self,
        layer: ClientLayer,
        n_clients: int,
        n_params: int,
        drop: tuple[int, ...],
        drop_at: str,
        seed: int,
        namer: Namer | None,
    ) -> None:
        self._layer, self._drop = layer, drop
        self._clients = tuple(client(index) for index in range(n_clients))
        self._updates, self._counts = random_updates(n_clients, n_params, max_count=MAX_COUNT, seed=seed)
        if isinstance(layer, AggregationLayer) and not layer.weighted:
            self._counts = torch.ones(n_clients).double()
        self._model = torch.zeros(n_params)
        self._session = Session(
            Stack(name="one round", client=(layer,)),
            [seed],
            n_clients=n_clients,
            n_params=n_params,
            rounds=1,
            max_count=MAX_COUNT,
            mode="os",
        )
        derivers = (layer.derive,) if isinstance(layer, AggregationLayer) else ()
        self._transcript = Transcript(keys=self._session.key_names(), derivers=derivers)
        self._facts = LaneFacts(counts=tuple(self._counts.tolist()))
        self._facts.versions.add(_START, Origin(round=-1))
        self._transcript.facts[0] = self._facts
        self._transcript.granted[0] = Granted()
        self._network = MeteredNetwork(
            self._transcript,
            links=self._session.links(),
            drop=frozenset(client(index) for index in drop),
            drop_at=drop_at,
            namer=namer,
        )
        self._read: dict[Party, torch.Tensor] = {}

    def run(self) -> RoundReport:
        self._session.handshake(self._network)
        setup_bytes = self._network.bytes_sent.get(0, 0)
        self._network.begin()
        reason = ""
        mean: torch.Tensor | None = None
        ids: tuple[int, ...] = ()
        try:
            self._go_on()
            self._broadcast()
            mean, ids = self._aggregated() if isinstance(self._layer, AggregationLayer) else self._plain()
        except ProtocolAbort as abort:
            reason = str(abort)
        return self._report(reason, mean, ids, setup_bytes)

    def _report(
        self, reason: str, mean: torch.Tensor | None, ids: tuple[int, ...], setup_bytes: int
    ) -> RoundReport:
        network = self._network
        stayed = len(self._clients) - len(network.gone)
        up, down = network.of_those_who_stayed()
        return RoundReport(
            status="aborted" if reason else "sum",
            reason=reason,
            survivors=ids,
            dropped=self._drop,
            max_error=self._error(mean, ids, self._updates),
            encoding_error=self._error(mean, ids, None),
            sent=tuple(network.sent.values()),
            up_bytes=up / stayed,
            down_bytes=down / stayed,
            client_ms=network.client_ms / stayed,
            server_ms=network.server_ms,
            setup_bytes=setup_bytes,
            costs=self._session.costs(0),
            transcript=self._transcript,
            thresholds=_thresholds(self._layer, len(self._clients)),
        )

    def _error(
        self, mean: torch.Tensor | None, ids: tuple[int, ...], true: torch.Tensor | None
    ) -> float | None:
        if mean is None:
            return None
        rows = [true[i] if true is not None else self._read[client(i)][:-1].double() for i in ids]
        weights = [self._counts[i] if true is not None else self._read[client(i)][-1].double() for i in ids]
        expected = sum(w * row for w, row in zip(weights, rows, strict=True)) / sum(weights)
        return float((mean.double() - expected).abs().max())

    def _send(
        self,
        kind: MessageKind,
        envelope: Envelope,
        slots: Sequence[Slot],
        members: Sequence[frozenset[int]],
        version: Version,
        **more: Any,  # noqa: ANN401
    ) -> Delivery:
        return self._network.send(
            envelope,
            kind=kind,
            lanes=[0],
            slots=slots,
            present=[[True] * len(slots)],
            members=[members],
            versions=[[version] * len(slots)],
            **more,
        )

    def _go_on(self) -> None:
        if 0 in self._network.aborts:
            raise ProtocolAbort(self._network.aborts[0])

    def _broadcast(self) -> None:
        slots = [Slot(SERVER, party) for party in self._clients]
        layer = MessageLayer(form="plain", value=[[self._model] * len(slots)], keys=[[_NO_KEYS] * len(slots)])
        self._send(
            "model", Envelope(layers=(layer,)), slots, [frozenset()] * len(slots), _START, round_index=0
        )

    def _plain(self) -> tuple[torch.Tensor, tuple[int, ...]]:
        vectors = [
            torch.cat([update, count[None]]).float()
            for update, count in zip(self._updates, self._counts, strict=True)
        ]
        self._read = dict(zip(self._clients, vectors, strict=True))
        slots = [Slot(party, SERVER) for party in self._clients]
        layer = MessageLayer(form="plain", value=[vectors], keys=[[_NO_KEYS] * len(slots)])
        members = [frozenset({party.index}) for party in self._clients]
        delivery = self._send("update", Envelope(layers=(layer,)), slots, members, _START, round_index=0)
        arrived = {p: delivery.at(0, i) for i, p in enumerate(self._clients)}
        found = {p: v.double() for p, v in arrived.items() if isinstance(v, torch.Tensor)}
        if not found:
            raise ProtocolAbort("no update arrived")
        weight = torch.stack([v[-1] for v in found.values()]).sum()
        mean = torch.stack([v[:-1] * v[-1] for v in found.values()]).sum(dim=0) / weight
        ids = tuple(party.index for party in found)
        self._release(mean, ids, None)
        return mean, ids

    def _aggregated(self) -> tuple[torch.Tensor, tuple[int, ...]]:
        layer, network = self._layer, self._network
        assert isinstance(layer, AggregationLayer)
        control = Control(
            states=lambda party: self._session.state(0, layer, party),
            network=network,
            lane=0,
            round_index=0,
            participants=self._clients,
            models=dict.fromkeys(self._clients, self._model),
        )
        sealing = layer.prepare(control)
        network.mark(network.last_receiver)
        arrived = self._seal(layer, [p for p in self._clients if p in sealing and p not in network.gone])
        if not arrived:
            raise ProtocolAbort("no update arrived")
        counted = layer.conclude(control, arrived)
        header = Header(round=0, sender=SERVER, participants=self._clients)
        combined = layer.combine(self._session.state(0, layer, SERVER), counted, header)
        ids = tuple(party.index for party in counted)
        if layer.leaves != "nothing":
            mean = layer.reveal(self._session.state(0, layer, SERVER), combined, header)[0]
            network.mark("server")
            self._release(mean, ids, None)
            return mean, ids
        network.mark("server")
        return self._opened_by_clients(layer, combined, header, ids), ids

    def _seal(self, layer: AggregationLayer, sealing: Sequence[Party]) -> dict[Party, Payload]:
        payloads = []
        keys: list[frozenset[str]] = []
        enough: list[int | None] = []
        for party in sealing:
            header = Header(round=0, sender=party, participants=self._clients)
            state = self._session.state(0, layer, party)
            payload, read = layer.seal(
                state, self._updates[party.index], float(self._counts[party.index]), header
            )
            self._read[party] = read
            payloads.append(payload)
            peers = layer.peers(state, header)
            keys.append(layer.keys(party, peers))
            enough.append(layer.keys_needed(party, peers))
        envelope = Envelope(
            layers=(
                MessageLayer(
                    form="plain", value=[[self._read[p] for p in sealing]], keys=[[_NO_KEYS] * len(sealing)]
                ),
                MessageLayer(form=str(layer.gives), value=[payloads], keys=[keys], enough=[enough]),
            )
        )
        slots = [Slot(party, SERVER) for party in sealing]
        delivery = self._send(
            "update", envelope, slots, [frozenset({p.index}) for p in sealing], _START, round_index=0
        )
        self._go_on()
        found = {party: delivery.at(0, place) for place, party in enumerate(sealing)}
        return {party: payload for party, payload in found.items() if payload is not None}

    def _opened_by_clients(
        self, layer: AggregationLayer, combined: Payload, header: Header, ids: tuple[int, ...]
    ) -> torch.Tensor:
        """The server hands on a sum that it cannot open; every client opens it."""
        readers = [party for party in self._clients if party not in self._network.gone]
        delivery = self._release(torch.zeros_like(self._model), ids, (combined, layer, header))
        means = []
        for party in readers:
            blob = delivery.at(0, party.index)
            means.append(layer.reveal(self._session.state(0, layer, party), blob, header)[0])
        self._network.mark("client")
        if any(not torch.equal(means[0], mean) for mean in means):
            raise ProtocolAbort("clients read different sums")
        return means[0]

    def _release(
        self,
        mean: torch.Tensor,
        ids: tuple[int, ...],
        sealed: tuple[Payload, AggregationLayer, Header] | None,
    ) -> Any:  # noqa: ANN401
        """Send the next model, or what the clients open to get it."""
        self._facts.participants[0] = frozenset(ids)
        trained = tuple(Trained(client=i, base=_START, weight=self._facts.counts[i]) for i in ids)
        self._facts.versions.add(_NEXT, Origin(round=0, bases={_START: 1.0}, trained=trained))
        n = len(self._clients)
        slots = [Slot(SERVER, party) for party in self._clients]
        value = (self._model.double() + mean).float()
        envelope = Envelope(layers=(MessageLayer(form="plain", value=[[value] * n], keys=[[_NO_KEYS] * n]),))
        origin = 0
        if sealed is not None:
            combined, layer, header = sealed
            names = layer.keys(SERVER, header.participants)
            envelope = envelope.wrap(
                MessageLayer(form=str(layer.gives), value=[[combined] * n], keys=[[names] * n])
            )
            origin = 1
        return self._send("model", envelope, slots, [frozenset(ids)] * n, _NEXT, round_index=1, origin=origin)


def _thresholds(layer: ClientLayer, n: int) -> tuple[int, ...]:
    asked = getattr(layer, "threshold_for", None)
    if asked is None:
        return ()
    groups = getattr(layer, "groups", 1)
    return tuple(sorted({int(asked(size)) for size in (n // groups, -(-n // groups))}))
