"""The loss liar: flipped labels, and a reported loss that makes the server count the client more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.poisoning.label_flip import LabelFlip
from qflsec.attacks.poisoning.simulated_server import known_stacks
from qflsec.attacks.values import check_choice
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.defenses.weighting import LossRule
from qflsec.federation import AggregatorLayer, Hands, RoundUpdates

__all__ = ["LossLiar", "counts_small_losses"]


def counts_small_losses(rule: AggregatorLayer) -> bool:
    """Whether a client with a smaller loss counts more under a rule; taken to be so where a rule does not weigh losses."""
    if not isinstance(rule, LossRule):
        return True
    batch = RoundUpdates(
        round=0,
        updates=torch.zeros(2, 1),
        counts=torch.ones(2),
        ids=(0, 1),
        broadcast=torch.zeros(1),
        periods=(None,),
        f=0,
        generator=torch.Generator(),
        reports={"loss": torch.tensor([0.1, 1.0])},
    )
    small, large = rule.shares(batch).tolist()
    return bool(small >= large)


@register("attack", "loss-liar")
@dataclass(frozen=True, kw_only=True)
class LossLiar(LabelFlip):
    """Train on wrong labels, and report the loss under which the server counts the update most.

    Where nobody asks for a loss it is a label flip.

    Attributes:
        lie: ``"low"`` or ``"high"``; ``"known"`` reports the one that gains most under the rule in place, where the threat
            model knows the defenses, and a low one otherwise.
        low: The low loss.
        high: The high loss.

    Raises:
        ConfigError: A value is out of range.
    """

    card = AttackCard(
        name="loss-liar",
        idea="Corrupted clients train on flipped labels and report the loss that gains them most weight.",
        source=Source(
            paper="Li et al.: Fair resource allocation in federated learning, ICLR 2020, arXiv:1905.10497; Fang et "
            "al., USENIX Security 2020, arXiv:1911.11815",
            year=2020,
            where="the rule that is lied to, and the label flip; the lie is this package's",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients with records of their own", "a server that asks for losses"),
        adaptive=True,
    )
    lie: Literal["known", "low", "high"] = "known"
    low: float = 0.001
    high: float = 10.0

    def __post_init__(self) -> None:
        """Refuse an unknown lie and losses that are none."""
        super().__post_init__()
        check_choice("lie", self.lie, ("known", "low", "high"))
        if not 0 <= self.low < self.high:
            raise ConfigError(
                "'low' and 'high' are no losses in order",
                got=f"low={self.low}, high={self.high}",
                expected="0 <= low < high",
            )

    def reports(self, hands: Hands, honest: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """The truth, but for the loss."""
        if "loss" not in honest:
            return honest
        stack = known_stacks(hands)[0] if self.lie == "known" else None
        small = self.lie == "low" or (
            self.lie == "known" and (stack is None or counts_small_losses(stack.rule))
        )
        return {**honest, "loss": torch.full_like(honest["loss"], self.low if small else self.high)}
