"""The pair tap: a corrupted network measures entangled pairs on their way and sends them on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.base import AttackCard, ConfigError, Source, finite, register
from qflsec.federation import Hands
from qflsec.threat import ThreatModel

__all__ = ["PairTap"]


@register("attack", "pair-tap")
@finite
@dataclass(frozen=True, kw_only=True)
class PairTap(Manipulation):
    """Intercept a share of the pairs, measure each in Z or X by a coin, and send it on.

    What goes through such pairs arrives with a Bloch vector that is shorter by half the share, so that estimates get
    noisier. The tap tells nothing of an update: pairs are handed out before anything is sent through them.

    Args:
        share: The share of the pairs.

    Raises:
        ConfigError: It is no share.
    """

    card = AttackCard(
        name="pair-tap",
        idea="Measure entangled pairs on their way to clients and server, so that less of an update arrives.",
        source=Source(
            paper="Ekert: Quantum cryptography based on Bell's theorem, PRL 67, 661, 1991",
            year=1991,
            where="an eavesdropper on the pairs lowers the CHSH value; on pairs for teleported updates here",
        ),
        family="poisoning",
        goal="availability",
        needs=("a corrupted network", "updates that travel through entangled pairs"),
    )
    share: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 < self.share <= 1:
            raise ConfigError("'share' is out of range", got=self.share, expected="above 0, at most 1")

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model without a corrupted network.

        Raises:
            ConfigError: The network is not corrupted, or looks only.
        """
        if not (threat.wire and threat.active):
            raise ConfigError(
                f"attack {self.card.name!r} acts on the network, but threat model {threat.name!r} has no active one",
                fix="use coalition with wire = true and active = true",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest updates: clients of the coalition follow the protocol."""
        return hands.honest

    def tapped(self) -> float:
        """The share."""
        return self.share
