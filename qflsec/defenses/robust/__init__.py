"""Defenses against manipulation: robust rules, what goes in front of them, and reduction of angles.

Every rule is a function of ``updates[n, d]`` that works alone, on NumPy arrays and torch tensors, and a layer around it.
``docs/robust.md`` has them in one table: what each needs, how many corrupted clients it stands, and what is proved.
"""

from __future__ import annotations

from qflsec.defenses.robust.adaptive_clipping import AdaptiveClipping, adaptive_clipping
from qflsec.defenses.robust.base import RobustFilter, RobustRule, UpdateRule
from qflsec.defenses.robust.bucketing import Bucketing, bucketing
from qflsec.defenses.robust.bulyan import Bulyan, bulyan
from qflsec.defenses.robust.centred_clipping import CentredClipping, centred_clipping
from qflsec.defenses.robust.circular import (
    CircularGeometricMedian,
    CircularMean,
    circular_geometric_median,
    circular_mean,
)
from qflsec.defenses.robust.cosine_filter import CosineFilter, cosine_filter
from qflsec.defenses.robust.crfl import Crfl, crfl
from qflsec.defenses.robust.divide_and_conquer import DivideAndConquer, divide_and_conquer
from qflsec.defenses.robust.flame import Flame, flame
from qflsec.defenses.robust.fldetector import FlDetector
from qflsec.defenses.robust.fltrust import FlTrust, fltrust
from qflsec.defenses.robust.foolsgold import FoolsGold, foolsgold
from qflsec.defenses.robust.geometric_median import GeometricMedian, geometric_median
from qflsec.defenses.robust.guarantee import Robustness
from qflsec.defenses.robust.krum import Krum, MultiKrum, krum, multi_krum
from qflsec.defenses.robust.mean import Mean, mean
from qflsec.defenses.robust.mean_around_median import MeanAroundMedian, mean_around_median
from qflsec.defenses.robust.median import Median, coordinate_median
from qflsec.defenses.robust.minimum_diameter import MinimumDiameter, minimum_diameter
from qflsec.defenses.robust.mixing import NearestNeighbourMixing, nearest_neighbour_mixing
from qflsec.defenses.robust.norm_bound import NormBound, median_norm
from qflsec.defenses.robust.outside import outside_guarantee, proved_kappa
from qflsec.defenses.robust.received_audit import ReceivedAudit
from qflsec.defenses.robust.smallest_eigenvalue import SmallestEigenvalue, smallest_eigenvalue
from qflsec.defenses.robust.torus import WrapAngles, reduce_differences
from qflsec.defenses.robust.trimmed_mean import TrimmedMean, trimmed_mean
from qflsec.defenses.robust.weak_dp import WeakDp, weak_dp

__all__ = [
    "AdaptiveClipping",
    "Bucketing",
    "Bulyan",
    "CentredClipping",
    "CircularGeometricMedian",
    "CircularMean",
    "CosineFilter",
    "Crfl",
    "DivideAndConquer",
    "FlDetector",
    "FlTrust",
    "Flame",
    "FoolsGold",
    "GeometricMedian",
    "Krum",
    "Mean",
    "MeanAroundMedian",
    "Median",
    "MinimumDiameter",
    "MultiKrum",
    "NearestNeighbourMixing",
    "NormBound",
    "ReceivedAudit",
    "RobustFilter",
    "RobustRule",
    "Robustness",
    "SmallestEigenvalue",
    "TrimmedMean",
    "UpdateRule",
    "WeakDp",
    "WrapAngles",
    "adaptive_clipping",
    "bucketing",
    "bulyan",
    "centred_clipping",
    "circular_geometric_median",
    "circular_mean",
    "coordinate_median",
    "cosine_filter",
    "crfl",
    "divide_and_conquer",
    "flame",
    "fltrust",
    "foolsgold",
    "geometric_median",
    "krum",
    "mean",
    "mean_around_median",
    "median_norm",
    "minimum_diameter",
    "multi_krum",
    "nearest_neighbour_mixing",
    "outside_guarantee",
    "proved_kappa",
    "reduce_differences",
    "smallest_eigenvalue",
    "trimmed_mean",
    "weak_dp",
]
