"""Late uploads: clients that train between contacts, and send in a later round what they made of an older model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from qflsec.federation.parts import Parts
from qflsec.federation.round.broadcast import Received
from qflsec.federation.round.opened import Opened
from qflsec.threat import Version

__all__ = ["Late", "Work"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What clients trained from, and what came of it.

    Attributes:
        received: Who is meant, and from which versions.
        models: The models that they trained from.
        updates: What they release.
        losses: Their mean losses before they trained.

    Shapes:
        models: ``(lane, client, P)``; updates: ``(lane, client, S)``; losses: ``(lane, client)``
    """

    received: Received
    models: torch.Tensor
    updates: torch.Tensor
    losses: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class _Held:
    """One client's work, and the round in which it began."""

    since: int
    base: Version
    model: torch.Tensor
    update: torch.Tensor
    loss: torch.Tensor


class Late:
    """What the clients of a batch hold until they are heard again; nothing where training takes no round.

    Args:
        parts: Who is heard when, and how long training takes.
        n_lanes: The number of runs.
    """

    def __init__(self, parts: Parts | None, n_lanes: int) -> None:
        self._parts = parts if parts is not None and parts.training_rounds else None
        self._held: dict[tuple[int, int], _Held] = {}
        self._factors: list[dict[int, float]] = [{} for _ in range(n_lanes)]

    def free(self, round_index: int, here: torch.Tensor) -> torch.Tensor:
        """Who of those that are heard gets a model: not who still trains on an older one.

        Args:
            round_index: The round.
            here: Who is heard.

        Shapes:
            here: ``(lane, client)``; returns the same
        """
        found = here.clone()
        for place, held in self._held.items():
            if not self._ready(round_index, held):
                found[place] = False
        return found

    def _ready(self, round_index: int, held: _Held) -> bool:
        return self._parts is not None and round_index - held.since >= self._parts.training_rounds

    def swap(self, round_index: int, work: Work, here: torch.Tensor) -> Work:
        """Keep what was begun in this round, and give what is sent in it; the same where training takes no round.

        Args:
            round_index: The round.
            work: What was begun.
            here: Who is heard, of runs that go on.

        Shapes:
            here: ``(lane, client)``
        """
        if self._parts is None:
            return work
        begun, self._factors = self._begun(round_index, work), [{} for _ in self._factors]
        models, updates, losses = work.models.clone(), torch.zeros_like(work.updates), work.losses.clone()
        present, bases = torch.zeros_like(here), [list(row) for row in work.received.bases]
        for lane, index in torch.nonzero(here).tolist():
            place = lane, index
            if place not in self._held or not self._ready(round_index, self._held[place]):
                continue
            held = self._held.pop(place)
            present[place], bases[lane][index] = True, held.base
            models[place], updates[place], losses[place] = held.model, held.update, held.loss
            self._factors[lane][index] = self._parts.discount(round_index - held.since)
        self._held |= begun
        received = replace(work.received, present=present, bases=bases)
        return Work(received=received, models=models, updates=updates, losses=losses)

    def _begun(self, round_index: int, work: Work) -> dict[tuple[int, int], _Held]:
        return {
            (lane, index): _Held(
                since=round_index,
                base=work.received.bases[lane][index],
                model=work.models[lane, index].clone(),
                update=work.updates[lane, index].clone(),
                loss=work.losses[lane, index].clone(),
            )
            for lane, index in torch.nonzero(work.received.present).tolist()
        }

    def factor(self, lane: int, index: int) -> float:
        """What a client's update is multiplied with for its age, in the round that is under way."""
        return self._factors[lane].get(index, 1.0)

    def discounted(self, lane: int, opened: Opened) -> Opened:
        """What arrived, shorter for its age, which the server knows: it gave each client its model."""
        if not self._factors[lane] or opened.updates is None:
            return opened
        factors = opened.updates.new_tensor([self.factor(lane, index) for index in opened.ids])
        return replace(opened, updates=opened.updates * factors[:, None])
