"""Who trains in a turn, and what the optimisers of a batch of runs keep between rounds.

What an optimiser keeps is private to its client: no message carries it, so it is in nobody's view. A corrupted
client that trains on records of its own making has an optimiser of its own for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import BatchStep, ClientData
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.round.optimiser import OptimiserState
from qflsec.federation.streams import RoundStreams
from qflsec.models import Model

__all__ = ["ClientTraining", "ForgedTraining", "Trainer"]


class ClientTraining:
    """The training of a batch of runs as the protocol has it.

    Args:
        training: Local training, with the stack's layers.
        data: The records of all clients.
    """

    def __init__(self, training: LocalTraining, data: ClientData) -> None:
        self._training, self._data = training, data
        self._state: OptimiserState | None = None

    def __call__(
        self,
        clients: Sequence[int],
        models: torch.Tensor,
        plan: Sequence[BatchStep],
        streams: RoundStreams,
        present: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Updates and losses of the clients of a turn; zero for all others.

        Args:
            clients: The clients of the turn.
            models: What they train from.
            plan: The batches of the round.
            streams: The streams of the round.
            present: Who trains in truth; the optimisers of all others stay as they are.

        Shapes:
            models: ``(lane, client, P)``; present: ``(lane, client)``; returns: ``(lane, client, P)`` and
            ``(lane, client)``
        """
        config = self._training.pipeline.federation
        before = OptimiserState.fresh(config, models) if self._state is None else self._state
        if len(clients) == models.shape[1]:
            updates, losses, moved = self._training(models, self._data, plan, streams, clients, state=before)
            self._keep(moved, before, present)
            return updates, losses
        lanes = range(len(models))
        some, first, moved = self._training(
            models[:, clients],
            self._data.at(lanes, clients),
            [step.at(lanes, clients) for step in plan],
            streams,
            clients,
            state=before.at(lanes, clients),
        )
        self._keep(before.put(lanes, clients, moved), before, present)
        updates, losses = torch.zeros_like(models), first.new_zeros(models.shape[:2])
        updates[:, clients], losses[:, clients] = some, first
        return updates, losses

    def metrics(self, models: torch.Tensor) -> torch.Tensor | None:
        """The metrics that clients upload beside what they trained from these models; None where they upload none.

        Shapes:
            models: ``(lane, client, P)``; returns: ``(lane, client, M)``
        """
        uploaded = self._training.pipeline.uploaded
        return None if uploaded is None else uploaded.made(models, self._data.features, self._data.mask)

    def _keep(self, moved: OptimiserState, before: OptimiserState, present: torch.Tensor) -> None:
        if self._training.pipeline.federation.keeps_state:
            self._state = moved.where(present, before)


class ForgedTraining:
    """Training of corrupted clients on records of their choice, without the defenses.

    Where optimisers live over rounds, the adversary's go on from the last training that it made for the client. What
    it begins with is taken before the round, so that a move that is made again begins with the same.

    Args:
        pipeline: The pipeline.
        seeds: The seed of each run of the batch.
    """

    def __init__(self, pipeline: Pipeline, seeds: Sequence[int]) -> None:
        config, n_params = pipeline.federation, pipeline.model.n_params
        self._training, self._seeds = LocalTraining(pipeline=pipeline), tuple(seeds)
        places = torch.zeros(len(self._seeds), config.n_clients, n_params if config.keeps_state else 0)
        self.state = OptimiserState.fresh(config, places)

    def trainer(
        self,
        round_index: int,
        lanes: Sequence[int],
        clients: Sequence[int],
        start: torch.Tensor,
        own: ClientData,
        plan: Sequence[BatchStep],
        before: OptimiserState,
    ) -> Trainer:
        """Training of some clients of some runs.

        Args:
            round_index: The round.
            lanes: The runs.
            clients: The clients.
            start: The models that they received.
            own: Their records.
            plan: The batches of all clients.
            before: :attr:`state` at the beginning of the turn.

        Shapes:
            start: ``(lane, client, P)``, of these lanes and clients
        """
        keeps = self._training.pipeline.federation.keeps_state
        return Trainer(
            training=self._training,
            # streams of this move alone: a move that is made again draws the same outcomes
            streams=RoundStreams(self._seeds, round_index),
            lanes=list(lanes),
            clients=list(clients),
            start=start,
            mask=own.mask,
            plan=[step.at(lanes, clients) for step in plan],
            state=before.at(lanes, clients) if keeps else None,
        )

    def keep(self, trainer: Trainer, present: torch.Tensor) -> None:
        """Keep the optimisers as the last training of a move left them.

        Args:
            trainer: Whose training.
            present: Who takes part in the round.

        Shapes:
            present: ``(lane, client)``, of all lanes and clients
        """
        if trainer.state is None or trainer.moved is None:
            return
        lanes, clients = trainer.lanes, trainer.clients
        moved = trainer.moved.where(present[lanes][:, clients], trainer.state)
        self.state = self.state.put(lanes, clients, moved)


@dataclass(kw_only=True, eq=False)
class Trainer:
    """Local training on other records of the same shape, for one move of an adversary.

    Attributes:
        training: How clients train.
        streams: The streams of the move.
        lanes: The runs.
        clients: The clients.
        start: The models that they received.
        mask: 1 for a record, 0 for padding.
        plan: The batches.
        state: Their optimisers before; fresh ones where None.
        moved: Their optimisers after the last training.
    """

    training: LocalTraining
    streams: RoundStreams
    lanes: list[int]
    clients: list[int]
    start: torch.Tensor
    mask: torch.Tensor
    plan: Sequence[BatchStep]
    state: OptimiserState | None
    moved: OptimiserState | None = None

    def __call__(
        self, features: torch.Tensor, labels: torch.Tensor, *, model: Model | None = None
    ) -> torch.Tensor:
        """The updates of the shared parameters.

        Args:
            features: The records.
            labels: Their labels.
            model: What is trained in place of the shared model.

        Shapes:
            features: ``(lane, client, N, F)``; labels: ``(lane, client, N)``; returns: ``(lane, client, S)``
        """
        training = self.training
        if model is not None:
            training = replace(training, pipeline=replace(training.pipeline, model=model))
        updates, _, self.moved = training(
            self.start,
            ClientData(features=features, labels=labels, mask=self.mask),
            self.plan,
            self.streams,
            self.clients,
            purpose="adversary-shots",
            lanes=self.lanes,
            state=self.state,
        )
        return self.training.pipeline.sharing.shared(updates)
