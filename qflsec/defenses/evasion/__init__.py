"""Defenses against records that are moved to fool the trained model."""

from __future__ import annotations

from qflsec.defenses.evasion.adversarial_training import AdversarialTraining
from qflsec.defenses.evasion.ascent import feature_gradient, within_budget

__all__ = ["AdversarialTraining", "feature_gradient", "within_budget"]
