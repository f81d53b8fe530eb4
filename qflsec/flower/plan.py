"""What the clients and the server of a Flower app agree on before the first round."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch

from qflsec.base import ConfigError, IncompatibleAttack, IncompatibleStack, finite
from qflsec.data import DataSpec
from qflsec.federation import FederationConfig, Pipeline, Stack, calibrate_stack
from qflsec.federation.layers import (
    AggregationLayer,
    AggregatorLayer,
    BoundLayer,
    Layer,
    LinkLayer,
    NoiseLayer,
    ServerLayer,
    ShapeLayer,
)
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.codes import coder_of
from qflsec.models import Execution, Model
from qflsec.models.base import Generators
from qflsec.threat import Party, client

__all__ = ["AppModel", "Plan"]

_AGREED = (
    "n_clients",
    "rounds",
    "participants",
    "max_count",
    "server_learning_rate",
    "replies",
    "coded",
    "metrics",
    "evaluate",
)
_WORKING = (ShapeLayer, AggregationLayer, LinkLayer, BoundLayer, AggregatorLayer, NoiseLayer)


class AppModel(Model):
    """The model of an app as the protocols see it: blocks of numbers, and nothing to evaluate.

    Args:
        arrays: Its arrays.
    """

    name: ClassVar[str] = "flower-app"

    def __init__(self, arrays: ArrayLayout) -> None:
        self.n_features, self.n_classes, self.angle_features = DataSpec(name="app").n_features, 2, False
        self._arrays = arrays

    @property
    def layout(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The blocks of the flat vector."""
        return tuple(zip(self._arrays.names, self._arrays.shapes, strict=True))

    @property
    def periods(self) -> tuple[float | None, ...]:
        """None: what an app does with its numbers is not known."""
        return (None,) * self.n_params

    def initial(self, generator: torch.Generator) -> torch.Tensor:
        """Nothing: the app sets its first model."""
        raise IncompatibleAttack("an app makes its first model itself")

    def to_config(self) -> dict[str, object]:
        """Its arrays."""
        return {"name": self.name, "layout": [[name, list(shape)] for name, shape in self.layout]}

    def _logits(
        self,
        params: torch.Tensor,
        features: torch.Tensor,
        execution: Execution,
        generator: Generators | None,
    ) -> torch.Tensor:
        raise IncompatibleAttack("the model of an app cannot be evaluated from outside")


