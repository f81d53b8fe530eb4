"""What corrupted clients know of the honest updates of a round, and attacks that compute one vector from it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch

from qflsec.attacks.base import Manipulation
from qflsec.base import IncompatibleAttack
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["Crafted", "Sight", "sights"]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the corrupted clients of one run know in one round.

    Attributes:
        updates: The honest updates that they go by, in double precision: those of the honest clients where the
            threat model grants ``"honest-updates"``, else what they themselves would send.
        exact: Whether the updates are those of the honest clients.
        base: The model that the first of them received.
        n: How many clients take part in the round; on average, where participants are drawn and they do not see it.
        m: How many of these are corrupted.
        round: The round.
        generator: The run's stream.

    Shapes:
        updates: ``(b, S)``, double; base: ``(S,)``, double
    """

    updates: torch.Tensor
    exact: bool
    base: torch.Tensor
    n: int
    m: int
    round: int
    generator: torch.Generator

    @property
    def mean(self) -> torch.Tensor:
        """The mean of the honest updates.

        Shapes:
            returns: ``(S,)``
        """
        return self.updates.mean(dim=0)

    @property
    def deviation(self) -> torch.Tensor:
        """Their standard deviation by coordinate, with b - 1 in the denominator; zero for one update.

        Shapes:
            returns: ``(S,)``
        """
        if len(self.updates) < 2:
            return torch.zeros_like(self.base)
        return self.updates.std(dim=0)

    def crowd(self, crafted: torch.Tensor) -> torch.Tensor:
        """The round as the server would see it, with this vector from every corrupted client; they come last.

        Where the honest updates are not granted, the known ones stand for them, over and over.

        Shapes:
            crafted: ``(S,)``; returns: ``(n, S)``
        """
        honest = self.updates
        if not self.exact:
            wanted = max(1, self.n - self.m)
            honest = honest[torch.arange(wanted) % len(honest)]
        return torch.cat([honest, crafted.expand(self.m, -1)])


def sights(hands: Hands) -> list[Sight]:
    """What the corrupted clients know in this round, for each lane.

    Own updates of clients without records say nothing and are left out, unless there are no others.
    """
    granted = _granted(hands)
    found = []
    drawn = hands.training.n_participants
    share = max(1, round(len(hands.clients) * drawn / hands.n_clients))
    for lane, generator in enumerate(hands.generators):
        own = hands.honest[lane].double()
        useful = hands.mask[lane].sum(dim=-1) > 0
        updates = own[useful] if bool(useful.any()) else own
        known = granted[lane]
        found.append(
            Sight(
                updates=updates if known is None else known.double(),
                exact=known is not None,
                base=hands.base[lane, 0].double(),
                n=drawn if known is None else len(known) + share,
                m=share,
                round=hands.round,
                generator=generator,
            )
        )
    return found


def _granted(hands: Hands) -> list[torch.Tensor | None]:
    """The honest clients' updates of this round, in the order of the clients; None where they are not granted."""
    if "honest-updates" not in hands.threat.knows:
        return [None] * len(hands.generators)
    found: list[torch.Tensor | None] = []
    for view in hands.views():
        items = view.readable("update", round_index=hands.round)
        held = {min(item.named): item.vector for item in items if item.granted}
        found.append(torch.stack([held[index] for index in sorted(held)]) if held else None)
    return found


@dataclass(frozen=True, kw_only=True)
class Crafted(Manipulation):
    """All corrupted clients send one vector that is computed from the honest updates that they know.

    Attributes:
        least: How many honest updates it must know.
    """

    least: ClassVar[int] = 1

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a threat model that knows too few honest updates.

        Raises:
            IncompatibleAttack: It does.
        """
        super().check(pipeline, threat)
        if "honest-updates" not in threat.knows and len(threat.clients) < self.least:
            raise IncompatibleAttack(
                f"{self.card.name!r} goes by how honest updates spread, and knows too few of them",
                got=f"{len(threat.clients)} corrupted clients, who know only their own",
                expected=f"at least {self.least}, or a threat model that knows 'honest-updates'",
                fix="raise 'n' of the threat model",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The vector of each lane, from every corrupted client."""
        rows = torch.stack([self.craft(sight, hands) for sight in sights(hands)])
        return rows[:, None, :].expand_as(hands.honest).to(hands.honest.dtype)

    @abstractmethod
    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """The vector of one lane.

        Args:
            sight: What is known in this lane.
            hands: The hands of all lanes.

        Shapes:
            returns: ``(S,)``, double
        """
