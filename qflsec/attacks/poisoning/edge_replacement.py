"""A corrupted edge server that replaces the step of its block."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.attacks.base import Manipulation
from qflsec.attacks.values import check_positive
from qflsec.base import AttackCard, ConfigError, IncompatibleAttack, Source, register
from qflsec.federation import EdgeHands, Hands, Pipeline
from qflsec.threat import ThreatModel

__all__ = ["EdgeReplacement"]


@register("attack", "edge-replacement")
@dataclass(frozen=True, kw_only=True)
class EdgeReplacement(Manipulation):
    """Put the block's own step, turned round and enlarged, in the place of what an edge server's clients trained.

    The server above it counts the block by the examples of all its clients, and no rule of its own is asked: with one of
    E equal blocks corrupted the mean turns round at ``scale > E - 1``. The clients below a corrupted edge server of a
    hierarchy go on from the model that it made.

    Args:
        scale: The factor.

    Raises:
        ConfigError: The scale is not positive and finite.
    """

    card = AttackCard(
        name="edge-replacement",
        idea="A corrupted edge server hands on its block's step turned round and enlarged.",
        source=Source(
            paper="Li, Xu, Chen, Giannakis, Ling: RSA, AAAI 2019, arXiv:1811.03761",
            year=2019,
            where="numerical experiments, sign-flipping attacks, there by workers",
        ),
        family="poisoning",
        goal="availability",
        needs=("a corrupted edge server",),
    )
    scale: float = 3.0

    def __post_init__(self) -> None:
        """Refuse a scale that is no enlargement."""
        check_positive("scale", self.scale)

    def corrupts(self, threat: ThreatModel) -> None:
        """Refuse a threat model without corrupted edge servers.

        Raises:
            ConfigError: No edge server is corrupted.
        """
        if not threat.edges:
            raise ConfigError(
                f"attack {self.card.name!r} acts through edge servers, but threat model {threat.name!r} has none",
                fix="use malicious-edge",
            )

    def check(self, pipeline: Pipeline, threat: ThreatModel) -> None:
        """Refuse a topology without the edge servers.

        Raises:
            IncompatibleAttack: It has none.
        """
        if not any(party.role == "edge" for party in pipeline.parties):
            raise IncompatibleAttack(
                f"{self.card.name!r} needs edge servers, but the clients are connected as {pipeline.topology.words}",
                fix="choose a tree or a hierarchy",
            )

    def run(self, hands: Hands) -> torch.Tensor:
        """The honest updates: clients of the coalition follow the protocol."""
        return hands.honest

    def block(self, hands: EdgeHands) -> torch.Tensor:
        """``-scale`` times the step of the block."""
        return -self.scale * hands.step
