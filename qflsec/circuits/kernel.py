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

import torch
from torch import Tensor

from qflsec.circuits.admit import admit
from qflsec.circuits.batch import Batch, fold
from qflsec.circuits.circuit import Circuit
from qflsec.circuits.program import Program, load_program

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
    for gather, coefficients in program.words:
        products = psi.square() if gather is None else psi * gather(psi)
        if products.size(2) == 1:  # a single column would round differently in a batch of one
            products = products.expand(-1, -1, 2)
        part = torch.bmm(coefficients.expand(psi.size(0), -1, -1), products)
        total = part if total is None else total + part
    assert total is not None
    return batch.unfold(total[:, : len(circuit.observables), : psi.size(2)])


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
    psi = program.frame(psi)
    return batch.unfold(psi.square().reshape(psi.size(0), 2, -1, psi.size(2)).sum(1))


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
    psi = program.frame(psi)
    real, imaginary = psi.chunk(2, dim=1)
    return batch.unfold(torch.complex(real, imaginary))


def _run(
    circuit: Circuit, weights: Tensor, features: Tensor, dtype: torch.dtype
) -> tuple[Batch, Program, Tensor]:
    """The final rows, in the program's last order."""
    circuit, weights, features = admit(circuit, weights, features, dtype)
    batch, weights, features = fold(weights, features)
    program = load_program(circuit, _group_size(circuit, batch), weights.dtype, weights.device)
    return batch, program, program.run(weights, features, batch)


def _group_size(circuit: Circuit, batch: Batch) -> int:
    """Wires of one block: fewer where a unitary serves one sample only, since building it costs more."""
    if math.prod(batch.samples) > 1 and circuit.reads_features:
        return 4
    return 2 if circuit.n_qubits <= 8 else 3
