"""Label flip: honest training on wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.base import Manipulation
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands

__all__ = ["LabelFlip"]


@register("attack", "label-flip")
@dataclass(frozen=True, kw_only=True)
class LabelFlip(Manipulation):
    """Train as the protocol says, on labels that are all wrong.

    Args:
        rule: ``"reverse"`` turns class y into K-1-y (with an odd K the middle class stays), ``"next"`` into
            y+1 modulo K. For two classes they are the same.

    Raises:
        ConfigError: The rule is unknown.

    Source:
        Fang, Cao, Jia, Gong: Local model poisoning attacks to Byzantine-robust federated learning, USENIX
        Security 2020, section 4.1 (``reverse``).
    """

    card = AttackCard(
        name="label-flip",
        idea="Corrupted clients train on flipped labels.",
        source=Source(
            paper="Fang et al., USENIX Security 2020, arXiv:1911.11815",
            year=2020,
            where="section 4.1, label flipping attack",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own",),
    )
    rule: Literal["reverse", "next"] = "reverse"

    def __post_init__(self) -> None:
        """Refuse an unknown rule."""
        if self.rule not in {"reverse", "next"}:
            raise ConfigError("unknown 'rule' of a label flip", got=self.rule, expected="'reverse' or 'next'")

    def run(self, hands: Hands) -> torch.Tensor:
        """The update of training on the flipped labels."""
        n_classes = hands.model.n_classes
        flipped = n_classes - 1 - hands.labels if self.rule == "reverse" else (hands.labels + 1) % n_classes
        return hands.train(hands.features, flipped)
