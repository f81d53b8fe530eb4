"""Signs: one bit for each entry, or three values, with a scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.compression.coding import FLOAT_BITS, pack, read_float, unpack, write_float
from qflsec.federation.compression import CompressionLayer
from qflsec.federation.streams import Streams

__all__ = ["MeanSign", "Ternary"]

_TRITS = 5
"""Values of three kinds that a byte holds, as 3^5 = 243."""


@register("layer", "mean-sign")
@dataclass(frozen=True, kw_only=True)
class MeanSign(CompressionLayer):
    """Each client sends the signs of its update, and the mean size of an entry; zero counts as positive."""

    card = DefenseCard(
        name="mean-sign",
        idea="Each client sends the signs of its update and one number, the mean size of an entry.",
        source=Source(
            paper="Karimireddy, Rebjock, Stich, Jaggi: Error feedback fixes SignSGD and other gradient compression "
            "schemes, ICML 2019, arXiv:1901.09847",
            year=2019,
            where="the scaled sign, without error feedback",
        ),
        claim="None: one bit of each number is sent, and no theorem here bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=("It gives no epsilon: signs are sent as they are.",),
        cost="bias of every update",
    )

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The mean size with the sign of each entry."""
        scale = update.abs().mean(dim=-1, keepdim=True)
        return torch.where(update >= 0, scale, -scale)

    def coded_bits(self, n_params: int) -> int:
        """The scale, and a bit for each entry."""
        return FLOAT_BITS + n_params

    def encode(self, update: torch.Tensor) -> bytes:
        """The scale, then the signs."""
        return write_float(float(update.abs().max())) + pack((update >= 0).numpy().astype(np.int64), 1)

    def decode(self, blob: bytes, n_params: int) -> torch.Tensor:
        """The scale with its signs."""
        signs = 2 * unpack(blob[4:], 1, n_params) - 1
        return torch.from_numpy((signs * read_float(blob)).astype(np.float32))

    def norm_factor(self, n_params: int) -> float:
        """1: ``sqrt(P)`` times the mean size is the L1 norm over ``sqrt(P)``, which is at most the L2 norm."""
        return 1.0


@register("layer", "ternary")
@dataclass(frozen=True, kw_only=True)
class Ternary(CompressionLayer):
    """Each client sends minus one, zero or one for each entry, and their size.

    Entries above a threshold are kept, with their mean size for all of them: of all updates with those signs and one size
    that is the nearest.

    Attributes:
        threshold: The threshold in units of the mean size of an entry.

    Raises:
        ConfigError: It is negative, or not finite.
    """

    card = DefenseCard(
        name="ternary",
        idea="Each client sends the signs of the larger entries of its update, zeros, and one size.",
        source=Source(
            paper="Li, Liu, Wang, Zhang, Yan: Ternary weight networks, arXiv:1605.04711; Chu, Jiang, Chen: CryptoQFL, "
            "arXiv:2307.07012, sends ternary updates",
            year=2016,
            where="threshold 0.7 of the mean size and the size of least squares",
        ),
        claim="None: fewer bits are sent, and no theorem here bounds what they tell.",
        assumption="heuristic",
        hides="nothing that is proved",
        does_not=(
            "It gives no epsilon: signs are sent as they are.",
            "It does not hide which entries are the largest, which tells what a client holds.",
        ),
        cost="bias of every update",
    )

    threshold: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < math.inf:
            raise ConfigError("'threshold' is out of range", got=self.threshold, expected="0 or more, finite")

    def shape(self, update: torch.Tensor, streams: Streams) -> torch.Tensor:
        """The size with the sign of each entry above the threshold; the update where none is."""
        size = update.abs()
        largest = size.amax(dim=-1, keepdim=True)
        # a threshold above the largest entry keeps that one
        above = size >= torch.minimum(self.threshold * size.mean(dim=-1, keepdim=True), largest)
        scale = (size * above).sum(dim=-1, keepdim=True) / above.sum(dim=-1, keepdim=True)
        return torch.where(above, scale * update.sign(), 0.0)

    def coded_bits(self, n_params: int) -> int:
        """The size, and five entries in each byte."""
        return FLOAT_BITS + 8 * math.ceil(n_params / _TRITS)

    def encode(self, update: torch.Tensor) -> bytes:
        """The size, then the entries, five in each byte."""
        trits = np.zeros(_TRITS * math.ceil(len(update) / _TRITS), dtype=np.int64)
        trits[: len(update)] = update.sign().numpy().astype(np.int64) + 1
        words = trits.reshape(-1, _TRITS) @ 3 ** np.arange(_TRITS)
        return write_float(float(update.abs().max())) + pack(words, 8)

    def decode(self, blob: bytes, n_params: int) -> torch.Tensor:
        """The entries times the size."""
        words = unpack(blob[4:], 8, math.ceil(n_params / _TRITS))
        signs = (words[:, None] // 3 ** np.arange(_TRITS) % 3).reshape(-1)[:n_params] - 1
        return torch.from_numpy((signs * read_float(blob)).astype(np.float32))

    def norm_factor(self, n_params: int) -> float:
        """1: the nearest update of a kind through zero is a projection, which only shortens."""
        return 1.0
