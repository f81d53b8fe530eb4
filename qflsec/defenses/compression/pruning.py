"""Top-k: the largest entries of an update, and which they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.compression.coding import FLOAT_BITS, index_bits, pack, unpack
from qflsec.federation.compression import CompressionLayer
from qflsec.federation.streams import Streams

__all__ = ["GradientPruning", "largest_entries"]


def largest_entries(updates: torch.Tensor, kept: int) -> torch.Tensor:
    """The places of the largest entries in size; of equal ones the first.

    Shapes:
        updates: ``(..., P)``; returns: ``(..., kept)``
    """
    return torch.argsort(updates.abs(), dim=-1, descending=True, stable=True)[..., :kept]


@register("layer", "gradient-pruning")
@dataclass(frozen=True, kw_only=True)
class GradientPruning(CompressionLayer):
    """Each client sends the largest entries of its update and zero for all others.

    Attributes:
        keep: The fraction of entries that is kept; at least one entry is.

    Raises:
        ConfigError: ``keep`` is no fraction above 0.
    """

    card = DefenseCard(
        name="gradient-pruning",
        idea="Each client sends only the entries of its update that are largest in size, and zeros.",
        source=Source(
            paper="Zhu, Liu, Han: Deep leakage from gradients, NeurIPS 2019, arXiv:1906.08935",
            year=2019,
            where="section 5.2, gradient compression",
        ),
        claim="None: fewer numbers are sent, and no theorem bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=(
            "It gives no epsilon, whatever attack it stops.",
            "It does not hide which entries are the largest, which tells what a client holds.",
        ),
        cost="bias of every update",
    )

    keep: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ConfigError("'keep' is out of range", got=self.keep, expected="above 0, at most 1")

    def kept(self, n_params: int) -> int:
        """How many entries are sent."""
        return max(1, math.ceil(self.keep * n_params))

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates with all but their largest entries set to zero; of equal ones the first is kept."""
        places = largest_entries(update, self.kept(update.shape[-1]))
        mask = torch.zeros_like(update).scatter(-1, places, 1.0)
        return torch.where(mask > 0, update, 0.0)

    def coded_bits(self, n_params: int) -> int:
        """The numbers, and their places: an index each, or a bit for every entry, whichever is shorter."""
        kept = self.kept(n_params)
        return kept * FLOAT_BITS + min(kept * index_bits(n_params), n_params)

    def encode(self, update: torch.Tensor) -> bytes:
        """The numbers in the order of their places, then the places."""
        n_params = len(update)
        places = largest_entries(update, self.kept(n_params)).sort().values.numpy()
        numbers: bytes = update.float().numpy()[places].astype("<f4").tobytes()
        if len(places) * index_bits(n_params) < n_params:
            return numbers + pack(places, index_bits(n_params))
        held = np.zeros(n_params, dtype=np.int64)
        held[places] = 1
        return numbers + pack(held, 1)

    def decode(self, blob: bytes, n_params: int) -> torch.Tensor:
        """The numbers at their places, and zeros."""
        kept = self.kept(n_params)
        rest = blob[4 * kept :]
        if kept * index_bits(n_params) < n_params:
            places = unpack(rest, index_bits(n_params), kept)
        else:
            places = np.flatnonzero(unpack(rest, 1, n_params))
        update = np.zeros(n_params, dtype=np.float32)
        update[places] = np.frombuffer(blob, dtype="<f4", count=kept)
        return torch.from_numpy(update)

    def norm_factor(self, n_params: int) -> float:
        """1: what is left out only shortens."""
        return 1.0
