"""One round of any aggregation protocol on given vectors: the real parties, a real network, and a meter on both.

Nothing is trained. The sessions, uploads and messages are those of the training loop; the transcript says who holds
what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from qflsec.base import ConfigError, ProtocolAbort
from qflsec.federation import ClientLayer, Stack
from qflsec.federation.payloads import Sent as Payloads
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.session import Session
from qflsec.federation.round.upload import Uploads
from qflsec.protocols.round_data import random_updates
from qflsec.protocols.secagg.meter import MeteredNetwork, Sent
from qflsec.threat import (
    SERVER,
    Delivery,
    Envelope,
    Granted,
    LaneFacts,
    Origin,
    Party,
    Payload,
    Slot,
    Trained,
    Transcript,
    Version,
    client,
)

__all__ = ["MAX_COUNT", "Namer", "OneRound", "RoundReport", "run_round"]

MAX_COUNT = 100
"""The largest number of examples of a client."""
Namer = Callable[[bytes], str]
"""What a control message of a protocol is called."""
_START: Version = "0"
_NEXT: Version = "1"


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundReport:
    """What happened in one round.

    Attributes:
        status: ``"sum"``, or ``"aborted"``.
        reason: Why it aborted and who caused it; empty where it did not.
        caused_by: Who, where that can be known.
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
        mean: The mean that was read; None where the round aborted.
        thresholds: How many clients must remain, where the protocol has such a number: one, or those of groups
            of different sizes in order.

    Shapes:
        mean: ``(P,)``

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
    mean: torch.Tensor | None = field(repr=False)
    thresholds: tuple[int, ...] = ()
    caused_by: str | None = None

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
    """Run one round on random vectors and numbers of examples.

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
    updates, counts = random_updates(n_clients, n_params, max_count=MAX_COUNT, seed=seed)
    return OneRound(layer, updates, counts, drop=drop, drop_at=drop_at, namer=namer).run()


class OneRound:
    """One round on given vectors.

    Args:
        layer: An aggregation layer, or one that leaves updates as they are.
        updates: A vector of each client.
        counts: How many examples each client has; every client counts the same where the layer does not weight.
        drop: Clients that go.
        drop_at: The kind of message that they no longer send.
        namer: What the protocol's control messages are called.

    Attributes:
        session: The parties' states.

    Shapes:
        updates: ``(n, P)``; counts: ``(n,)``
    """

    def __init__(
        self,
        layer: ClientLayer,
        updates: torch.Tensor,
        counts: torch.Tensor,
        *,
        drop: Sequence[int] = (),
        drop_at: str = "update",
        namer: Namer | None = None,
    ) -> None:
        n_clients, n_params = updates.shape
        stack = Stack(name="one round", client=(layer,))
        aggregation = stack.aggregation
        self._layer, self._drop, self._updates = layer, tuple(drop), updates
        self._counts = counts.new_tensor(stack.weights(counts.tolist()))
        self._model = torch.zeros(n_params)
        # a vector that nothing seals travels as numbers, in the precision of the model
        self._given = updates.to(self._model) if aggregation is None else updates
        self._slots = [Slot(SERVER, client(index)) for index in range(n_clients)]
        self.session = Session(
            stack, [0], n_clients=n_clients, n_params=n_params, rounds=1, max_count=MAX_COUNT, mode="os"
        )
        self._transcript = Transcript(
            keys=self.session.key_names(), derivers=() if aggregation is None else (aggregation.derive,)
        )
        self._facts = LaneFacts(counts=tuple(self._counts.tolist()))
        self._facts.versions.add(_START, Origin(round=-1))
        self._transcript.facts[0] = self._facts
        self._transcript.granted[0] = Granted()
        self._network = MeteredNetwork(
            self._transcript,
            links=self.session.links(),
            drop=frozenset(client(index) for index in drop),
            drop_at=drop_at,
            namer=namer,
        )
        self._uploads = Uploads(stack=stack, session=self.session, network=self._network)

    def run(self) -> RoundReport:
        """The set-up, the round, and what came of it."""
        self.session.handshake(self._network)
        setup_bytes = self._network.bytes_sent.get(0, 0)
        self._network.begin()
        reason, caused_by = "", None
        mean: torch.Tensor | None = None
        ids: tuple[int, ...] = ()
        try:
            self._go_on()
            mean, ids = self._play()
        except ProtocolAbort as abort:
            reason, caused_by = abort.told, abort.caused_by
        return self._report(reason, caused_by, mean, ids, setup_bytes)

    def _play(self) -> tuple[torch.Tensor, tuple[int, ...]]:
        network, n = self._network, len(self._slots)
        self._send_model(Envelope.plain([[self._model] * n]), _START, 0, frozenset())
        everybody = torch.ones(1, n, dtype=torch.bool)
        models = self._model.expand(1, n, -1)
        self._uploads.start(0, everybody, models, [[_START] * n])
        network.mark(network.last_receiver)
        self._go_on()
        self._uploads.send(Payloads(updates=self._given[None]), self._counts[None], everybody)
        self._go_on()
        opened = self._uploads.gather(0)
        network.mark("server")
        self._go_on()
        if opened.combined is not None:
            return self._opened_by_clients(opened), opened.ids
        mean = _mean(opened)
        self._release(opened, Envelope.plain([[(self._model.double() + mean).float()] * n]))
        return mean, opened.ids

    def _opened_by_clients(self, opened: Opened) -> torch.Tensor:
        """The server hands on a sum that it cannot open; every client opens it."""
        n = len(self._slots)
        sealed = self._uploads.sealed_aggregate([opened], n)
        delivery = self._release(opened, Envelope.plain([[self._model] * n]).wrap(sealed), origin=1)
        means = []
        for index in range(n):
            blob = delivery.at(0, index)
            if blob is not None:
                means.append(self._uploads.client_reads(0, index, blob, opened))
        self._network.mark("client")
        if any(not torch.equal(means[0], mean) for mean in means):
            raise ProtocolAbort("clients read different sums")
        return means[0]

    def _release(self, opened: Opened, envelope: Envelope, origin: int = 0) -> Delivery:
        """Send the next model, or what the clients open to get it."""
        self._facts.participants[0] = frozenset(opened.ids)
        trained = tuple(
            Trained(client=i, base=_START, weight=self._facts.counts[i]) for i in sorted(opened.ids)
        )
        self._facts.versions.add(_NEXT, Origin(round=0, bases={_START: 1.0}, trained=trained))
        return self._send_model(envelope, _NEXT, 1, frozenset(opened.ids), origin=origin)

    def _send_model(
        self, envelope: Envelope, version: Version, round_index: int, members: frozenset[int], origin: int = 0
    ) -> Delivery:
        n = len(self._slots)
        return self._network.send(
            envelope,
            kind="model",
            round_index=round_index,
            lanes=[0],
            slots=self._slots,
            present=[[True] * n],
            members=[[members] * n],
            versions=[[version] * n],
            origin=origin,
        )

    def _go_on(self) -> None:
        if 0 in self._network.aborts:
            raise self._network.aborts[0]

    def _report(
        self,
        reason: str,
        caused_by: str | None,
        mean: torch.Tensor | None,
        ids: tuple[int, ...],
        setup_bytes: int,
    ) -> RoundReport:
        network = self._network
        stayed = len(self._slots) - len(network.gone)
        up, down = network.of_those_who_stayed()
        return RoundReport(
            status="aborted" if reason else "sum",
            reason=reason,
            caused_by=caused_by,
            survivors=ids,
            dropped=self._drop,
            max_error=None
            if mean is None
            else _error(mean, [(self._updates[i], self._counts[i]) for i in ids]),
            encoding_error=None if mean is None else _error(mean, self._encoded(ids)),
            sent=tuple(network.sent.values()),
            up_bytes=up / stayed,
            down_bytes=down / stayed,
            client_ms=network.client_ms / stayed,
            server_ms=network.server_ms,
            setup_bytes=setup_bytes,
            costs=self.session.costs(0),
            transcript=self._transcript,
            mean=mean,
            thresholds=_thresholds(self._layer, len(self._slots)),
        )

    def sent(self, layer: int = -1) -> dict[Party, Payload]:
        """What the clients sent of their vectors: as it travelled, or what is inside of it for layer 0."""
        found = [message for message in self._transcript.messages if message.kind == "update"]
        return {
            slot.sender: message.layers[layer].at(0, place)
            for message in found
            for place, slot in enumerate(message.slots)
            if message.present[0][place]
        }

    def _encoded(self, ids: Sequence[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The updates and weights that are inside of what the clients sent."""
        inside = self.sent(0)
        vectors = [torch.as_tensor(inside[client(index)]).double() for index in ids]
        return [(vector[:-1], vector[-1]) for vector in vectors]


def _mean(opened: Opened) -> torch.Tensor:
    """The mean of a round, from single updates, the means of groups or the mean of all."""
    if opened.mean is not None:
        return opened.mean
    parts = [(group.mean.double(), group.weight) for group in opened.groups]
    if opened.updates is not None and opened.counts is not None:
        parts = list(zip(opened.updates.double(), opened.counts.tolist(), strict=True))
    return torch.stack([weight * vector for vector, weight in parts]).sum(dim=0) / sum(w for _, w in parts)


def _error(mean: torch.Tensor, parts: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The largest difference to the weighted mean of some vectors."""
    expected = sum(weight * vector for vector, weight in parts) / sum(weight for _, weight in parts)
    return float((mean.double() - expected).abs().max())


def _thresholds(layer: ClientLayer, n: int) -> tuple[int, ...]:
    asked = getattr(layer, "threshold_for", None)
    if asked is None:
        return ()
    groups = getattr(layer, "groups", 1)
    return tuple(sorted({int(asked(size)) for size in (n // groups, -(-n // groups))}))
