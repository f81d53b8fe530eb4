"""Models: where they are, which version each is, and how they reach the clients and the public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from qflsec.base import ProtocolAbort
from qflsec.federation.payloads import fault
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.opened import Opened
from qflsec.federation.round.turns import Turns
from qflsec.federation.round.upload import Uploads
from qflsec.federation.topology import Turn
from qflsec.threat import (
    PUBLIC,
    Delivery,
    Envelope,
    Network,
    Origin,
    Party,
    Slot,
    Transcript,
    Version,
    client,
)

__all__ = ["Broadcast", "Received"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Received:
    """What the clients of a turn train from.

    Attributes:
        models: The model of each client.
        present: Who has one.
        bases: Which version it is.

    Shapes:
        models: ``(lane, client, P)``; present: ``(lane, client)``
    """

    models: torch.Tensor
    present: torch.Tensor
    bases: Sequence[Sequence[Version]]


class Broadcast:
    """The models of a batch of runs, one for each node of a run's topology, and who holds them.

    Args:
        pipeline: The pipeline.
        initial: The first models.
        network: The network.
        transcript: Where versions are noted.
        turns: The moves of corrupted servers.
        uploads: Where clients read a sealed aggregate, if the stack leaves the server nothing to read.
        dead: The runs that have ended.

    Attributes:
        params: The models; what is sent is a copy, as they change in place.

    Shapes:
        initial: ``(lane, P)``; params: ``(lane, node, P)``
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        initial: torch.Tensor,
        network: Network,
        transcript: Transcript,
        turns: Turns,
        uploads: Uploads | None,
        dead: Callable[[], set[int]],
    ) -> None:
        self._config, self._network, self._transcript = pipeline.federation, network, transcript
        self._turns, self._sealed, self._dead = turns, uploads, dead
        n_clients = pipeline.federation.n_clients
        nodes = range(pipeline.topology.nodes(n_clients))
        self.params = initial[:, None, :].expand(-1, len(nodes), -1).clone()
        self._before, self._lanes = self.params.clone(), list(range(len(initial)))
        start = pipeline.topology.start(n_clients)
        self._holders: list[list[Party]] = [[start for _ in nodes] for _ in self._lanes]
        self._versions: list[list[Version]] = [["0" for _ in nodes] for _ in self._lanes]
        self._members: list[list[frozenset[int]]] = [[frozenset() for _ in nodes] for _ in self._lanes]
        self._opened: list[Opened | None] = [None for _ in self._lanes]
        for lane in self._lanes:
            transcript.facts[lane].versions.add("0", Origin(round=-1))

    def version(self, lane: int, node: int) -> Version:
        """The version of a model."""
        return self._versions[lane][node]

    def before(self, lane: int, turn: Turn, received: Received) -> tuple[Version, torch.Tensor]:
        """What a step is added to: the node's model, or what arrived of it where a client makes the next one itself."""
        index = turn.root.index
        if turn.root.role == "client" and index in turn.trainers:
            return received.bases[lane][index], received.models[lane, index]
        return self._versions[lane][turn.node], self.params[lane, turn.node].clone()

    def holder(self, lane: int, node: int) -> Party:
        """Who holds a model."""
        return self._holders[lane][node]

    def members(self, lane: int, node: int) -> frozenset[int]:
        """The clients whose updates are in a model."""
        return self._members[lane][node]

    def away(self, reads: Sequence[int]) -> set[tuple[int, int]]:
        """``(lane, node)`` of the models that another client holds than the one that trains from them.

        Args:
            reads: For each client, the node that it trains from.
        """
        return {
            (lane, node)
            for lane in self._lanes
            for node, holder in enumerate(self._holders[lane])
            if holder.role == "client" and reads[holder.index] != node
        }

    def move(
        self,
        lane: int,
        nodes: Sequence[int],
        maker: Party,
        version: Version,
        origin: Origin,
        params: torch.Tensor,
        *,
        members: frozenset[int],
        opened: Opened | None = None,
    ) -> None:
        """The next model of some nodes of a run.

        Args:
            lane: The run.
            nodes: The nodes.
            maker: Who made it and holds it now.
            version: Its version.
            origin: How it came about.
            params: The model.
            members: The clients whose updates are in it.
            opened: What the maker could open, for clients that must read the aggregate themselves.

        Shapes:
            params: ``(P,)``
        """
        self._transcript.facts[lane].versions.add(version, origin)
        self._opened[lane] = opened
        for node in nodes:
            self._holders[lane][node], self._versions[lane][node] = maker, version
            self._members[lane][node] = members
            if self._sealed is not None:
                self._before[lane, node] = self.params[lane, node]
            self.params[lane, node] = params

    def to_clients(self, round_index: int, turns: Sequence[Turn], present: torch.Tensor) -> Received:
        """Send the models of turns down; a client that cannot read its model, or finds it not finite, stays away.

        Args:
            round_index: The round.
            turns: The turns, side by side.
            present: Who takes part.

        Shapes:
            present: ``(lane, client)``
        """
        n_clients = self._config.n_clients
        of = {index: turn for turn in turns for index in turn.trainers}
        nodes = [of[index].node if index in of else turns[0].node for index in range(n_clients)]
        models = self.params[:, nodes]
        handed = [turn for turn in turns if turn.is_hierarchy or self._handed_on(turn)]
        if handed:
            models, present = self._to_heads(round_index, handed, models, present)
        elif len(turns) == 1:
            models = self._turns.broadcast(round_index, self.params[:, turns[0].node], models)
        slots = [
            Slot((of[i].head_of(i) if i in of else None) or turns[0].root, client(i))
            for i in range(n_clients)
        ]
        if any(slot.sender != slot.receiver for slot in slots if slot.receiver.index in of):
            models, present = self._send(round_index, models, present, slots, nodes)
        sound = torch.isfinite(models).all(dim=-1)
        models = torch.where(sound[..., None], models, self.params[:, nodes])
        return Received(models=models, present=present & sound, bases=self._bases(round_index, models, nodes))

    def _handed_on(self, turn: Turn) -> bool:
        return any(self._holders[lane][turn.node] not in turn.groups for lane in self._lanes)

    def _to_heads(
        self, round_index: int, turns: Sequence[Turn], models: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The models that the heads of turns got from whoever held them, for each of their clients."""
        ways = [
            (turn.node, holder, head, group)
            for turn in turns
            for head, group in turn.groups.items()
            for holder in sorted({self._holders[lane][turn.node] for lane in self._lanes})
            if holder != head
        ]
        if not ways:
            return models, present
        active = [
            [
                self._holders[lane][node] == holder
                and lane not in self._dead()
                and bool(present[lane, list(group)].any())
                for node, holder, _, group in ways
            ]
            for lane in self._lanes
        ]
        nodes = [node for node, *_ in ways]
        delivery = self._network.send(
            Envelope.plain(self.params[:, nodes]),
            kind="model",
            round_index=round_index,
            lanes=self._lanes,
            slots=[Slot(holder, head) for _, holder, head, _ in ways],
            present=active,
            members=self._each(self._members, nodes),
            versions=self._each(self._versions, nodes),
        )
        models, present = models.clone(), present.clone()
        for lane in self._lanes:
            for place, (_, _, _, group) in enumerate(ways):
                if not active[lane][place]:
                    continue
                got = delivery.at(lane, place)
                for index in group:
                    if isinstance(got, torch.Tensor) and fault(got, self.params.shape[-1]) is None:
                        models[lane, index] = got
                    else:
                        present[lane, index] = False
        return models, present

    def _each(self, held: Sequence[Sequence[_T]], nodes: Sequence[int]) -> list[list[_T]]:
        """What is held of each of these nodes, by run."""
        return [[held[lane][node] for node in nodes] for lane in self._lanes]

    def _send(
        self,
        round_index: int,
        models: torch.Tensor,
        present: torch.Tensor,
        slots: Sequence[Slot],
        nodes: Sequence[int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        delivery = self._deliver(round_index, models, present, slots, nodes)
        if isinstance(delivery.values, torch.Tensor):
            return delivery.values, present
        received, arrived = models.clone(), present.clone()
        for lane in self._lanes:
            for index in torch.nonzero(present[lane]).flatten().tolist():
                model = self._read(delivery, lane, index)
                if model is None:
                    arrived[lane, index] = False
                else:
                    received[lane, index] = model
        return received, arrived

    def _deliver(
        self,
        round_index: int,
        models: torch.Tensor,
        present: torch.Tensor,
        slots: Sequence[Slot],
        nodes: Sequence[int],
    ) -> Delivery:
        envelope, origin = Envelope.plain(models), 0
        alive = present.clone()
        if self._sealed is not None and any(opened is not None for opened in self._opened):
            # every client must apply every aggregate, since nobody can send it the model
            envelope, origin = envelope.wrap(self._sealed.sealed_aggregate(self._opened, len(slots))), 1
            alive[:] = True
        alive[sorted(self._dead())] = False
        return self._network.send(
            envelope,
            kind="model",
            round_index=round_index,
            lanes=self._lanes,
            slots=slots,
            present=alive.tolist(),
            members=self._each(self._members, nodes),
            versions=self._bases(round_index, models, nodes),
            origin=origin,
        )

    def _read(self, delivery: Delivery, lane: int, index: int) -> torch.Tensor | None:
        """The model that a client reads in what arrived; None where it cannot."""
        value, opened = delivery.at(lane, index), self._opened[lane]
        if value is None or lane in self._dead():
            return None
        if self._sealed is not None and opened is not None:
            try:
                mean = self._sealed.client_reads(lane, index, value, opened)
            except ProtocolAbort as abort:
                self._network.aborts[lane] = abort
                return None
            return self._before[lane, 0] + self._config.server_learning_rate * mean
        if isinstance(value, torch.Tensor) and fault(value, self.params.shape[-1]) is None:
            return value
        return None

    def _bases(self, round_index: int, models: torch.Tensor, nodes: Sequence[int]) -> list[list[Version]]:
        """The version that each client has: its node's, or one of its own where somebody altered it on its way.

        Args:
            round_index: The round.
            models: The models that arrived.
            nodes: The node of each client.

        Shapes:
            models: ``(lane, client, P)``
        """
        altered = (models != self.params[:, nodes]).any(dim=-1)
        bases = self._each(self._versions, nodes)
        for lane, index in torch.nonzero(altered).tolist():
            bases[lane][index] = self.altered(lane, nodes[index], client(index), round_index)
        return bases

    def altered(self, lane: int, node: int, receiver: Party, round_index: int) -> Version:
        """The version of a model that somebody altered on its way to a receiver: nothing public leads to it."""
        name, versions = f"{self._versions[lane][node]} to {receiver}", self._transcript.facts[lane].versions
        if name not in versions:
            versions.add(name, Origin(round=round_index))
        return name

    def publish(self) -> None:
        """Publish the final models; where the server cannot read one, a client does."""
        n = self._config.n_clients
        if self._sealed is not None:
            everybody = torch.ones(len(self._lanes), n, dtype=torch.bool)
            models = self.params[:, [0] * n]
            slots = [Slot(self._holders[0][0], client(index)) for index in range(n)]
            self._deliver(self._config.rounds, models, everybody, slots, [0] * n)
            self._holders = [[client(0)] for _ in self._lanes]
        nodes = range(self.params.shape[1])
        ways = sorted({(node, self._holders[lane][node]) for lane in self._lanes for node in nodes})
        places = [node for node, _ in ways]
        self._network.send(
            Envelope.plain(self.params[:, places]),
            kind="final-model",
            round_index=self._config.rounds,
            lanes=self._lanes,
            slots=[Slot(publisher, PUBLIC) for _, publisher in ways],
            present=[
                [self._publishes(lane, node, publisher) for node, publisher in ways] for lane in self._lanes
            ],
            members=self._each(self._members, places),
            versions=self._each(self._versions, places),
        )

    def _publishes(self, lane: int, node: int, publisher: Party) -> bool:
        """Whether a party publishes the model of a node; one that stands for several nodes is published once."""
        first = self._versions[lane].index(self._versions[lane][node]) == node
        return first and self._holders[lane][node] == publisher and lane not in self._dead()
