"""Pareto collapse: one client opposes the mean direction of all others, and a step that is bad for nobody is none."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight
from qflsec.base import AttackCard, Source, register
from qflsec.federation import Hands

__all__ = ["ParetoCollapse"]


@register("attack", "pareto-collapse")
@dataclass(frozen=True, kw_only=True)
class ParetoCollapse(Crafted):
    """Send minus the mean direction of the honest updates, as long as an honest update.

    With u_k the honest directions, c their mean and ``u = -c / |c|``, the combination ``(|c| u + c) / (1 + |c|)`` of all
    directions is 0: the shortest vector of the hull, which a Pareto rule steps along, vanishes. A rule that keeps the
    weight of a client below ``|c| / (1 + |c|)`` still moves.
    """

    card = AttackCard(
        name="pareto-collapse",
        idea="Oppose the mean direction of the honest updates, so that no step is good for every client.",
        source=Source(
            paper="Hu, Shaloudegi, Zhang, Yu: Federated learning meets multi-objective optimization, IEEE TNSE 2022, "
            "arXiv:2006.11489",
            year=2022,
            where="the rule that it is made against; the attack is this package's, derived in the docstring",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """Minus the mean direction, at the median length; zero where the honest updates cancel."""
        lengths = sight.updates.norm(dim=1, keepdim=True)
        mean = (sight.updates / lengths.clamp_min(1e-300)).mean(dim=0)
        opposed: torch.Tensor = -float(lengths.median()) * mean / mean.norm().clamp_min(1e-300)
        return opposed
