"""The torch kernel: a batched statevector that is differentiable any number of times.

Weights and features broadcast over their leading axes. The trailing axes along which the weights have
size 1 are *samples*: they share one unitary for each distinct row of weights. The others are *rows*. A
state is stored as real rows (see :mod:`qflsec.circuits.frames`) of shape ``(rows, 2 * 2**n, samples)``.

Only real products, sums and batched matrix products touch the batch, so that the result of a row does not
depend on the number of other rows, bit for bit. (A complex elementwise product does: its vector body and
its scalar tail round differently.) Global phases are dropped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.plan import Block, Rotate
from qflsec.circuits.program import Program, load_program, matmul

__all__ = ["expectations", "probabilities", "statevector"]


def expectations(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The expectation values of the circuit's observables, exact up to rounding.

    Args:
        circuit: The circuit.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape or dtype.
    """
    batch, program, psi = _run(circuit, weights, features, dtype)
    total: Tensor | None = None
    for gather, signs in program.words:
        other = psi if gather is None else gather(psi)
        part = matmul(signs, psi * other)
        total = part if total is None else total + part
    assert total is not None
    return batch.unfold(total)


def probabilities(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The probabilities of all bit strings, wire 0 being the most significant bit.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``, real.

    Raises:
        CircuitError: A wrong shape or dtype.
    """
    batch, program, psi = _run(circuit, weights, features, dtype)
    if program.frame is not None:
        psi = program.frame(psi)
    return batch.unfold(psi.square().unflatten(1, (2, -1)).sum(1))


def statevector(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The final state up to a global phase, which may depend on weights and features.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``, complex.

    Raises:
        CircuitError: A wrong shape or dtype.
    """
    batch, program, psi = _run(circuit, weights, features, dtype)
    if program.frame is not None:
        psi = program.frame(psi)
    real, imaginary = psi.unflatten(1, (2, -1)).unbind(1)
    return batch.unfold(torch.complex(real, imaginary))


@dataclass(frozen=True)
class _Batch:
    """How the broadcast axes fall into rows and samples.

    Attributes:
        rows: The leading axes.
        samples: The trailing axes, along which the weights have size 1.
        distinct: The weights' own sizes along the row axes.
    """

    rows: tuple[int, ...]
    samples: tuple[int, ...]
    distinct: tuple[int, ...]

    def spread(self, values: Tensor) -> Tensor:
        """One entry for each row, from one for each distinct row of weights; a single one stays single."""
        if self.distinct == self.rows or len(values) == 1:
            return values
        shape = values.shape[1:]
        return values.reshape(*self.distinct, *shape).expand(*self.rows, *shape).reshape(-1, *shape)

    def unfold(self, values: Tensor) -> Tensor:
        """``(rows or 1, K, samples or 1)`` -> ``(..., K)``."""
        size = values.shape[1]
        values = values.transpose(1, 2).expand(math.prod(self.rows), math.prod(self.samples), size)
        return values.reshape(*self.rows, *self.samples, size)


def _fold(weights: Tensor, features: Tensor) -> tuple[_Batch, Tensor, Tensor]:
    """Weights as (distinct rows, P, 1) and features as (rows or 1, F, samples)."""
    shape = tuple(torch.broadcast_shapes(weights.shape[:-1], features.shape[:-1]))
    w_axes = (1,) * (len(shape) - weights.ndim + 1) + tuple(weights.shape[:-1])
    f_axes = (1,) * (len(shape) - features.ndim + 1) + tuple(features.shape[:-1])
    cut = len(shape)
    while cut and w_axes[cut - 1] == 1:
        cut -= 1
    batch = _Batch(shape[:cut], shape[cut:], w_axes[:cut])
    if math.prod(f_axes[:cut]) == 1:
        features = features.reshape(1, -1, features.shape[-1])
    else:
        features = features.expand(*batch.rows, *batch.samples, -1)
        features = features.reshape(math.prod(batch.rows), -1, features.shape[-1])
    return batch, weights.reshape(-1, weights.shape[-1], 1), features.transpose(1, 2)


def _run(
    circuit: Circuit, weights: Tensor, features: Tensor, dtype: torch.dtype
) -> tuple[_Batch, Program, Tensor]:
    """The final rows, in the program's last order."""
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
    batch, weights, features = _fold(weights.to(real), features.to(real))
    program = load_program(circuit, _group_size(circuit.n_qubits, batch), real, weights.device)
    return batch, program, _evolve(program, batch, weights, features)


def _group_size(n: int, batch: _Batch) -> int:
    """Wires of one block: fewer where a unitary serves one sample only, since building it costs more."""
    return 5 if math.prod(batch.samples) > 1 else 3


def _evolve(program: Program, batch: _Batch, weights: Tensor, features: Tensor) -> Tensor:
    unitaries = {key: family(weights) for key, family in program.families.items()}
    by_weight, by_feature = (iter(pairs) for pairs in program.turns(weights, features))
    psi, real = program.initial(features), True
    for stage, gather in program.stages:
        if real and (gather is not None or isinstance(stage, Rotate)):
            psi, real = torch.cat([psi, torch.zeros_like(psi)], dim=1), False
        if isinstance(stage, Block):
            unitary = batch.spread(unitaries[stage.family][stage.position])
            if gather is not None:
                psi = gather(psi)
            if real:  # the imaginary parts are 0
                unitary, real = unitary[..., : unitary.shape[-1] // 2], False
            psi = matmul(unitary, psi)
        else:
            cosine, sine = next(by_feature) if stage.angle.kind == "feature" else next(by_weight)
            if stage.angle.kind == "weight":
                cosine, sine = batch.spread(cosine), batch.spread(sine)
            assert gather is not None
            psi = cosine * psi + sine * gather(psi)
    return torch.cat([psi, torch.zeros_like(psi)], dim=1) if real else psi
