"""Reconstruction of records from updates."""

from __future__ import annotations

from qflsec.attacks.inversion.disaggregation import Disaggregation
from qflsec.attacks.inversion.dlg import DeepLeakage
from qflsec.attacks.inversion.inconsistent_models import InconsistentModels
from qflsec.attacks.inversion.snapshot import SnapshotRecovery

__all__ = ["DeepLeakage", "Disaggregation", "InconsistentModels", "SnapshotRecovery"]
