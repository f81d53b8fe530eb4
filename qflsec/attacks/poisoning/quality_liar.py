"""The quality liar: flipped labels, and a device that is claimed to be better than it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from qflsec.attacks.poisoning.label_flip import LabelFlip
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands

__all__ = ["QualityLiar"]


@register("attack", "quality-liar")
@dataclass(frozen=True, kw_only=True)
class QualityLiar(LabelFlip):
    """Train on wrong labels, and report a device of a chosen quality.

    Where nobody asks for a quality it is a label flip. A quality of 0 has others do the work: a free rider.

    Attributes:
        quality: What is reported; 1 is a perfect device.

    Raises:
        ConfigError: A value is out of range.
    """

    card = AttackCard(
        name="quality-liar",
        idea="Corrupted clients train on flipped labels and claim a perfect device, which gains them weight.",
        source=Source(
            paper="Fang, Cao, Jia, Gong: Local model poisoning attacks to Byzantine-robust federated learning, USENIX "
            "Security 2020, arXiv:1911.11815",
            year=2020,
            where="section V-A, the label flip; the lie is this package's",
        ),
        family="poisoning",
        goal="availability",
        needs=(
            "corrupted clients with records of their own",
            "a server that asks for the quality of devices",
        ),
    )
    quality: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a quality that is none."""
        super().__post_init__()
        if not 0 <= self.quality <= 1:
            raise ConfigError("'quality' is out of range", got=self.quality, expected="from 0 to 1")

    def reports(self, hands: Hands, honest: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The truth, but for the quality."""
        if "quality" not in honest:
            return honest
        return {**honest, "quality": torch.full_like(honest["quality"], self.quality)}
