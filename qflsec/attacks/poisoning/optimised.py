"""Attacks that measure a direction out against the rule in place: as far as it hurts most, and no further."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight, sights
from qflsec.attacks.poisoning.simulated_server import SimulatedServer, known_stacks, worst_factor
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.federation import Hands, Moved

__all__ = ["Optimised", "OptimisedAlie", "OptimisedIpm"]

_SEARCH = Source(
    paper="Shejwalkar, Houmansadr: Manipulating the Byzantine, NDSS 2021",
    year=2021,
    where="section IV-A, equation 1: the factor of a fixed direction against the known rule",
)
_LEAST, _DOUBLINGS = 0.1, 10


@finite
@dataclass(frozen=True, kw_only=True)
class Optimised(Crafted):
    """Send the honest mean plus a factor times a direction, the factor measured out on a simulated server.

    The damage of a factor is how far the server's step moves from the honest mean. Factors from 0.1 to 102 are
    tried by doubling, and the best one is refined. Where the threat model does not grant ``"defenses"``, the server is
    taken to average; where it does, its bounds and its rule are simulated, and what the rule remembers is
    carried along.

    Args:
        steps: Steps of the refinement; each one simulates the server once or twice.

    Raises:
        ConfigError: ``steps`` is negative.
    """

    steps: int = 8

    def __post_init__(self) -> None:
        """Refuse a negative number of steps."""
        if self.steps < 0:
            raise ConfigError("'steps' is negative", got=self.steps, expected="0 or more")

    def run(self, hands: Hands) -> Moved:  # type: ignore[override]  # beside the vectors, what the rules remember
        """The vectors, and what the simulated rules remember after them."""
        rows, states = [], []
        for sight, stack, state in zip(sights(hands), known_stacks(hands), hands.states, strict=True):
            seed = int(torch.randint(2**31, (1,), generator=sight.generator))
            server = SimulatedServer(stack=stack, hands=hands, sight=sight, state=state, seed=seed)
            row = self._against(server, sight)
            rows.append(row)
            states.append(server.step(row)[1])
        crafted = torch.stack(rows)
        return crafted[:, None, :].expand_as(hands.honest).to(hands.honest.dtype), states

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """The vector against a server that averages."""
        return self._against(SimulatedServer(stack=None, hands=hands, sight=sight, state=None, seed=0), sight)

    def _against(self, server: SimulatedServer, sight: Sight) -> torch.Tensor:
        mean, direction = sight.mean, self.direction(sight)

        def damage(factor: float) -> float:
            return float((server.step(mean + factor * direction)[0] - mean).norm())

        factor = worst_factor(damage, least=_LEAST, doublings=_DOUBLINGS, steps=self.steps)
        return mean + factor * direction

    @abstractmethod
    def direction(self, sight: Sight) -> torch.Tensor:
        """The direction.

        Shapes:
            returns: ``(S,)``, double
        """


@register("attack", "optimised-alie")
@dataclass(frozen=True, kw_only=True)
class OptimisedAlie(Optimised):
    """A little is enough, with the number of standard deviations measured out against the rule in place.

    Source:
        Baruch, Baruch, Goldberg, NeurIPS 2019, arXiv:1902.06156 (the direction); Shejwalkar and Houmansadr, NDSS
        2021 (the search).
    """

    card = AttackCard(
        name="optimised-alie",
        idea="As many standard deviations off the honest mean as hurt the rule in place most.",
        source=_SEARCH,
        family="poisoning",
        goal="availability",
        needs=("two corrupted clients, or honest updates",),
        adaptive=True,
    )
    least = 2

    def direction(self, sight: Sight) -> torch.Tensor:
        """Minus the standard deviation of each coordinate."""
        return -sight.deviation


@register("attack", "optimised-ipm")
@dataclass(frozen=True, kw_only=True)
class OptimisedIpm(Optimised):
    """Inner-product manipulation, with its factor measured out against the rule in place.

    Source:
        Xie, Koyejo, Gupta, UAI 2019, arXiv:1903.03936 (the direction); Shejwalkar and Houmansadr, NDSS 2021 (the
        search).
    """

    card = AttackCard(
        name="optimised-ipm",
        idea="As far against the honest mean as hurts the rule in place most.",
        source=_SEARCH,
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
        adaptive=True,
    )

    def direction(self, sight: Sight) -> torch.Tensor:
        """Minus the honest mean."""
        return -sight.mean
