"""What leaves a client: the update of its training, shaped by its layers, or what an adversary puts in its place."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import torch
from flwr.app import RecordDict

from qflsec.base import ConfigError, IncompatibleAttack, UpdateError, stream
from qflsec.federation import Adversary, Hands
from qflsec.federation.payloads import SentPayload
from qflsec.flower.arrays import ArrayLayout
from qflsec.flower.held import Held
from qflsec.flower.plan import Plan
from qflsec.flower.streams import DeployedStreams, LabStreams
from qflsec.models import Model
from qflsec.threat import corrupted_clients

__all__ = ["Forge", "Release", "keep_counts"]

_COUNTS = ("num-examples", "num_examples")


class Forge(Protocol):
    """What stands between a client's update and what it sends, in the lab."""

    def honest(self, index: int) -> bool:
        """Whether a client sends what its layers made of its update."""

    def __call__(self, held: Held, index: int, model: torch.Tensor, honest: torch.Tensor) -> SentPayload:
        """What is sent; None for nothing.

        Args:
            held: What the client holds.
            index: The round.
            model: The model that it received.
            honest: What its layers made of its update.

        Shapes:
            model, honest: ``(P,)``
        """


@dataclass(frozen=True, kw_only=True)
class Release:
    """How one client makes what it sends.

    Attributes:
        plan: The plan.
        adversary: What a corrupted client does; None for an honest one.
        forge: The same for clients of the lab, honest ones too; None elsewhere.
    """

    plan: Plan
    adversary: Adversary | None = None
    forge: Forge | None = None

    def bound(self, held: Held) -> bool:
        """Whether honest code binds what a client sends."""
        return self.adversary is None and (self.forge is None or self.forge.honest(held.party.index))

    def update(self, layout: ArrayLayout, model: torch.Tensor, answered: RecordDict) -> torch.Tensor:
        """The update in what an app's train function answered.

        Shapes:
            model: ``(P,)``; returns: ``(P,)``

        Raises:
            ConfigError: It answered with no arrays, or several records of them.
            UpdateError: The arrays are not those of the model, or not finite.
        """
        records = list(answered.array_records.values())
        if len(records) != 1:
            raise ConfigError(
                "the train function must answer with one record of arrays", got=f"{len(records)} records"
            )
        given = layout.vector(records[0])
        update = given if self.plan.replies == "update" else given - model
        if self.adversary is None and self.forge is None and not bool(torch.isfinite(update).all()):
            raise UpdateError("the trained model is not finite", fix="lower the learning rate")
        return update

    def count(self, answered: RecordDict) -> float:
        """The number of examples that an app's train function states.

        Raises:
            ConfigError: It states none, or more than the plan has room for.
        """
        for metrics in answered.metric_records.values():
            for name in _COUNTS:
                value = metrics.get(name)
                if isinstance(value, int | float) and 0 <= value <= self.plan.max_count:
                    return float(value)
                if value is not None:
                    raise ConfigError(
                        f"{name!r} is out of range",
                        got=value,
                        expected=f"0 to max_count = {self.plan.max_count}",
                    )
        raise ConfigError(
            "the train function states no number of examples",
            expected=f"a MetricRecord with {_COUNTS[0]!r}",
        )

    def shaped(self, held: Held, index: int, model: torch.Tensor, update: torch.Tensor) -> SentPayload:
        """The update as it leaves the client, before it is sealed; what is no update, or None, in the lab alone.

        Args:
            held: What the client holds.
            index: The round.
            model: The model that it received.
            update: What training made of it.

        Shapes:
            model: ``(P,)``; update: ``(P,)``
        """
        plan, me = self.plan, held.party.index
        streams = DeployedStreams() if plan.seed is None else LabStreams(plan.seed, index, me, plan.n_clients)
        released = update[None, None]
        for layer in held.stack.shapes:
            released = layer.shape(released, streams)
        if self.forge is not None:
            return self.forge(held, index, model, released[0, 0])
        if self.adversary is None:
            return released[0, 0]
        return self._manipulated(held, index, model[None, None], released)

    def _manipulated(self, held: Held, index: int, model: torch.Tensor, honest: torch.Tensor) -> torch.Tensor:
        assert self.adversary is not None
        adversary, plan, nothing = deepcopy(self.adversary), self.plan, torch.zeros(1, 1, 0, 1)
        pipeline = plan.pipeline(held.layout)
        if held.memory is None:
            held.memory = [adversary.start(held.layout.n_params)]
        hands = Hands(
            round=index,
            model=pipeline.model,
            received=model,
            features=nothing,
            labels=torch.zeros(1, 1, 0, dtype=torch.long),
            mask=torch.zeros(1, 1, 0),
            honest=honest,
            base=model,
            periods=pipeline.model.periods,
            training=plan.federation,
            threat=corrupted_clients(n=1),
            clients=(held.party.index,),
            n_clients=plan.n_clients,
            train=_no_training,
            views=list,
            generators=[stream(plan.seed or 0, "adversary", index)],
            states=deepcopy(held.memory),
        )
        moved = adversary.updates(hands)
        sent, states = moved if isinstance(moved, tuple) else (moved, None)
        held.memory = held.memory if states is None else list(states)
        if not isinstance(sent, torch.Tensor) or sent.shape != honest.shape:
            raise IncompatibleAttack(
                "an attack that sends no update of the model has no place in a Flower app"
            )
        return sent[0, 0].to(honest.dtype)


def keep_counts(answered: RecordDict) -> None:
    """Take out of an answer all numbers but those of examples: a loss tells of records, whatever the update hides."""
    for metrics in answered.metric_records.values():
        for name in [name for name in metrics if name not in _COUNTS]:
            del metrics[name]


def _no_training(
    features: torch.Tensor,  # noqa: ARG001 - what an attack would train on
    labels: torch.Tensor,  # noqa: ARG001
    *,
    model: Model | None = None,  # noqa: ARG001
) -> torch.Tensor:
    raise IncompatibleAttack(
        "this attack trains on records of its own making, and the train function of an app takes none",
        fix="use one that works on updates, such as 'scaled-sign-flip', or poison the app's own records",
    )
