"""Reconstruction of records from updates."""

from __future__ import annotations

from qflsec.attacks.inversion.dlg import DeepLeakage

__all__ = ["DeepLeakage"]
