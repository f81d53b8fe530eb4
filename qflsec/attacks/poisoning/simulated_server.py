"""The server's step as the adversary reckons it, from the defenses in place that it knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from qflsec.attacks.poisoning.benign import Sight
from qflsec.federation import FedAvg, Hands, RoundUpdates, Stack, SummedUpdates

__all__ = ["SimulatedServer", "known_stacks", "worst_factor"]


def known_stacks(hands: Hands) -> list[Stack | None]:
    """The stack of each lane where the threat model grants ``"defenses"``, else None."""
    if "defenses" not in hands.threat.knows:
        return [None] * len(hands.generators)
    return [view.granted.defenses for view in hands.views()]


@dataclass(frozen=True, kw_only=True)
class SimulatedServer:
    """The bounds and the rule of a stack on a round that the adversary imagines.

    All clients count the same, as the adversary does not see what others state. Noise is left out: it has mean 0.
    Where the clients' layers leave the server only sums, the rule gets the mean.

    Attributes:
        stack: The stack; None for the mean, which is what an adversary takes who does not know.
        hands: The hands.
        sight: What is known of the round.
        state: What the rule remembers of the rounds that were simulated before.
        seed: Of the rule's own randomness; the server's is not known.
    """

    stack: Stack | None
    hands: Hands
    sight: Sight
    state: object
    seed: int

    def step(self, crafted: torch.Tensor) -> tuple[torch.Tensor, object]:
        """The server's step where every corrupted client sends this vector, and what its rule then remembers.

        Shapes:
            crafted: ``(S,)``; returns: ``(S,)``, double
        """
        updates = self.sight.crowd(crafted)
        if self.stack is None:
            return updates.mean(dim=0), None
        rule = self.stack.rule
        state = rule.start(updates.shape[1]) if self.state is None else self.state
        if self.stack.leaves == "individual":
            batch: RoundUpdates | SummedUpdates = self._individual(updates)
            for bound in self.stack.bounds:
                assert isinstance(batch, RoundUpdates)
                batch = bound.bound(batch)
        else:
            rule = rule if "sum" in rule.accepts else FedAvg()
            batch = self._summed(updates)
        step, state = rule.aggregate(batch, state)
        return step.double(), state

    def _individual(self, updates: torch.Tensor) -> RoundUpdates:
        return RoundUpdates(
            round=self.hands.round,
            updates=updates.to(self.hands.honest.dtype),
            counts=torch.ones(len(updates)),
            ids=tuple(range(len(updates))),
            broadcast=self.sight.base.to(self.hands.honest.dtype),
            periods=self.hands.periods,
            f=self.hands.training.declared_corrupted,
            generator=self._generator(),
            # all report the same, as the adversary does not see what others say
            reports={name: torch.ones(len(updates)) for name in (self.stack.asks if self.stack else ())},
        )

    def _summed(self, updates: torch.Tensor) -> SummedUpdates:
        return SummedUpdates(
            round=self.hands.round,
            mean=updates.mean(dim=0).to(self.hands.honest.dtype),
            weight=float(len(updates)),
            ids=tuple(range(len(updates))),
            broadcast=self.sight.base.to(self.hands.honest.dtype),
            generator=self._generator(),
        )

    def _generator(self) -> torch.Generator:
        """The same for every call, so that vectors are compared and not draws."""
        return torch.Generator().manual_seed(self.seed)


_GOLDEN = (5**0.5 - 1) / 2


def worst_factor(damage: Callable[[float], float], *, least: float, doublings: int, steps: int) -> float:
    """The factor of the largest damage: doubled from the least, then refined by the golden section.

    The damage need not have one peak; the best factor that was tried is returned, so that a refinement never
    loses what the doublings found.

    Args:
        damage: What a factor does.
        least: The smallest factor.
        doublings: How often it is doubled.
        steps: Steps of the refinement between the neighbours of the best.
    """
    tried = {least * 2.0**k: damage(least * 2.0**k) for k in range(doublings + 1)}
    best = max(tried, key=lambda factor: tried[factor])
    low, high = best / 2, min(best * 2, max(tried))
    for _ in range(steps):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        for factor in (left, right):
            if factor not in tried:
                tried[factor] = damage(factor)
        if tried[left] >= tried[right]:
            high = right
        else:
            low = left
    return max(tried, key=lambda factor: tried[factor])
