"""Reconstruction of records from updates."""

from __future__ import annotations

from qflsec.attacks.inversion.disaggregation import Disaggregation
from qflsec.attacks.inversion.dlg import DeepLeakage
from qflsec.attacks.inversion.inconsistent_models import InconsistentModels

__all__ = ["DeepLeakage", "Disaggregation", "InconsistentModels"]
