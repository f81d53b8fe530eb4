"""What quantum noise is accounted by: how honest clients evaluate circuits on their records."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.circuits import Circuit
from qflsec.models import Execution

__all__ = ["CircuitUse"]


@dataclass(frozen=True, kw_only=True)
class CircuitUse:
    """How honest clients evaluate circuits on their records.

    Attributes:
        circuit: The model's circuit.
        only_measures: Whether a record's features reach logits and gradients through measured values alone.
        executions: How they execute it, each way once.
        span: The width of the range that every feature is clipped to.

    Units:
        span: radians, where features are rotation angles.
    """

    circuit: Circuit
    only_measures: bool
    executions: tuple[Execution, ...]
    span: float
