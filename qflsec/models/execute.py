"""Executing a circuit as an :class:`~qflsec.models.base.Execution` says."""

from __future__ import annotations

import torch
from torch import Tensor

from qflsec.circuits import Circuit, expectations
from qflsec.models.base import Execution

__all__ = ["measure"]


def measure(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    execution: Execution,
    generator: torch.Generator | None,
) -> Tensor:
    """Measured values of the circuit's observables.

    Shapes:
        weights: ``(..., P)``.
        features: ``(..., F)``.
        returns: ``(..., K)``, real.

    Raises:
        ConfigError: The execution is not available.
    """
    if execution != Execution(dtype=execution.dtype):
        raise ConfigError("this execution is not available", got=execution)
    return expectations(circuit, weights, features, dtype=execution.complex_dtype)
