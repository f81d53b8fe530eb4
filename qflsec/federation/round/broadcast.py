"""Models: where they are, which version each is, and how they reach the clients and the public."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    """The models of a batch of runs, one for each run, and who holds them.

    Args:
        pipeline: The pipeline.
        initial: The first models.
        network: The network.
        transcript: Where versions are noted.
        turns: The moves of corrupted servers.
        uploads: Where clients read a sealed aggregate, if the stack leaves the server nothing to read.
        dead: The runs that have ended.

    Shapes:
        initial: ``(lane, P)``
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
        self.params, self._before = initial, initial
        self._lanes = list(range(len(initial)))
        start = pipeline.topology.start(pipeline.federation.n_clients)
        self._holders: list[Party] = [start for _ in self._lanes]
        self._versions: list[Version] = ["0" for _ in self._lanes]
        self._members: list[frozenset[int]] = [frozenset() for _ in self._lanes]
        self._opened: list[Opened | None] = [None for _ in self._lanes]
        for lane in self._lanes:
            transcript.facts[lane].versions.add("0", Origin(round=-1))

    def version(self, lane: int) -> Version:
        """The version of a run's model."""
        return self._versions[lane]

    def move(
        self, lane: int, root: Party, version: Version, origin: Origin, opened: Opened, params: torch.Tensor
    ) -> None:
        """The next model of a run.

        Args:
            lane: The run.
            root: Who made it and holds it now.
            version: Its version.
            origin: How it came about.
            opened: What the root could open, for clients that must read the aggregate themselves.
            params: The model.

        Shapes:
            params: ``(P,)``
        """
        self._transcript.facts[lane].versions.add(version, origin)
        self._holders[lane], self._versions[lane], self._opened[lane] = root, version, opened
        self._members[lane] |= frozenset(part.client for part in origin.trained)
        self._before, self.params = self._before.clone(), self.params.clone()
        self._before[lane] = self.params[lane]
        self.params[lane] = params

    def to_clients(self, round_index: int, turn: Turn, present: torch.Tensor) -> Received:
        """Send the models of a turn down; a client that cannot read its model, or finds it not finite, stays away.

        Shapes:
            present: ``(lane, client)``
        """
        models = self.params[:, None, :].expand(-1, self._config.n_clients, -1).clone()
        if turn.is_hierarchy or self._handed_on(turn):
            models, present = self._to_heads(round_index, turn, models, present)
        else:
            models = self._turns.broadcast(round_index, self.params, models)
        slots = [Slot(turn.head_of(i) or turn.root, client(i)) for i in range(self._config.n_clients)]
        if any(slot.sender != slot.receiver for slot in slots if slot.receiver.index in turn.trainers):
            models, present = self._send(round_index, models, present, slots)
        sound = torch.isfinite(models).all(dim=-1)
        models = torch.where(sound[..., None], models, self.params[:, None, :])
        return Received(models=models, present=present & sound, bases=self._bases(round_index, models))

    def _handed_on(self, turn: Turn) -> bool:
        return any(holder not in turn.groups for holder in self._holders)

    def _to_heads(
        self, round_index: int, turn: Turn, models: torch.Tensor, present: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The models that the heads of a turn got from whoever held them, for each of their clients."""
        pairs = [
            (holder, head)
            for head in turn.groups
            for holder in sorted({self._holders[lane] for lane in self._lanes})
            if holder != head
        ]
        if not pairs:
            return models, present
        active = [
            [
                self._holders[lane] == holder
                and lane not in self._dead()
                and bool(present[lane, list(turn.groups[head])].any())
                for holder, head in pairs
            ]
            for lane in self._lanes
        ]
        delivery = self._network.send(
            Envelope.plain(self.params[:, None, :].expand(-1, len(pairs), -1).clone()),
            kind="model",
            round_index=round_index,
            lanes=self._lanes,
            slots=[Slot(holder, head) for holder, head in pairs],
            present=active,
            members=[[self._members[lane]] * len(pairs) for lane in self._lanes],
            versions=[[self._versions[lane]] * len(pairs) for lane in self._lanes],
        )
        models, present = models.clone(), present.clone()
        for lane in self._lanes:
            for place, (_, head) in enumerate(pairs):
                if not active[lane][place]:
                    continue
                got = delivery.at(lane, place)
                for index in turn.groups[head]:
                    if isinstance(got, torch.Tensor) and fault(got, self.params.shape[-1]) is None:
                        models[lane, index] = got
                    else:
                        present[lane, index] = False
        return models, present

    def _send(
        self, round_index: int, models: torch.Tensor, present: torch.Tensor, slots: Sequence[Slot]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        delivery = self._deliver(round_index, models, present, slots)
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
        self, round_index: int, models: torch.Tensor, present: torch.Tensor, slots: Sequence[Slot]
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
            members=[[self._members[lane]] * len(slots) for lane in self._lanes],
            versions=self._bases(round_index, models),
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
            return self._before[lane] + self._config.server_learning_rate * mean
        if isinstance(value, torch.Tensor) and fault(value, self.params.shape[-1]) is None:
            return value
        return None

    def _bases(self, round_index: int, models: torch.Tensor) -> list[list[Version]]:
        """The version that each client has: the run's, or one of its own where somebody altered it on its way.

        Shapes:
            models: ``(lane, client, P)``
        """
        altered = (models != self.params[:, None, :]).any(dim=-1)
        bases = [[self._versions[lane]] * models.shape[1] for lane in self._lanes]
        for lane, index in torch.nonzero(altered).tolist():
            name, versions = (
                f"{self._versions[lane]} to {client(index)}",
                self._transcript.facts[lane].versions,
            )
            bases[lane][index] = name
            if name not in versions:
                versions.add(name, Origin(round=round_index))
        return bases

    def publish(self) -> None:
        """Publish the final models; where the server cannot read one, a client does."""
        n = self._config.n_clients
        if self._sealed is not None:
            everybody = torch.ones(len(self._lanes), n, dtype=torch.bool)
            models = self.params[:, None, :].expand(-1, n, -1).clone()
            slots = [Slot(self._holders[0], client(index)) for index in range(n)]
            self._deliver(self._config.rounds, models, everybody, slots)
            self._holders = [client(0) for _ in self._lanes]
        publishers = sorted(set(self._holders))
        self._network.send(
            Envelope.plain(self.params[:, None, :].expand(-1, len(publishers), -1).clone()),
            kind="final-model",
            round_index=self._config.rounds,
            lanes=self._lanes,
            slots=[Slot(publisher, PUBLIC) for publisher in publishers],
            present=[
                [holder == publisher and lane not in self._dead() for publisher in publishers]
                for lane, holder in zip(self._lanes, self._holders, strict=True)
            ],
            members=[[self._members[lane]] * len(publishers) for lane in self._lanes],
            versions=[[self._versions[lane]] * len(publishers) for lane in self._lanes],
        )
