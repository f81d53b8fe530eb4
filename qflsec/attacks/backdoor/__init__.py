"""Backdoors: corrupted clients that plant a trigger."""

from __future__ import annotations

from qflsec.attacks.backdoor.feature_trigger import FeatureTrigger

__all__ = ["FeatureTrigger"]
