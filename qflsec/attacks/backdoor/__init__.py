"""Backdoors: corrupted clients that plant a trigger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.attacks.backdoor.clean_label import CleanLabel
    from qflsec.attacks.backdoor.edge_case import EdgeCase
    from qflsec.attacks.backdoor.feature_trigger import DistributedTrigger, FeatureTrigger, Neurotoxin
    from qflsec.attacks.backdoor.poisoned import PoisonedBackdoor
    from qflsec.attacks.backdoor.qdoor import QDoor
    from qflsec.attacks.backdoor.qtrojan import QTrojan
    from qflsec.attacks.backdoor.surviving import SurvivingTrigger

__all__ = [
    "CleanLabel",
    "DistributedTrigger",
    "EdgeCase",
    "FeatureTrigger",
    "Neurotoxin",
    "PoisonedBackdoor",
    "QDoor",
    "QTrojan",
    "SurvivingTrigger",
]
__getattr__, __dir__ = lazily(__name__)
