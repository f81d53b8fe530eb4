"""A little is enough: a few standard deviations off the honest mean, all corrupted clients alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import AttackCard, Source, register
from qflsec.federation import Hands

__all__ = ["Alie", "alie_factor"]


def alie_factor(n: int, m: int, convention: Literal["honest", "all"] = "honest") -> float:
    """How many standard deviations a corrupted client may stray with a majority behind it.

    With s = floor(n/2 + 1) - m honest clients needed beside the corrupted ones for a majority, the factor is the
    quantile of the standard normal at (n - m - s) / (n - m), so that s of the n - m honest values lie farther out.
    At least one is counted, so that the factor stays finite where the corrupted clients are a majority already; it is
    never below 0.

    Args:
        n: Clients of the round.
        m: Corrupted ones.
        convention: ``"honest"`` as above, algorithm 3 of the paper; ``"all"`` takes (n - s) / n, as some
            implementations do.

    Source:
        Baruch, Baruch, Goldberg: A little is enough, NeurIPS 2019, arXiv:1902.06156, algorithm 3.
    """
    supporters = max(1, n // 2 + 1 - m)
    crowd = n - m if convention == "honest" else n
    quantile = max(0.5, (crowd - supporters) / max(1, crowd))
    return float(torch.special.ndtri(torch.tensor(quantile, dtype=torch.float64)))


@register("attack", "alie")
@dataclass(frozen=True, kw_only=True)
class Alie(Crafted):
    """Send the honest mean less ``z`` standard deviations in each coordinate.

    Args:
        z: The number of standard deviations; None for what :func:`alie_factor` says.
        convention: That function's convention.

    Raises:
        ConfigError: ``z`` is not positive, or the convention unknown.

    Source:
        Baruch, Baruch, Goldberg: A little is enough, NeurIPS 2019, arXiv:1902.06156, algorithm 3.
    """

    card = AttackCard(
        name="alie",
        idea="A few standard deviations off the honest mean in every coordinate, where a majority hides it.",
        source=Source(
            paper="Baruch, Baruch, Goldberg: A little is enough, NeurIPS 2019, arXiv:1902.06156",
            year=2019,
            where="algorithm 3",
        ),
        family="poisoning",
        goal="availability",
        needs=("two corrupted clients, or honest updates",),
    )
    least = 2
    z: float | None = None
    convention: Literal["honest", "all"] = "honest"

    def __post_init__(self) -> None:
        """Refuse parameters out of range."""
        check_positive("z", self.z)
        check_choice("convention", self.convention, ("honest", "all"))

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """The mean less z standard deviations."""
        z = alie_factor(sight.n, sight.m, self.convention) if self.z is None else self.z
        return sight.mean - z * sight.deviation
