"""The torch kernel: a batched statevector."""

from __future__ import annotations

import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Observable
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.gates import gate_matrix

__all__ = ["expectations", "probabilities", "statevector"]


def statevector(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The final state.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``.
    """
    _check(circuit, weights, features)
    real = dtype.to_real()
    weights, features = weights.to(real), features.to(real)
    batch = torch.broadcast_shapes(weights.shape[:-1], features.shape[:-1])
    n = circuit.n_qubits
    psi = torch.zeros(2**n, dtype=dtype, device=weights.device)
    psi[0] = 1
    psi = psi.expand(*batch, 2**n)
    for gate in circuit.gates:
        angles = [_angle(angle, weights, features) for angle in gate.angles]
        if gate.name == "AmplitudeEmbedding":
            psi = _amplitudes(torch.stack(torch.broadcast_tensors(*angles), dim=-1), 2**n).to(dtype)
            psi = psi.expand(*batch, 2**n)
            continue
        matrix = gate_matrix(gate.name, angles, dtype=dtype, device=weights.device)
        psi = _apply(psi, matrix, gate.wires, n)
    return psi


def _check(circuit: Circuit, weights: Tensor, features: Tensor) -> None:
    for name, tensor, size in (
        ("weights", weights, circuit.n_weights),
        ("features", features, circuit.n_features),
    ):
        if tensor.ndim < 1 or tensor.shape[-1] != size:
            raise CircuitError(
                f"{name} of the wrong shape", got=tuple(tensor.shape), expected=f"(..., {size})"
            )


def _angle(angle: Angle, weights: Tensor, features: Tensor) -> Tensor:
    if angle.kind == "constant":
        return weights.new_tensor(angle.offset)
    source = weights if angle.kind == "weight" else features
    return source[..., angle.index] * angle.scale + angle.offset


def _amplitudes(values: Tensor, size: int) -> Tensor:
    values = torch.nn.functional.pad(values, (0, size - values.shape[-1]))
    norm = values.square().sum(-1, keepdim=True)
    empty = norm == 0
    first = torch.zeros_like(values)
    first[..., 0] = 1
    return torch.where(empty, first, values / torch.where(empty, torch.ones_like(norm), norm).sqrt())


def _apply(psi: Tensor, matrix: Tensor, wires: tuple[int, ...], n: int) -> Tensor:
    batch, k = psi.shape[:-1], len(wires)
    axes = [len(batch) + wire for wire in wires]
    last = list(range(len(batch) + n - k, len(batch) + n))
    moved = psi.reshape(*batch, *[2] * n).movedim(axes, last)
    shape = moved.shape
    columns = moved.reshape(*batch, -1, 2**k)
    out = columns @ matrix.transpose(-1, -2)
    return out.reshape(shape).movedim(last, axes).reshape(*batch, -1)


def _observe(psi: Tensor, observable: Observable, n: int) -> Tensor:
    total = torch.zeros((), dtype=psi.dtype.to_real(), device=psi.device)
    for coefficient, word in observable.terms:
        image = psi
        for wire, letter in enumerate(word):
            if letter != "I":
                image = _apply(image, gate_matrix(letter, [], dtype=psi.dtype, device=psi.device), (wire,), n)
        total = total + coefficient * (psi.conj() * image).real.sum(-1)
    return total


def expectations(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The expectation values of the circuit's observables, exact up to rounding.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real; leading axes broadcast.
    """
    psi = statevector(circuit, weights, features, dtype=dtype)
    return torch.stack([_observe(psi, o, circuit.n_qubits) for o in circuit.observables], dim=-1)


def probabilities(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The probabilities of all bit strings.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., 2**n)``, real.
    """
    return statevector(circuit, weights, features, dtype=dtype).abs().square()
