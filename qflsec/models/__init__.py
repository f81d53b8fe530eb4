"""Models: variational circuits, hybrids, baselines and the user's own QNode, behind one interface."""

from __future__ import annotations

from qflsec.models.base import EXACT, Execution, Model

__all__ = ["EXACT", "Execution", "Model"]
