"""Inner-product manipulation: against the honest mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.poisoning.benign import Crafted, Sight
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, Source, register
from qflsec.federation import Hands

__all__ = ["Ipm"]


@register("attack", "ipm")
@dataclass(frozen=True, kw_only=True)
class Ipm(Crafted):
    """Send the honest mean times ``-epsilon``.

    The mean of n equal clients, m of them corrupted, turns round at ``epsilon > (n - m) / m``; rules that choose
    one vector are fooled by small values.

    Args:
        epsilon: The factor.

    Raises:
        ConfigError: It is not positive.
    """

    card = AttackCard(
        name="ipm",
        idea="The honest mean with the opposite sign, times a factor.",
        source=Source(
            paper="Xie, Koyejo, Gupta: Fall of empires: breaking Byzantine-tolerant SGD by inner product "
            "manipulation, UAI 2019, arXiv:1903.03936",
            year=2019,
            where="section 4, the attack on the mean, the median and Krum",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    epsilon: float = 2.0

    def __post_init__(self) -> None:
        """Refuse a factor that would not turn the mean."""
        check_positive("epsilon", self.epsilon)

    def craft(self, sight: Sight, hands: Hands) -> torch.Tensor:
        """``-epsilon`` times the mean."""
        return -self.epsilon * sight.mean
