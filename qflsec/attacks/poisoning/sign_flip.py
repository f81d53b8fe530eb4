"""Sign flips: the honest update, turned round."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, Source, register
from qflsec.federation import Hands

__all__ = ["ScaledSignFlip", "SignFlip"]

_SOURCE = Source(
    paper="Li, Xu, Chen, Giannakis, Ling: RSA, AAAI 2019, arXiv:1811.03761",
    year=2019,
    where="numerical experiments, sign-flipping attacks",
)


@register("attack", "sign-flip")
@dataclass(frozen=True, kw_only=True)
class SignFlip(Manipulation):
    """Send the honest update with the opposite sign: no larger than an honest one, so no bound sees it."""

    card = AttackCard(
        name="sign-flip",
        idea="Corrupted clients send their honest updates with the opposite sign.",
        source=_SOURCE,
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )

    def run(self, hands: Hands) -> torch.Tensor:
        """Minus the honest updates."""
        return -hands.honest


@register("attack", "scaled-sign-flip")
@dataclass(frozen=True, kw_only=True)
class ScaledSignFlip(Manipulation):
    """Send the honest update with the opposite sign and a larger size.

    With m of n equal clients corrupted, the mean turns round at ``scale > (n - m) / m``.

    Args:
        scale: The factor.

    Raises:
        ConfigError: The scale is not positive and finite.
    """

    card = AttackCard(
        name="scaled-sign-flip",
        idea="Corrupted clients send their honest updates turned round and enlarged.",
        source=_SOURCE,
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    scale: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a scale that is no enlargement."""
        check_positive("scale", self.scale)

    def run(self, hands: Hands) -> torch.Tensor:
        """``-scale`` times the honest updates."""
        return -self.scale * hands.honest
