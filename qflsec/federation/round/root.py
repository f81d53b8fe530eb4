"""What a server does with records of its own: it trains on them for a rule, and tries models out for a bound."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qflsec.base.randomness import stream_seed
from qflsec.federation.pipeline import Pipeline
from qflsec.federation.round.batches import ClientData, plan_batches
from qflsec.federation.round.lanes import LaneData
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.streams import RoundStreams
from qflsec.models import Model

__all__ = ["RootTraining", "Validation"]


class RootTraining:
    """The server of each run trains by the clients' rule, on the first records of the auxiliary split.

    Each run trains by itself and draws from streams of its own, so that a batch of runs is what single runs are. Optimisers
    are fresh in each round. Layers of clients play no part, nor do their executions: the server executes as the pipeline says.

    Args:
        pipeline: The pipeline.
        lanes: The data of the runs.
        seeds: The seed of each run.
        records: The largest number of records.
    """

    def __init__(
        self, *, pipeline: Pipeline, lanes: Sequence[LaneData], seeds: Sequence[int], records: int
    ) -> None:
        self._training = LocalTraining(pipeline=pipeline)
        self._config = pipeline.federation
        self._seeds = tuple(seeds)
        self._data = [_own(lane, records) for lane in lanes]

    def __call__(self, lane: int, round_index: int, params: torch.Tensor) -> torch.Tensor:
        """The update from the model that was sent out.

        Args:
            lane: The run's place in the batch.
            round_index: The round.
            params: The broadcast model.

        Shapes:
            params: ``(P,)``; returns: ``(P,)``
        """
        streams = RoundStreams([stream_seed(self._seeds[lane], "root")], round_index)
        data = self._data[lane]
        plan = plan_batches(data, self._config, streams)
        # no client's index, so that no execution of a client's own applies
        update, _, _ = self._training(params[None, None], data, plan, streams, [-1])
        return update[0, 0]


class Validation:
    """The mean loss of models on the first records of each run's auxiliary split.

    Args:
        model: The model.
        lanes: The data of the runs.
        records: The largest number of records.
    """

    def __init__(self, model: Model, lanes: Sequence[LaneData], records: int) -> None:
        self._model = model
        self._data = [_own(lane, records) for lane in lanes]

    def __call__(self, lane: int, models: torch.Tensor) -> torch.Tensor:
        """The loss of each model.

        Args:
            lane: The run's place in the batch.
            models: The models.

        Shapes:
            models: ``(n, P)``; returns: ``(n,)``
        """
        data = self._data[lane]
        with torch.no_grad():
            logits = self._model(models[:, None, :], data.features[0, 0])
            losses = self._model.loss.per_sample(logits, data.labels[0, 0].expand(len(models), -1))
        return losses.double().mean(dim=-1)


def _own(lane: LaneData, records: int) -> ClientData:
    rows = lane.dataset.auxiliary_idx[:records]
    return ClientData(
        features=lane.dataset.features[rows][None, None],
        labels=lane.dataset.labels[rows][None, None],
        mask=torch.ones(1, 1, len(rows)),
    )
