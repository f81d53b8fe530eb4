"""Who computes exact expectation values, with and without noise: the compiled kernels, or the torch kernels.

Each two are derived from one circuit and agree to rounding. The compiled one is several times faster on a CPU. The torch
kernel takes what it does not: tensors of other devices, ``torch.func``, and every machine where numba
is missing.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Literal, get_args

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.base.notices import notice
from qflsec.circuits.circuit import Circuit
from qflsec.circuits.kept import is_kept
from qflsec.circuits.kernel import expectations
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.placed_noise import Noise

__all__ = [
    "Executor",
    "check_executor",
    "exact_expectations",
    "exact_noisy_expectations",
    "executor_name",
    "must_compile",
    "warm_up",
]

Executor = Literal["auto", "compiled", "torch"]


def check_executor(executor: str) -> None:
    """Refuse unknown names, and the compiled kernel where there is none.

    Raises:
        ConfigError: There is no such executor, or not here.
    """
    if executor not in get_args(Executor):
        raise ConfigError(
            "unknown executor", got=repr(executor), expected=f"one of {', '.join(get_args(Executor))}"
        )
    if executor == "compiled" and not _has_numba():
        raise ConfigError(
            "the compiled kernel needs numba, which is not installed",
            got="executor 'compiled'",
            fix="pip install numba, or use 'auto' or 'torch'",
        )


def executor_name(executor: str) -> Literal["compiled", "torch"]:
    """Which kernel an executor means on this machine: ``"auto"`` is the compiled one where numba is installed."""
    return "compiled" if executor == "compiled" or (executor == "auto" and _has_numba()) else "torch"


def exact_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    dtype: torch.dtype = torch.complex64,
    executor: Executor = "auto",
) -> Tensor:
    """The expectation values of the circuit's observables, by the kernel that the executor names.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Args:
        circuit: The circuit.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.
        executor: ``"compiled"``, ``"torch"``, or ``"auto"`` for the first of them that can.

    Raises:
        CircuitError: A wrong shape, dtype or device.
    """
    if _by_torch(executor, weights, features):
        return expectations(circuit, weights, features, dtype=dtype)
    _announce()
    from qflsec.circuits.compiled import compiled_expectations

    return compiled_expectations(circuit, weights, features, dtype=dtype)


def exact_noisy_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: Noise,
    dtype: torch.dtype = torch.complex64,
    executor: Executor = "auto",
) -> Tensor:
    """The expectation values of the circuit's observables under noise, by the kernel that the executor names.

    Circuits of more than 8 qubits are the torch kernel's, as are gradients that are to be differentiated again.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Args:
        circuit: The circuit.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        noise: The noise.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.
        executor: ``"compiled"``, ``"torch"``, or ``"auto"`` for the first of them that can.

    Raises:
        CircuitError: A wrong shape, dtype or device, an empty batch, or an amplitude embedding.
    """
    if not _by_torch(executor, weights, features):
        from qflsec.circuits.compiled.noisy import MOST_QUBITS, compiled_noisy_expectations

        if circuit.n_qubits <= MOST_QUBITS:
            return compiled_noisy_expectations(circuit, weights, features, noise=noise, dtype=dtype)
    return noisy_expectations(circuit, weights, features, noise=noise, dtype=dtype)


def _by_torch(executor: Executor, weights: Tensor, features: Tensor) -> bool:
    return executor_name(executor) == "torch" or _transformed() or not (weights.is_cpu and features.is_cpu)


def must_compile() -> bool:
    """Whether the compiled kernel is wanted and no process of this user has compiled it yet."""
    return executor_name("auto") == "compiled" and not is_kept()


def warm_up() -> None:
    """Load what is compiled, or compile it, once for all processes of a user."""
    if executor_name("auto") == "torch":
        return
    from qflsec.circuits.compiled import compile_kernel

    compile_kernel()


@lru_cache(maxsize=1)
def _announce() -> None:
    """Say why the first call of all takes its time."""
    if must_compile():
        notice("the kernel is compiled, once for each user: some 20 seconds", about="compiled kernel")


@lru_cache(maxsize=1)
def _has_numba() -> bool:
    return find_spec("numba") is not None


def _transformed() -> bool:
    """Whether ``torch.func`` is at work, which needs torch operations throughout."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # noqa: SLF001 - torch has no public question
