"""What the compiled kernels take: what every kernel takes, on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qflsec.circuits import admit as any_kernel
from qflsec.circuits.circuit import Circuit
from qflsec.circuits.errors import CircuitError

__all__ = ["DTYPES", "admit"]

DTYPES = {torch.complex64: np.dtype(np.float32), torch.complex128: np.dtype(np.float64)}


def admit(
    circuit: Circuit, weights: Tensor, features: Tensor, dtype: torch.dtype
) -> tuple[Circuit, Tensor, Tensor]:
    """The circuit without derived inputs, its weights and its features in the kernel's real dtype.

    Raises:
        CircuitError: A wrong shape, dtype or device.
    """
    if not (weights.is_cpu and features.is_cpu):
        name, tensor = ("features", features) if weights.is_cpu else ("weights", weights)
        raise CircuitError(
            f"{name} on a device that has no compiled kernel", got=tensor.device, expected="cpu"
        )
    return any_kernel.admit(circuit, weights, features, dtype)