@finite
@dataclass(frozen=True, kw_only=True)
class Plan:
    """What both sides of an app follow, written once.

    Attributes:
        stack: What the clients and the server do.
        n_clients: The number of clients, whose partition ids are 0 to ``n_clients - 1``.
        rounds: The number of rounds, for which noise is accounted and keys are counted.
        participants: How many clients are asked into a round; 0 for all.
        max_count: The largest number of examples that a client may state: what sums must have room for.
        declared_corrupted: How many corrupted clients the server reckons with, f.
        server_learning_rate: The factor on the aggregated update.
        replies: Whether the app's train function answers with the trained ``"model"`` or with the ``"update"``.
        coded: Whether updates travel in the code of the compressing layer that comes last, which saves bytes and gives
            numbers up to single precision; else they travel as numbers, as in the training loop.
        metrics: Whether the numbers that training reports, such as a loss, go to the server with the update; the number of
            examples always does. They are as exact as they are, whatever noise the update has.
        evaluate: Whether clients evaluate models that the server sends them, and report what their app says.
        patience: How long the server waits for the answers of one exchange, other than training.
        seed: Of the experiment; None for a deployment, where all randomness comes from the operating system. A seed
            makes runs reproducible, and secrets and noise worthless.
        seeded_secrets: Whether keys come from the seed too, where there is one; else from the operating system.

    Units:
        patience: seconds

    Raises:
        ConfigError: A value is out of range.
        IncompatibleStack: A layer of the stack works where an app has code of its own, or only within one process.
    """

    stack: Stack
    n_clients: int
    rounds: int
    participants: int = 0
    max_count: int = 1000
    declared_corrupted: int = 0
    server_learning_rate: float = 1.0
    replies: Literal["model", "update"] = "model"
    coded: bool = False
    metrics: bool = False
    evaluate: bool = False
    patience: float = 60.0
    seed: int | None = None
    seeded_secrets: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.participants <= self.n_clients:
            raise ConfigError(
                "'participants' is out of range", got=self.participants, expected=f"0 to {self.n_clients}"
            )
        if self.max_count < 1:
            raise ConfigError("'max_count' is too small", got=self.max_count, expected="1 or more")
        if not 0 < self.patience < math.inf:
            raise ConfigError("'patience' is out of range", got=self.patience, expected="positive seconds")
        if self.coded and coder_of(self.stack) is None:
            raise IncompatibleStack(
                "there is no code for the updates",
                expected="a compressing layer, last and with nothing that seals them",
            )
        if self.metrics and self.stack.aggregation is not None:
            raise IncompatibleStack(
                f"{self.stack.aggregation.card.name!r} hides single updates, and the numbers of training would go beside them",
                fix="leave out 'metrics'",
            )
        if self.evaluate and self.stack.leaves == "nothing":
            raise IncompatibleStack(
                "the server has no model that clients could evaluate for it", fix="leave out 'evaluate'"
            )
        if self.replies not in {"model", "update"}:
            raise ConfigError("unknown 'replies'", got=repr(self.replies), expected="'model' or 'update'")
        for layer in self.stack.layers:
            _check_place(layer)
        self.federation  # noqa: B018 - refuses numbers that are out of range

    @property
    def clients(self) -> tuple[Party, ...]:
        """The clients."""
        return tuple(map(client, range(self.n_clients)))

    @property
    def secret_seed(self) -> int | None:
        """What keys are made from; None for the operating system."""
        return self.seed if self.seeded_secrets else None

    @property
    def asked(self) -> int:
        """How many clients are asked into a round."""
        return self.participants or self.n_clients

    @property
    def federation(self) -> FederationConfig:
        """The same numbers as the training loop has them."""
        return FederationConfig(
            n_clients=self.n_clients,
            rounds=self.rounds,
            participation=self.asked / self.n_clients,
            declared_corrupted=self.declared_corrupted,
            server_learning_rate=self.server_learning_rate,
        )

    def pipeline(self, arrays: ArrayLayout) -> Pipeline:
        """What layers ask of a pipeline: numbers of clients, rounds and parameters. Its data are the app's own.

        Args:
            arrays: The arrays of the model.
        """
        return Pipeline(data=DataSpec(name="app"), model=AppModel(arrays), federation=self.federation)

    def ready(self, arrays: ArrayLayout) -> Stack:
        """The stack with its noise set, checked against the app.

        Args:
            arrays: The arrays of the model.

        Raises:
            IncompatibleStack: A layer cannot keep its promise here.
        """
        pipeline = self.pipeline(arrays)
        stack = calibrate_stack(self.stack, pipeline, [self.max_count] * self.n_clients)
        stack.check(pipeline)
        return stack

    @cached_property
    def digest(self) -> bytes:
        """A hash of everything: the two sides of a run compare it."""
        parts = {
            "stack": self.stack.to_config(),
            **{name: getattr(self, name) for name in _AGREED},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def _check_place(layer: Layer) -> None:
    name = layer.card.name
    if not isinstance(layer, _WORKING):
        raise IncompatibleStack(
            f"{name!r} acts inside training or on answers of the final model, where a Flower app has its own code",
            fix="leave it out here, and call it in the app's train function",
        )
    if isinstance(layer, AggregationLayer) and not layer.remote:
        raise IncompatibleStack(
            f"{name!r} works within one process only", fix="use 'masked', 'secagg' or 'he-bfv' over Flower"
        )
    if isinstance(layer, ServerLayer) and layer.asks:
        raise IncompatibleStack(
            f"{name!r} asks clients for what they report of themselves, which letters of an app do not carry",
            fix="use another rule over Flower",
        )
    if isinstance(layer, AggregatorLayer) and layer.root_records:
        raise IncompatibleStack(
            f"{name!r} needs records and a model at the server, which an app keeps to itself"
        )
    if isinstance(layer, BoundLayer) and layer.validation_records:
        raise IncompatibleStack(
            f"{name!r} needs records and a model at the server, which an app keeps to itself"
        )
