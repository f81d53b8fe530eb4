"""Membership inference: was a record trained on?"""

from __future__ import annotations

from qflsec.attacks.membership.lira import Lira
from qflsec.attacks.membership.loss_threshold import LossThreshold
from qflsec.attacks.membership.sum_alignment import SumAlignment

__all__ = ["Lira", "LossThreshold", "SumAlignment"]
