"""MinMax and MinSum: as far from the honest mean as the honest updates are from each other."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight
from qflsec.attacks.values import check_choice
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.defenses.robust.distances import squared_distances
from qflsec.federation import Hands

__all__ = ["Hidden", "MinMax", "MinSum"]

Direction = Literal["deviation", "sign", "unit"]
_PAPER = "Shejwalkar, Houmansadr: Manipulating the Byzantine, NDSS 2021"


@finite
@dataclass(frozen=True, kw_only=True)
class Hidden(Crafted):
    """Send the honest mean plus the largest multiple of a direction that still hides among the honest updates.

    The constraints are quadratic in the factor, so that the largest one is computed; the paper searches for it.

    Args:
        direction: ``"deviation"`` is minus the standard deviation of each coordinate, ``"sign"`` minus the sign of
            the mean, ``"unit"`` minus the mean at length 1.
        first_round: The round in which it begins; before that the clients are honest. What hides moves a round's mean by
            no more than honest updates differ, so that it may take many rounds.

    Raises:
        ConfigError: The direction is unknown, or the round negative.
    """

    least = 2
    direction: Direction = "deviation"
    first_round: int = 0

    def __post_init__(self) -> None:
        """Refuse an unknown direction, and no round."""
        check_choice("direction", self.direction, get_args(Direction))
        if self.first_round < 0:
            raise ConfigError("'first_round' is negative", got=self.first_round, expected="0 or more")

    def run(self, hands: Hands) -> torch.Tensor:
        """The vector of each lane; honest updates before it begins."""
        return hands.honest if hands.round < self.first_round else super().run(hands)

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """The vector; the mean itself where the direction is zero."""
        mean, direction = sight.mean, self._along(sight)
        if not bool(direction.any()):
            return mean
        return mean + self.factor(sight.updates, mean, direction) * direction

    def _along(self, sight: Sight) -> torch.Tensor:
        if self.direction == "deviation":
            return -sight.deviation
        if self.direction == "sign":
            return -torch.sign(sight.mean)
        length = float(sight.mean.norm())
        return -sight.mean / length if length else -sight.mean

    @abstractmethod
    def factor(self, updates: torch.Tensor, mean: torch.Tensor, direction: torch.Tensor) -> float:
        """The largest factor.

        Shapes:
            updates: ``(b, S)``; mean, direction: ``(S,)``
        """


def _largest(square: torch.Tensor, linear: torch.Tensor, constant: torch.Tensor) -> torch.Tensor:
    """The larger root of ``square g**2 + 2 linear g + constant``, whose value at 0 is not positive."""
    return (-linear + (linear**2 - square * constant).clamp(min=0).sqrt()) / square


@register("attack", "min-max")
@dataclass(frozen=True, kw_only=True)
class MinMax(Hidden):
    """No farther from any honest update than the two honest updates that are farthest from each other.

    Source:
        Shejwalkar, Houmansadr: Manipulating the Byzantine, NDSS 2021, equation 8 (agnostic to the rule).
    """

    card = AttackCard(
        name="min-max",
        idea="No farther from any honest update than two honest updates are from each other.",
        source=Source(paper=_PAPER, year=2021, where="section IV-B, Min-Max"),
        family="poisoning",
        goal="availability",
        needs=("two corrupted clients, or honest updates",),
    )

    def factor(self, updates: torch.Tensor, mean: torch.Tensor, direction: torch.Tensor) -> float:
        """The largest factor that keeps every distance within the largest one."""
        widest = float(squared_distances(updates.numpy()).max())
        offsets = mean - updates
        constant = offsets.square().sum(dim=1) - widest
        return float(_largest(direction.square().sum(), offsets @ direction, constant).min())


@register("attack", "min-sum")
@dataclass(frozen=True, kw_only=True)
class MinSum(Hidden):
    """Its squared distances to the honest updates add up to no more than those of the outermost honest update.

    Source:
        Shejwalkar, Houmansadr: Manipulating the Byzantine, NDSS 2021, equation 9 (agnostic to the rule).
    """

    card = AttackCard(
        name="min-sum",
        idea="Its squared distances to the honest updates add up to no more than those of an honest update.",
        source=Source(paper=_PAPER, year=2021, where="section IV-B, Min-Sum"),
        family="poisoning",
        goal="availability",
        needs=("two corrupted clients, or honest updates",),
    )

    def factor(self, updates: torch.Tensor, mean: torch.Tensor, direction: torch.Tensor) -> float:
        """The largest factor that keeps the sum within the largest one."""
        most = float(squared_distances(updates.numpy()).sum(axis=1).max())
        offsets = mean - updates
        square = len(updates) * direction.square().sum()
        constant = offsets.square().sum() - most
        return float(_largest(square, (offsets @ direction).sum(), constant))
