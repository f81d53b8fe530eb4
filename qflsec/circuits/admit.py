"""What every kernel takes: weights and features of the right shape, in a circuit's own terms."""

from __future__ import annotations

import torch
from torch import Tensor

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.derive import derive, resolve
from qflsec.circuits.errors import CircuitError

__all__ = ["admit"]


def admit(
    circuit: Circuit, weights: Tensor, features: Tensor, dtype: torch.dtype
) -> tuple[Circuit, Tensor, Tensor]:
    """The circuit without derived inputs, its weights and its features in the kernel's real dtype.

    Raises:
        CircuitError: A wrong shape or dtype.
    """
    for name, tensor, size in (
        ("weights", weights, circuit.n_weights),
        ("features", features, circuit.n_features),
    ):
        if tensor.ndim < 1 or tensor.shape[-1] != size:
            raise CircuitError(
                f"{name} of the wrong shape", got=tuple(tensor.shape), expected=f"(..., {size})"
            )
    if dtype not in (torch.complex64, torch.complex128):
        raise CircuitError(
            "the kernel does not take this dtype", got=dtype, expected="complex64 or complex128"
        )
    real = dtype.to_real()
    # asked for first, as a step of few records is as short as a few calls of torch
    if weights.dtype is not real:
        weights = weights.to(real)
    if features.dtype is not real:
        features = features.to(real)
    if circuit.derived:
        weights, features = derive(circuit, weights, features)
        circuit = resolve(circuit)
    return circuit, weights, features
