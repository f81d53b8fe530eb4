"""Membership inference: was a record trained on?"""

from __future__ import annotations

from qflsec.attacks.membership.calibrated_loss import CalibratedLoss
from qflsec.attacks.membership.lira import Lira
from qflsec.attacks.membership.loss_threshold import LossThreshold
from qflsec.attacks.membership.rmia import Rmia
from qflsec.attacks.membership.sum_alignment import SumAlignment

__all__ = ["CalibratedLoss", "Lira", "LossThreshold", "Rmia", "SumAlignment"]
