"""Executing a circuit as an :class:`~qflsec.models.base.Execution` says."""

from __future__ import annotations

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
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
    if execution.shots is not None and generator is None:
        raise ConfigError(
            "sampled outcomes need a random stream",
            got="shots without a generator",
            fix="pass one, such as qflsec.base.stream(seed, 'shots')",
        )
    if execution != Execution(dtype=execution.dtype):
        raise ConfigError("this execution is not available", got=execution)
    return expectations(circuit, weights, features, dtype=execution.complex_dtype)
