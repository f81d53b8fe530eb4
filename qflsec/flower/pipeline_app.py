"""A pipeline of the lab as a Flower app: each node trains one client of it, as the training loop does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from qflsec.base import ConfigError, finite
from qflsec.federation import Pipeline
from qflsec.federation.round.batches import ClientData, plan_batches
from qflsec.federation.round.lanes import LaneData, prepare_lane
from qflsec.federation.round.local import LocalTraining
from qflsec.federation.streams import RoundStreams
from qflsec.flower.client import INDEX_KEY, ClientSide

__all__ = ["PipelineApp"]

_NAME = "params"


@finite
@dataclass(frozen=True, kw_only=True, eq=False)
class PipelineApp:
    """One run of a pipeline as an app.

    Attributes:
        pipeline: The pipeline; its clients' optimisers must not live over rounds, since nodes keep nothing.
        seed: The seed of the run.

    Raises:
        ConfigError: The pipeline keeps something at the clients, or is no star.
    """

    pipeline: Pipeline
    seed: int

    def __post_init__(self) -> None:
        if self.pipeline.federation.keeps_state or self.pipeline.kept:
            raise ConfigError(
                "clients of a Flower app keep no optimiser and no part of the model between rounds"
            )
        if self.pipeline.parts is not None:
            raise ConfigError("clients of a Flower app send the whole model", got=self.pipeline.parts.name)
        if self.pipeline.uploaded is not None:
            raise ConfigError("clients of a Flower app send their updates alone, and no metric")
        if self.pipeline.topology.name != "star":
            raise ConfigError("a Flower app is a star", got=self.pipeline.topology.name)

    @cached_property
    def lane(self) -> LaneData:
        """The data of the run, and its first model."""
        return prepare_lane(self.pipeline, self.seed)

    @cached_property
    def arrays(self) -> ArrayRecord:
        """The first model."""
        return ArrayRecord({_NAME: Array(self.lane.initial.numpy())})

    def accuracy(self, arrays: ArrayRecord) -> float:
        """The test accuracy of a model."""
        dataset, params = self.lane.dataset, torch.from_numpy(arrays[_NAME].numpy().copy())
        rows = dataset.test_idx
        with torch.no_grad():
            logits = self.pipeline.model(params, dataset.features[rows])
        return float((logits.argmax(dim=-1) == dataset.labels[rows]).double().mean())

    def update(self, params: torch.Tensor, index: int, round_index: int) -> tuple[torch.Tensor, float, int]:
        """What one client adds to a model, its mean loss before, and its number of records.

        Args:
            params: The model.
            index: The client.
            round_index: The round.

        Shapes:
            params: ``(P,)``; returns: ``(P,)`` first
        """
        lane, clients = self.lane, [index]
        data = ClientData(features=lane.features[None], labels=lane.labels[None], mask=lane.mask[None])
        streams = RoundStreams([self.seed], round_index)
        steps = plan_batches(data, self.pipeline.federation, streams)
        training = LocalTraining(pipeline=self.pipeline)
        made, losses, _ = training(
            params[None, None],
            data.at(range(1), clients),
            [step.at(range(1), clients) for step in steps],
            streams,
            clients,
        )
        return made[0, 0], float(losses[0, 0]), int(lane.mask[index].sum())

    def client(
        self, side: ClientSide, *, told: Callable[[int, float, float], None] | None = None
    ) -> ClientApp:
        """The ClientApp, which answers with updates.

        Args:
            side: The mod.
            told: Is told of each training: the client, its mean loss before, and the seconds of processor time.
        """
        app = ClientApp(mods=[side])

        @app.train()
        def train(message: Message, context: Context) -> Message:
            index = int(context.node_config[INDEX_KEY])
            config: Mapping[str, object] = message.content.config_records["config"]
            round_index = int(str(config["server-round"])) - 1
            params = torch.from_numpy(message.content.array_records["arrays"][_NAME].numpy().copy())
            began = time.process_time()
            made, loss, count = self.update(params, index, round_index)
            if told is not None:
                told(index, loss, time.process_time() - began)
            answer = RecordDict(
                {
                    "arrays": ArrayRecord({_NAME: Array(made.numpy())}),
                    "metrics": MetricRecord({"num-examples": count}),
                }
            )
            return Message(answer, reply_to=message)

        return app
