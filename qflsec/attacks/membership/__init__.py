"""Membership inference: was a record trained on?"""

from __future__ import annotations

from qflsec.attacks.membership.loss_threshold import LossThreshold

__all__ = ["LossThreshold"]
