"""Properties of clients, from their updates or from sums over several: what they hold, what they run on, when they took part."""

from __future__ import annotations

from qflsec.attacks.property.chosen_cluster import ChosenCluster
from qflsec.attacks.property.device import DeviceFingerprint
from qflsec.attacks.property.held_blocks import HeldBlocks
from qflsec.attacks.property.kept_entries import KeptEntries
from qflsec.attacks.property.label_skew import LabelSkew
from qflsec.attacks.property.metric_skew import MetricSkew
from qflsec.attacks.property.participation import Participation
from qflsec.attacks.property.reported_loss import ReportedLoss

__all__ = [
    "ChosenCluster",
    "DeviceFingerprint",
    "HeldBlocks",
    "KeptEntries",
    "LabelSkew",
    "MetricSkew",
    "Participation",
    "ReportedLoss",
]
