"""Stochastic rounding to a few levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.compression.coding import FLOAT_BITS, pack, read_float, unpack, write_float
from qflsec.federation.compression import CompressionLayer
from qflsec.federation.streams import Streams

__all__ = ["UpdateQuantization"]


@register("layer", "update-quantization")
@dataclass(frozen=True, kw_only=True)
class UpdateQuantization(CompressionLayer):
    """Each client rounds its update to a few levels, at random so that the mean is kept.

    Attributes:
        bits: Bits of an entry, the sign included: ``2**(bits - 1) - 1`` levels on either side of zero. With 2 bits an entry
            is minus the largest, zero or plus the largest: stochastic ternary rounding.

    Raises:
        ConfigError: ``bits`` is out of range.
    """

    card = DefenseCard(
        name="update-quantization",
        idea="Each client rounds its update at random to a few levels of its largest entry.",
        source=Source(
            paper="Alistarh et al.: QSGD, NeurIPS 2017, arXiv:1610.02132 (there scaled by the L2 norm)",
            year=2017,
            where="section 3.1, stochastic quantisation",
        ),
        claim="None: coarser numbers are sent, and no theorem here bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=("It gives no epsilon: the scale and an entry on a level are sent as they are.",),
        cost="rounding noise in every update",
    )

    bits: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or not 2 <= self.bits <= 16:
            raise ConfigError("'bits' is out of range", got=self.bits, expected="a whole number from 2 to 16")

    @property
    def levels(self) -> int:
        """The levels on either side of zero."""
        return int(2 ** (self.bits - 1) - 1)

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The updates on their grids; the expectation over the rounding is the update."""
        largest = update.abs().amax(dim=-1, keepdim=True)
        step = torch.where(largest > 0, largest, 1.0) / self.levels
        drawn = streams.uniform("update-quantization", update.shape[1:]).to(update)
        rounded: torch.Tensor = torch.floor(update / step + drawn).clamp(-self.levels, self.levels) * step
        return rounded

    def coded_bits(self, n_params: int) -> int:
        """The largest entry, and the level of each."""
        return FLOAT_BITS + self.bits * n_params

    def encode(self, update: torch.Tensor) -> bytes:
        """The largest entry, which rounding leaves on the highest level, then the levels."""
        largest = float(update.abs().max())
        found = np.rint(update.double().numpy() / (largest or 1.0) * self.levels).astype(np.int64)
        return write_float(largest) + pack(found + self.levels, self.bits)

    def decode(self, blob: bytes, n_params: int) -> torch.Tensor:
        """The levels times the step."""
        found = unpack(blob[4:], self.bits, n_params) - self.levels
        return torch.from_numpy((found * (read_float(blob) / self.levels)).astype(np.float32))

    def norm_factor(self, n_params: int) -> float:
        """Each entry moves by less than a step, and no entry passes the largest one.

        So ``|Q(x)| <= |x| + sqrt(P) |x|_inf / levels`` and ``|Q(x)| <= sqrt(P) |x|_inf``, and ``|x|_inf <= |x|``.
        """
        root = float(np.sqrt(n_params))
        return min(root, 1 + root / self.levels)
