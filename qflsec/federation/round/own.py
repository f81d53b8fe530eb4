"""What each client of a batch keeps between rounds: parts of the model, or a model that it trains beside the shared one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.federation.executions import executed
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import BatchStep, ClientData
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.sharing import Sharing
from qflsec.federation.stack import Stack
from qflsec.federation.streams import RoundStreams

__all__ = ["OwnParts", "TrainedOwn", "own_of"]


def own_of(pipeline: Pipeline, stack: Stack, initial: torch.Tensor, data: ClientData) -> OwnParts:
    """What the clients of a batch keep to themselves: parts of the model, a model of their own, or nothing.

    Shapes:
        initial: ``(lane, P)``
    """
    if pipeline.federation.own_models is None:
        return OwnParts(pipeline.sharing, initial, pipeline.federation.n_clients)
    return TrainedOwn(executed(pipeline, stack.executions), initial, data)


class OwnParts:
    """What each client of a batch of runs keeps of its model between rounds.

    Args:
        sharing: What is shared.
        initial: The first models.
        n_clients: The number of clients.

    Shapes:
        initial: ``(lane, P)``
    """

    def __init__(self, sharing: Sharing, initial: torch.Tensor, n_clients: int) -> None:
        self._sharing = sharing
        self._own = initial[:, None, :].expand(-1, n_clients, -1)

    def full(self, shared: torch.Tensor) -> torch.Tensor:
        """The models that clients train from.

        Shapes:
            shared: ``(lane, client, S)``; returns: ``(lane, client, P)``
        """
        return self._sharing.filled(self._own, shared)

    def follow(
        self,
        received: torch.Tensor,
        clients: Sequence[int],
        plan: Sequence[BatchStep],
        streams: RoundStreams,
        present: torch.Tensor,
    ) -> None:
        """Train what there is beside the model that clients received; parts of it are trained with it.

        Args:
            received: What the clients received.
            clients: The clients of the turn.
            plan: The batches of the round.
            streams: The streams of the round.
            present: Who trains in truth.

        Shapes:
            received: ``(lane, client, P)``; present: ``(lane, client)``
        """

    def release(self, models: torch.Tensor, updates: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """The shared part of the updates; those who trained keep the rest.

        Shapes:
            models, updates: ``(lane, client, P)``; present: ``(lane, client)``; returns: ``(lane, client, S)``
        """
        if self._sharing.places is None:
            return updates
        self._own = torch.where(present[..., None], models + updates, self._own)
        return self._sharing.shared(updates)

    def models(self, shared: torch.Tensor, reads: Sequence[int]) -> torch.Tensor:
        """The models that there are: one of each node, or one of each client.

        Args:
            shared: The nodes' models.
            reads: Whose model each client has.

        Shapes:
            shared: ``(lane, node, S)``; returns: ``(lane, m, P)``
        """
        if self._sharing.places is None:
            return shared
        return self._sharing.filled(self._own, shared[:, list(reads)])


class TrainedOwn(OwnParts):
    """The clients' own models.

    Args:
        pipeline: The pipeline, as clients execute it.
        initial: The first models.
        data: The clients' records.

    Shapes:
        initial: ``(lane, P)``
    """

    def __init__(self, pipeline: Pipeline, initial: torch.Tensor, data: ClientData) -> None:
        super().__init__(pipeline.sharing, initial, pipeline.federation.n_clients)
        self._config, self._data = pipeline.federation, data
        self._training = LocalTraining(pipeline=pipeline)

    def follow(
        self,
        received: torch.Tensor,
        clients: Sequence[int],
        plan: Sequence[BatchStep],
        streams: RoundStreams,
        present: torch.Tensor,
    ) -> None:
        """Train the own models of those who train, each step pulled towards what they received."""
        assert self._config.own_models is not None
        lanes, some = range(len(received)), list(clients)
        weight = self._config.rate(streams.round) * self._config.own_models.pull
        own, shared, data = self._own[:, some], received[:, some], self._data.at(lanes, some)
        for step in plan:
            part = step.at(lanes, some)
            moved, _, _ = self._training(own, data, [part], streams, some, purpose="own-shots")
            pulled = own + moved if weight == 0 else (own + moved + weight * shared) / (1 + weight)
            # who has no batch in this step makes none
            active = (part.expected > 0) & present[:, some]
            own = torch.where(active[..., None], pulled, own)
        self._own = self._own.clone()
        self._own[:, some] = own

    def models(self, shared: torch.Tensor, reads: Sequence[int]) -> torch.Tensor:
        """The own models.

        Shapes:
            shared: ``(lane, node, P)``; returns: ``(lane, client, P)``
        """
        return self._own
