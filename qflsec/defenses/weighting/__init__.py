"""Rules that weigh clients by what they report of themselves or by where their updates lie, and a cap on weights.

``docs/systems.md`` shows what a liar makes of each.
"""

from __future__ import annotations

from qflsec.defenses.weighting.base import LossRule, WeightedRule, capped_shares
from qflsec.defenses.weighting.by_loss import LossWeighted, Softmin, softmin_bound
from qflsec.defenses.weighting.cap import WeightCap
from qflsec.defenses.weighting.distances import DistanceWeighted, distance_weights
from qflsec.defenses.weighting.inverse_noise import InverseNoise
from qflsec.defenses.weighting.pareto import FedMgda, least_norm_weights
from qflsec.defenses.weighting.q_fedavg import QFedAvg

__all__ = [
    "DistanceWeighted",
    "FedMgda",
    "InverseNoise",
    "LossRule",
    "LossWeighted",
    "QFedAvg",
    "Softmin",
    "WeightCap",
    "WeightedRule",
    "capped_shares",
    "distance_weights",
    "least_norm_weights",
    "softmin_bound",
]
