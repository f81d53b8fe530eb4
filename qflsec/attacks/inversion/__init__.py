"""Reconstruction of records from updates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qflsec.base.faces import lazily

if TYPE_CHECKING:
    from qflsec.attacks.inversion.cohort import CohortInversion
    from qflsec.attacks.inversion.disaggregation import Disaggregation
    from qflsec.attacks.inversion.dlg import DeepLeakage, InvertingGradients
    from qflsec.attacks.inversion.first_layer import FirstLayer
    from qflsec.attacks.inversion.guess import typical_records
    from qflsec.attacks.inversion.inconsistent_models import InconsistentModels
    from qflsec.attacks.inversion.snapshot import SnapshotRecovery

__all__ = [
    "CohortInversion",
    "DeepLeakage",
    "Disaggregation",
    "FirstLayer",
    "InconsistentModels",
    "InvertingGradients",
    "SnapshotRecovery",
    "typical_records",
]
__getattr__, __dir__ = lazily(__name__)
