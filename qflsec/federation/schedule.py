"""Learning rates that change from round to round."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from qflsec.base import ConfigError, finite

__all__ = ["CONSTANT", "Schedule"]


@finite
@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the clients' learning rate depends on the round; it is the same in all local steps of a round.

    Everybody knows the round, so that clients which were absent, or have more records, follow the same schedule.

    Attributes:
        kind: ``"constant"``; ``"step"``: times ``gamma`` after every ``step_size`` rounds; ``"cosine"``: half a
            period of the cosine over all rounds of the run, from the learning rate down towards ``eta_min``.
        step_size: Rounds between two steps; needed by ``"step"``, and no part of the others.
        gamma: The factor of a step; .1 where none is given.
        eta_min: What ``"cosine"`` approaches and does not reach, below the learning rate; 0 where none is given.

    Raises:
        ConfigError: A value is out of range, or belongs to another kind.

    Source:
        ``torch.optim.lr_scheduler.StepLR`` and ``CosineAnnealingLR`` with ``T_max`` = rounds, stepped once in a round.
    """

    kind: Literal["constant", "step", "cosine"] = "constant"
    step_size: int | None = None
    gamma: float | None = None
    eta_min: float | None = None

    def __post_init__(self) -> None:
        fields = {"constant": (), "step": ("step_size", "gamma"), "cosine": ("eta_min",)}
        if self.kind not in fields:
            raise ConfigError("unknown 'kind' of a schedule", got=repr(self.kind), expected=", ".join(fields))
        for name in ("step_size", "gamma", "eta_min"):
            if getattr(self, name) is not None and name not in fields[self.kind]:
                raise ConfigError(
                    f"{name!r} is no parameter of a {self.kind!r} schedule",
                    got=getattr(self, name),
                    expected=f"only {', '.join(fields[self.kind]) or 'the kind'}",
                    fix=f"remove {name!r}, or choose another 'kind'",
                )
        if self.kind == "step" and self.step_size is None:
            raise ConfigError(
                "a 'step' schedule needs 'step_size'", fix="say after how many rounds the rate falls"
            )
        if self.step_size is not None and self.step_size < 1:
            raise ConfigError("'step_size' is too small", got=self.step_size, expected="at least 1 round")
        if self.gamma is not None and not self.gamma > 0:
            raise ConfigError("'gamma' must be positive", got=self.gamma)
        if self.eta_min is not None and self.eta_min < 0:
            raise ConfigError("'eta_min' is negative", got=self.eta_min, expected="0 or more")

    def rate(self, learning_rate: float, round_index: int, rounds: int) -> float:
        """The learning rate of a round.

        Args:
            learning_rate: That of the first round.
            round_index: The round, from 0.
            rounds: The rounds of the run.
        """
        if self.kind == "step":
            gamma = 0.1 if self.gamma is None else self.gamma
            return learning_rate * gamma ** (round_index // (self.step_size or 1))
        if self.kind == "cosine":
            least = self.eta_min or 0.0
            return least + (learning_rate - least) * (1 + math.cos(math.pi * round_index / rounds)) / 2
        return learning_rate


CONSTANT = Schedule()
