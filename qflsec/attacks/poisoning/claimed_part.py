"""Claimed part: say that another part of the model was sent than one's device or channel lets through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_choice, check_positive
from qflsec.base import AttackCard, IncompatibleAttack, Source, register
from qflsec.federation import Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["ClaimedPart"]


@register("attack", "claimed-part")
@dataclass(frozen=True, kw_only=True)
class ClaimedPart(Manipulation):
    """Claim all parts of the model or the least, and send the honest update of what is claimed, turned round and enlarged.

    A part that few others send is decided by who claims to send it always; who claims the least stays out of the rest, which
    is then a mean of fewer.

    Args:
        claim: ``"all"``, ``"least"``, or ``"true"`` for a client that does not lie about it.
        scale: The factor on the turned update.

    Raises:
        ConfigError: The claim is unknown, or the scale is not positive and finite.
    """

    card = AttackCard(
        name="claimed-part",
        idea="Corrupted clients lie about which part of the model they send, and turn their updates round.",
        source=Source(
            paper="Yun et al.: Slimmable quantum federated learning, ICML workshop DyNN 2022, arXiv:2207.10221; Li et al.: "
            "RSA, AAAI 2019, arXiv:1811.03761",
            year=2022,
            where="the channel that is lied about, and the turned update; the lie is this package's",
        ),
        family="poisoning",
        goal="availability",
        needs=("corrupted clients", "clients that send parts of the model"),
    )
    claim: Literal["all", "least", "true"] = "all"
    scale: float = 5.0

    def __post_init__(self) -> None:
        """Refuse an unknown claim, and a scale that is no enlargement."""
        check_choice("claim", self.claim, ("all", "least", "true"))
        check_positive("scale", self.scale)

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a pipeline in which everybody sends everything.

        Raises:
            IncompatibleAttack: It is one.
        """
        super().check(pipeline, threat)
        if pipeline.parts is None:
            raise IncompatibleAttack(
                f"{self.card.name!r} lies about the part of the model that a client sends, but all send all of it",
                fix="set 'parts' of the pipeline, such as parts = { name = 'slimmable' }",
            )

    def claims(self, choices: int, honest: int) -> int:
        """All, the least, or the truth."""
        return {"all": choices - 1, "least": 0, "true": honest}[self.claim]

    def run(self, hands: Hands) -> torch.Tensor:
        """``-scale`` times the honest updates of what is claimed."""
        return -self.scale * hands.honest
