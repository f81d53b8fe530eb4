"""Client clipping: each client bounds the norm of its own update, if it wants to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.clipping import clip_to_norm
from qflsec.federation import ShapeLayer, Streams

__all__ = ["ClientClip"]


@register("layer", "client-clip")
@dataclass(frozen=True, kw_only=True)
class ClientClip(ShapeLayer):
    """Each client scales its update down to a norm before it sends it.

    It bounds what an honest client's update can do; without noise it gives no differential privacy, and a
    corrupted client replaces its update after this step, so it stops no manipulation.

    Attributes:
        clip_norm: The largest L2 norm of an update.

    Raises:
        ConfigError: ``clip_norm`` is not positive and finite.
    """

    card = DefenseCard(
        name="client-clip",
        idea="Each client scales its own update down to a norm before it sends it.",
        source=Source(
            paper="McMahan et al.: Learning differentially private recurrent language models, ICLR 2018, "
            "arXiv:1710.06963",
            year=2018,
            where="Algorithm 1, FlatClip (there followed by noise)",
        ),
        claim="No update of an honest client is longer than the clip norm.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It gives no epsilon.",
            "It does not bind a client that ignores it.",
        ),
        cost="one norm for each update; bias where updates are longer than the clip norm",
    )
    topologies = None

    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.clip_norm < math.inf:
            raise ConfigError(
                "'clip_norm' is out of range", got=self.clip_norm, expected="positive and finite"
            )

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates, none longer than the clip norm."""
        return clip_to_norm(update, self.clip_norm)
