"""Norm bound: the server scales long updates down before its rule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, UpdateError, register
from qflsec.defenses.clipping import clip_to_norm
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.median import coordinate_median
from qflsec.federation import RoundUpdates

__all__ = ["NormBound", "median_norm"]


def median_norm(updates: torch.Tensor) -> float:
    """The median of the L2 norms of the rows; the midpoint for an even number of rows.

    Shapes:
        updates: ``(n, P)``

    Raises:
        UpdateError: There is no row, or a number is not finite.
    """
    if not bool(torch.isfinite(updates).all()):
        raise UpdateError("a median norm needs updates that are finite", got="NaN or infinity")
    norms = torch.linalg.vector_norm(updates, dim=-1, keepdim=True, dtype=torch.float64)
    return float(coordinate_median(norms))


@register("layer", "norm-bound")
@dataclass(frozen=True, kw_only=True)
class NormBound(RobustFilter):
    """The server scales every update that is longer than a bound down to the bound.

    Attributes:
        max_norm: The largest L2 norm; None takes ``factor`` times the median norm of the round's updates.
        factor: The factor on the median norm; it stays 1 where ``max_norm`` is set.

    Raises:
        ConfigError: A value is not positive and finite, or both were set.
    """

    card = DefenseCard(
        name="norm-bound",
        idea="The server scales every update that is longer than a bound down to the bound.",
        source=Source(
            paper="Sun, Kairouz, Suresh, McMahan: Can you really backdoor federated learning?, "
            "arXiv:1911.07963",
            year=2019,
            where="norm thresholding of updates",
        ),
        claim="No client moves the weighted mean by more than the bound times its share of the weight.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not stop a manipulation that stays within the bound.",
            "It does not check the number of examples that a client states.",
            "Its median norm is not honest once half of the clients are corrupted.",
        ),
        cost="one norm for each update; the server needs individual updates",
    )

    robustness = Robustness(breakdown="influence bounded, f any; f < n/2 for a median norm", needs=())

    parts = True
    max_norm: float | None = None
    factor: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("max_norm", self.max_norm), ("factor", self.factor)):
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"'{name}' is out of range", got=value, expected="positive and finite")
        if self.max_norm is not None and self.factor != 1.0:
            raise ConfigError(
                "'max_norm' and 'factor' exclude each other",
                got=f"max_norm={self.max_norm}, factor={self.factor}",
                fix="set 'max_norm' for a fixed bound, or 'factor' for a multiple of the median norm",
            )

    @property
    def separate(self) -> bool:
        """A fixed bound looks at each update alone; a multiple of the median norm looks at all."""
        return self.max_norm is not None

    def limit(self, updates: torch.Tensor) -> float:
        """The bound of a round.

        Shapes:
            updates: ``(n, P)``
        """
        return self.factor * median_norm(updates) if self.max_norm is None else self.max_norm

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The round with every update scaled down to the bound."""
        return batch.with_updates(clip_to_norm(batch.updates, self.limit(batch.updates)))

    def most(self, n: int) -> int:
        """Any number under a fixed bound, fewer than half under a median norm."""
        return n if self.max_norm is not None else minority(n)
