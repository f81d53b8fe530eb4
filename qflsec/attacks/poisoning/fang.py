"""The attacks of Fang et al.: against the direction of learning, each made for one robust rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight, sights
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.defenses.robust.distances import squared_distances
from qflsec.defenses.robust.krum import krum_ranks
from qflsec.federation import Hands

__all__ = ["FangKrum", "FangTrimmedMean"]

_PAPER = (
    "Fang, Cao, Jia, Gong: Local model poisoning attacks to Byzantine-robust federated learning, "
    "USENIX Security 2020, arXiv:1911.11815"
)


@register("attack", "fang-trimmed-mean")
@dataclass(frozen=True, kw_only=True)
class FangTrimmedMean(Crafted):
    """In each coordinate, just outside the honest values, on the side that learning moves away from.

    Where the threat model grants honest updates, a value is drawn between the outermost honest one and ``b`` times (or
    a ``b``-th of) it. Where it does not, between three and four standard deviations off the mean of what the
    corrupted clients themselves would send. Every corrupted client draws its own values.

    Args:
        b: The factor of the interval.
        of: What the factor is applied to: ``"models"`` as in the paper, or ``"updates"``, which does not depend on
            where the origin of the parameters lies.

    Raises:
        ConfigError: ``b`` is not above 1, or ``of`` is unknown.

    Source:
        Fang et al., USENIX Security 2020, section 3.3, trimmed mean and median, full and partial knowledge.
    """

    card = AttackCard(
        name="fang-trimmed-mean",
        idea="Just outside the honest values of each coordinate, on the side that learning moves away from.",
        source=Source(paper=_PAPER, year=2020, where="section 3.3, attacking trimmed mean and median"),
        family="poisoning",
        goal="availability",
        needs=("honest updates, or two corrupted clients",),
    )
    least = 2
    b: float = 2.0
    of: Literal["models", "updates"] = "models"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        if not self.b > 1:
            raise ConfigError("'b' is not above 1", got=self.b)
        check_choice("of", self.of, ("models", "updates"))

    def run(self, hands: Hands) -> torch.Tensor:
        """Values drawn for each corrupted client."""
        rows = [
            torch.stack([self.craft(sight, hands) for _ in hands.clients]).to(hands.honest.dtype)
            for sight in sights(hands)
        ]
        return torch.stack(rows)

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """One draw."""
        rising = sight.mean > 0
        if sight.exact:
            low, high = self._beside(sight, rising)
        else:
            sign = torch.where(rising, -1.0, 1.0)
            low, high = (sight.mean + sign * k * sight.deviation for k in (3, 4))
        drawn = torch.rand(low.shape, generator=sight.generator, dtype=torch.float64)
        return low + (high - low) * drawn

    def _beside(self, sight: Sight, rising: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both ends of the interval beyond the outermost honest value."""
        origin = sight.base if self.of == "models" else torch.zeros_like(sight.base)
        values = sight.updates + origin
        edge = torch.where(rising, values.amin(dim=0), values.amax(dim=0))
        # below the smallest value, or above the largest: away from zero by b where that is farther out, else towards it
        outwards = rising == (edge < 0)
        beyond = torch.where(outwards, edge * self.b, edge / self.b)
        return edge - origin, beyond - origin


@register("attack", "fang-krum")
@dataclass(frozen=True, kw_only=True)
class FangKrum(Crafted):
    """Against the direction of learning, as far as Krum still chooses it.

    The update is ``-factor * sign(mean)`` in the frame of the broadcast model. The factor starts at the paper's upper
    bound and is halved until Krum, simulated, chooses the crafted vector. Where honest updates are not granted, the
    corrupted clients' own stand for them.

    Args:
        threshold: Below this factor the search stops, and the smallest factor is sent.

    Raises:
        ConfigError: The threshold is not positive.

    Source:
        Fang et al., USENIX Security 2020, section 3.2 and theorem 1.
    """

    card = AttackCard(
        name="fang-krum",
        idea="Against the direction of learning, as far as Krum still chooses it.",
        source=Source(paper=_PAPER, year=2020, where="section 3.2, attacking Krum, and theorem 1"),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    threshold: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse a threshold that would never be reached."""
        check_positive("threshold", self.threshold)

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """The vector."""
        direction = -torch.sign(sight.mean)
        turned = int(direction.count_nonzero())
        if not turned:  # nobody learns anything, and there is nothing to go against
            return direction
        factor = self._bound(sight, turned)
        while factor >= self.threshold:
            crowd = sight.crowd(factor * direction)
            squares = squared_distances(crowd.numpy())
            if krum_ranks(squares, max(1, len(crowd) - sight.m - 2))[0] >= len(crowd) - sight.m:
                break
            factor /= 2
        return factor * direction

    def _bound(self, sight: Sight, turned: int) -> float:
        """Theorem 1's upper bound of the factor; the distance to the model alone where Krum has no guarantee.

        With c corrupted clients of n, the crafted vector's score counts its c - 1 copies, at distance 0, and n - 2c - 1 honest
        updates, each no nearer than the vector is long less the longest honest update. If it is chosen, that is no more than the
        best honest score, which in turn is no more than the one among honest updates alone. The paper's length is
        ``factor sqrt(d)``; coordinates in which nobody moves do not count, as the sign there is 0.
        """
        updates, n, m = sight.updates, sight.n, sight.m
        farthest = float(updates.norm(dim=1).max()) / math.sqrt(turned)
        neighbours = max(1, min(n - m - 2, len(updates) - 1))
        squares = np.sort(squared_distances(updates.numpy()), axis=1)
        nearest = squares[:, 1 : neighbours + 1].sum(axis=1).min()
        return math.sqrt(float(nearest) / (max(1, n - 2 * m - 1) * turned)) + farthest
