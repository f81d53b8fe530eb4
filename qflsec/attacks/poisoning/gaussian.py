"""Gaussian noise in place of an update."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, Source, register
from qflsec.federation import Hands

__all__ = ["Gaussian"]


@register("attack", "gaussian")
@dataclass(frozen=True, kw_only=True)
class Gaussian(Manipulation):
    """Send independent normal noise with mean 0.

    Args:
        sigma: Its standard deviation in each coordinate.

    Units:
        sigma: that of the parameters, radians for rotation angles

    Raises:
        ConfigError: ``sigma`` is not positive.
    """

    card = AttackCard(
        name="gaussian",
        idea="Corrupted clients send normal noise.",
        source=Source(
            paper="Blanchard, El Mhamdi, Guerraoui, Stainer: Machine learning with adversaries, NeurIPS 2017, "
            "arXiv:1703.02757",
            year=2017,
            where="section 5, Gaussian attack with standard deviation 200",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients",),
    )
    sigma: float = 200.0

    def __post_init__(self) -> None:
        """Refuse a standard deviation that is none."""
        check_positive("sigma", self.sigma)

    def run(self, hands: Hands) -> torch.Tensor:
        """Noise, from each lane's own stream."""
        shape = hands.honest.shape[1:]
        drawn = [torch.randn(shape, generator=generator) for generator in hands.generators]
        return self.sigma * torch.stack(drawn).to(hands.honest)
