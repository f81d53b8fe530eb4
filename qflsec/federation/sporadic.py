"""Sporadic updates: clients on noisy devices step less, or not at all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.base import ConfigError, finite

__all__ = ["Sporadic"]


@finite
@dataclass(frozen=True, kw_only=True)
class Sporadic:
    """A client multiplies its learning rate by x = exp(-gamma error), and sits out where x is below a threshold.

    The error is that of its device on a public benchmark (:func:`~qflsec.models.device_error`), so that x depends on no
    record. A client that keeps its model takes part in no round: its update would be zeros, as everybody knows.

    Attributes:
        gamma: How fast the step falls with the error; 0 is federated averaging, bit for bit.
        threshold: The least x that makes a step.

    Raises:
        ConfigError: A value is out of range.

    Source:
        After SpoQFL, arXiv:2507.12492 (the idea, from its abstract). The formula is stated as ours: the paper was not read,
        and what its error is was not seen.
    """

    gamma: float = 5.0
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ConfigError("'gamma' is negative", got=self.gamma, expected="0 or more")
        if not 0 <= self.threshold <= 1:
            raise ConfigError("'threshold' is out of range", got=self.threshold, expected="from 0 to 1")

    def factor(self, error: float) -> float:
        """x, or 0 where it is below the threshold.

        Args:
            error: Of the client's device.
        """
        found = math.exp(-self.gamma * error)
        return found if found >= self.threshold else 0.0
