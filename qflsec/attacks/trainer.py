"""Training the pipeline under attack on records of one's own choice: who does it, and what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qflsec.base import ConfigError, finite, stream_seed
from qflsec.threat import Records

__all__ = ["OneByOne", "ShadowRequest", "TracingTrainer", "Trainer"]


class Trainer(Protocol):
    """Trains models as the pipeline under attack does; the pipeline is public, so everybody can."""

    def __call__(self, pool: Records, members: Tensor, defenses: Any = None) -> Tensor:  # noqa: ANN401 - a stack
        """The final parameters of one model for each training set.

        Args:
            pool: Records.
            members: Which of them each model is trained on.
            defenses: The defenses in place; None trains without any.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, P)``
        """


@runtime_checkable
class TracingTrainer(Trainer, Protocol):
    """A trainer that can tell the model of every round, not the last alone."""

    def trace(self, pool: Records, members: Tensor, defenses: Any = None) -> Tensor:  # noqa: ANN401 - a stack
        """The first model and that after every round, of one training for each training set.

        Args:
            pool: Records.
            members: Which of them each model is trained on.
            defenses: The defenses in place; None trains without any.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, round + 1, P)``
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class OneByOne:
    """A trainer made of a function that trains one model, as whoever audits a training of their own has it.

    Attributes:
        train: Records and a seed in, final parameters out, under whatever defenses it trains.
        seed: The seed; each model has one of its own, derived from it.
    """

    train: Callable[[Records, int], Tensor]
    seed: int

    def __call__(self, pool: Records, members: Tensor, defenses: Any = None) -> Tensor:  # noqa: ANN401 - a stack
        """The final parameters of one model for each training set.

        Shapes:
            members: ``(s, n)``, boolean; returns: ``(s, P)``
        """
        return torch.stack(
            [
                self.train(
                    pool.at(row),
                    stream_seed(self.seed, "shadow", index),
                )
                for index, row in enumerate(members)
            ]
        )


@finite
@dataclass(frozen=True, kw_only=True)
class ShadowRequest:
    """What an attack wants to have trained.

    Attributes:
        count: How many models; even, so that each candidate can be in half of them.
        online: Whether the candidates are among the records, each in half of the training sets; otherwise the
            models are trained on the adversary's own records alone, and every candidate is outside.
        every_round: Whether the model of every round is wanted, not the last alone.
        clients: Whether whole record sets of clients are in question, each in half of the training sets.

    Raises:
        ConfigError: The number is odd or too small.
    """

    count: int
    online: bool
    every_round: bool = False
    clients: bool = False

    def __post_init__(self) -> None:
        if self.count < 4 or self.count % 2:
            raise ConfigError("bad number of shadow models", got=self.count, expected="an even number from 4")
