"""Defenses against manipulation: server-side bounds and robust rules."""

from __future__ import annotations

from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.median import Median, coordinate_median
from qflsec.defenses.robust.norm_bound import NormBound, median_norm

__all__ = ["Median", "NormBound", "RobustRule", "coordinate_median", "median_norm"]
