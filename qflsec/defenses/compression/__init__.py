"""Compression of updates: fewer entries, fewer levels, or signs alone; none of it has an epsilon."""

from __future__ import annotations

from qflsec.defenses.compression.pruning import GradientPruning, largest_entries
from qflsec.defenses.compression.quantization import UpdateQuantization
from qflsec.defenses.compression.signs import MeanSign, Ternary

__all__ = ["GradientPruning", "MeanSign", "Ternary", "UpdateQuantization", "largest_entries"]
