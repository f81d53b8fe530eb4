"""Rules that weigh clients by what they report of themselves or by where their updates lie, and a cap on weights.

``docs/systems.md`` shows what a liar makes of each.
"""

from __future__ import annotations

from qflsec.defenses.weighting.base import LossRule, WeightedRule, capped_shares
from qflsec.defenses.weighting.by_loss import LossWeighted, Softmin, softmin_bound
from qflsec.defenses.weighting.cap import WeightCap
from qflsec.defenses.weighting.q_fedavg import QFedAvg

__all__ = [
    "LossRule",
    "LossWeighted",
    "QFedAvg",
    "Softmin",
    "WeightCap",
    "WeightedRule",
    "capped_shares",
    "softmin_bound",
]
