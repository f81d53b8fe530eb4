"""Weighing clients: shares of the weight, and what bounds them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from qflsec.base import ConfigError, UpdateError
from qflsec.defenses.robust import UpdateRule
from qflsec.federation import RoundUpdates, weighted_mean

__all__ = ["LossRule", "WeightedRule", "capped_shares", "check_power"]


def capped_shares(weights: torch.Tensor, cap: float) -> torch.Tensor:
    """Shares in proportion to weights, none of them above a cap.

    What the cap takes off the largest goes to the others in proportion, so that the shares sum to 1. Where so few are
    left that the cap cannot hold, all get the same.

    Args:
        weights: Weights of at least 0, not all of them 0.
        cap: The largest share, above 0.

    Shapes:
        weights: ``(n,)``; returns: ``(n,)``, double

    Raises:
        UpdateError: A weight is negative or not finite, or all are 0.
        ConfigError: The cap is no share.

    >>> capped_shares(torch.tensor([8.0, 1.0, 1.0]), 0.5)
    tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    wide = weights.double()
    if not bool(torch.isfinite(wide).all()) or bool((wide < 0).any()) or not bool((wide > 0).any()):
        raise UpdateError(
            "weights are no weights", got=wide.tolist(), expected="finite numbers of at least 0, one above 0"
        )
    if not 0 < cap <= 1:
        raise ConfigError("the largest share is out of range", got=cap, expected="above 0, at most 1")
    n = len(wide)
    if cap * n <= 1:
        return torch.full_like(wide, 1 / n)
    shares = wide / wide.sum()
    full = torch.zeros(n, dtype=torch.bool)
    while bool((over := (shares > cap) & ~full).any()):
        full |= over
        left, rest = 1 - cap * int(full.sum()), wide[~full].sum()
        # whoever is left without any weight gets the rest in equal parts: somebody has to
        others = wide[~full] / rest if rest > 0 else torch.full_like(wide[~full], 1 / int((~full).sum()))
        shares = torch.full_like(wide, cap)
        shares[~full] = left * others
    return shares


def check_power(epsilon: float, power: float) -> None:
    """Refuse a weight 1 / (x + epsilon)^power that is none.

    Raises:
        ConfigError: A value is out of range.
    """
    if not epsilon > 0:
        raise ConfigError("'epsilon' is out of range", got=epsilon, expected="above 0")
    if power < 0:
        raise ConfigError("'power' is out of range", got=power, expected="0 or more")


@dataclass(frozen=True, kw_only=True)
class WeightedRule(UpdateRule):
    """A rule that is a weighted mean of the updates, up to a factor.

    A bound before it may limit the share of a client (:class:`~qflsec.defenses.weighting.WeightCap`).
    """

    over_groups: ClassVar[bool] = False

    @abstractmethod
    def weights(self, batch: RoundUpdates) -> torch.Tensor:
        """What each client counts.

        Shapes:
            returns: ``(n,)``
        """

    def rows(self, batch: RoundUpdates) -> torch.Tensor:
        """What is averaged; the updates as they are by default.

        Shapes:
            returns: ``(n, P)``
        """
        return batch.updates

    def factor(self, batch: RoundUpdates) -> float:
        """What the weighted mean is multiplied by; 1 by default."""
        return 1.0

    @final
    def shares(self, batch: RoundUpdates) -> torch.Tensor:
        """The share of each client in the weighted mean, under the cap of the round; they sum to 1.

        Shapes:
            returns: ``(n,)``, double
        """
        weights = self.weights(batch).double()
        return weights / weights.sum() if batch.max_share is None else capped_shares(weights, batch.max_share)

    @final
    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The weighted mean."""
        weights = self.weights(batch) if batch.max_share is None else self.shares(batch)
        mean = weighted_mean(self.rows(batch), weights)
        factor = self.factor(batch)
        return (mean if factor == 1.0 else factor * mean), None


@dataclass(frozen=True, kw_only=True)
class LossRule(WeightedRule):
    """A rule that weighs clients by the loss that they report.

    A loss is at least 0; what is reported below counts as 0.
    """

    asks: ClassVar[frozenset[str]] = frozenset({"loss"})
    topologies = frozenset({"star"})

    @final
    def losses(self, batch: RoundUpdates) -> torch.Tensor:
        """The reported losses.

        Shapes:
            returns: ``(n,)``, double

        Raises:
            UpdateError: There are none.
        """
        if "loss" not in batch.reports:
            raise UpdateError(
                f"{self.card.name!r} weighs by losses, and the clients reported none",
                got=sorted(batch.reports) or "no reports",
                expected="'loss'",
                fix="use the rule in a stack, whose clients are asked for it",
            )
        return batch.reports["loss"].double().clamp_min(0.0)
