"""Replayed updates: a corrupted network that delivers what a client sent once in every later round."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.base import AttackCard, ConfigError, Source, register
from qflsec.federation import Hands
from qflsec.threat import Party, Payload, Tapped, ThreatModel

__all__ = ["ReplayedUpdate"]


@register("attack", "replayed-update")
@dataclass(frozen=True, kw_only=True)
class ReplayedUpdate(Manipulation):
    """Keep the first update that each client sends, and deliver it in the place of all its later ones.

    The server counts an old update as one of the model that it gave the client last. What authenticates messages together
    with their round takes none of them.

    Raises:
        ConfigError: The threat model has no active network.
    """

    card = AttackCard(
        name="replayed-update",
        idea="A network delivers each client's first update again and again, so that the model follows it too far.",
        source=Source(
            paper="Denning, Sacco: Timestamps in key distribution protocols, Communications of the ACM 24, 533, 1981",
            year=1981,
            where="an old message that is taken for a new one: there of keys, here of updates",
        ),
        family="poisoning",
        goal="availability",
        needs=("a corrupted network",),
    )

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

    def start(self, n_params: int) -> dict[Party, Payload]:
        """The first update of each client; none yet."""
        return {}

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest updates: clients of the coalition follow the protocol."""
        return hands.honest

    def tamper(self, tapped: Tapped) -> Payload | tuple[Payload | None, object] | None:
        """A client's first update in the place of a later one; all else goes through."""
        if tapped.kind != "update" or tapped.sender.role != "client":
            return tapped.payload
        kept: dict[Party, Payload] = tapped.state
        return kept.get(tapped.sender, tapped.payload), {tapped.sender: tapped.payload, **kept}
