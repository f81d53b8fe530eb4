"""Membership inference: was a record trained on?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.attacks.membership.calibrated_loss import CalibratedLoss
    from qflsec.attacks.membership.clients import ClientLira, ClientRegression
    from qflsec.attacks.membership.gradient_ascent import GradientAscent
    from qflsec.attacks.membership.gradient_regression import GradientRegression
    from qflsec.attacks.membership.lira import Lira
    from qflsec.attacks.membership.loss_threshold import LossThreshold
    from qflsec.attacks.membership.metric_fit import MetricFit
    from qflsec.attacks.membership.rmia import Rmia
    from qflsec.attacks.membership.sum_alignment import SumAlignment
    from qflsec.attacks.membership.trajectory import Trajectory
    from qflsec.attacks.membership.update_alignment import UpdateAlignment

__all__ = [
    "CalibratedLoss",
    "ClientLira",
    "ClientRegression",
    "GradientAscent",
    "GradientRegression",
    "Lira",
    "LossThreshold",
    "MetricFit",
    "Rmia",
    "SumAlignment",
    "Trajectory",
    "UpdateAlignment",
]
__getattr__, __dir__ = lazily(__name__)
