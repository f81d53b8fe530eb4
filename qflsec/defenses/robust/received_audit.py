"""An audit of models that other clients hand on, by the loss on one's own records."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, finite, register
from qflsec.federation.audit_layers import AuditLayer

__all__ = ["ReceivedAudit"]


@register("layer", "received-audit")
@finite
@dataclass(frozen=True, kw_only=True)
class ReceivedAudit(AuditLayer):
    """Refuse a model whose loss on one's own records is above that of one's own model by more than a tolerance.

    It is the defense that is left where no population can be compared. A client's own model is what it handed on last,
    in a ring, or what it has just trained, in a gossip network; its first model it takes unseen. Among clients of unlike data an
    honest model may be refused: what the tolerance costs without any attack must be looked at beside what it saves.

    Attributes:
        tolerance: By how much the loss may be higher.

    Units:
        tolerance: that of the model's loss, nats for cross entropy

    Raises:
        ConfigError: The tolerance is negative.
    """

    card = DefenseCard(
        name="received-audit",
        idea="Each client tries a model that it is handed on its own records, and goes without it where the loss is high.",
        source=Source(
            paper="Elkordy, Prakash, Avestimehr: Basil: a fast and Byzantine-resilient approach for decentralized "
            "training, IEEE JSAC 2022, arXiv:2109.07706",
            year=2022,
            where="abstract: performance-based filtering with a memory over a ring; there of several models, here of one's "
            "own last one, and in gossip of the model just trained",
        ),
        claim="No honest client goes on from a model whose loss on its records is above its own by more than the tolerance.",
        assumption="heuristic",
        hides="nothing",
        does_not=(
            "It stops no model that is bad on others' records alone.",
            "It says nothing of the first model that a client gets.",
            "What was refused shows in the versions of models, and tells something of the client's records.",
        ),
        cost="one evaluation of every received model on the client's own records",
    )

    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a tolerance below none."""
        if self.tolerance < 0:
            raise ConfigError("'tolerance' is negative", got=self.tolerance, expected="0 or more")

    def accepts(self, own: torch.Tensor, received: torch.Tensor) -> torch.Tensor:
        """Those whose loss is within the tolerance; one that is no number is not."""
        return received <= own + self.tolerance
