"""The compiled kernel: circuits as Pauli rotations, run by numba on vectors of samples.

A circuit is brought to Pauli rotations (:mod:`.program`), which a fixed set of compiled passes runs in blocks of 16
samples (8 in double precision), sample by sample side by side. Gradients are taken by undoing the rotations, so that
memory does not grow with depth. One compiled kernel serves all circuits; numba keeps it on disk.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from qflsec.circuits.circuit import Angle, Circuit, Gate, pauli_z
from qflsec.circuits.compiled.autograd import Batch, evaluate
from qflsec.circuits.compiled.inputs import DTYPES, admit
from qflsec.circuits.compiled.layout import lay_out
from qflsec.circuits.compiled.loaded import NOTHING, Optimiser, Plan, Records, Rule, load_circuit
from qflsec.circuits.compiled.program import compile_program
from qflsec.circuits.compiled.training import CROSS_ENTROPY

__all__ = ["compile_kernel", "compiled_expectations", "first_states", "load_circuit"]

_NO_START = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.float64)}


def compiled_expectations(
    circuit: Circuit, weights: Tensor, features: Tensor, *, dtype: torch.dtype = torch.complex64
) -> Tensor:
    """The expectation values of the circuit's observables, as :func:`qflsec.circuits.expectations` gives them.

    Args:
        circuit: The circuit.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape, dtype or device.
    """
    circuit, weights, features = admit(circuit, weights, features, dtype)
    real = weights.dtype
    loaded = load_circuit(circuit, DTYPES[dtype])
    layout = lay_out(weights.shape, weights.stride(), features.shape)
    start, own_start = _NO_START[real], NOTHING[loaded.dtype]
    if loaded.program.amplitudes is not None:
        start = _amplitudes(circuit, features)
        own_start = layout.features_of(start)
    arrays = layout.weights_of(weights), layout.features_of(features), own_start
    batch = Batch(loaded, layout, arrays, (weights.shape, features.shape, start.shape))
    return evaluate(weights, features, start, batch)


def _amplitudes(circuit: Circuit, features: Tensor) -> Tensor:
    """The first states of an amplitude embedding, of norm 1; the zero vector becomes |0...0>."""
    angles = compile_program(circuit).amplitudes
    assert angles is not None
    index = torch.tensor([angle.index if angle.kind == "feature" else 0 for angle in angles])
    scale = features.new_tensor([0.0 if angle.kind == "constant" else angle.scale for angle in angles])
    offset = features.new_tensor([angle.offset for angle in angles])
    values = (
        features[..., index] * scale + offset
        if circuit.n_features
        else offset.expand(*features.shape[:-1], -1)
    )
    values = torch.nn.functional.pad(values, (0, 2**circuit.n_qubits - values.shape[-1]))
    squares = values.square().sum(-1, keepdim=True)
    empty = squares == 0
    norm = torch.where(empty, torch.ones_like(squares), squares).sqrt()
    first = torch.nn.functional.one_hot(torch.tensor(0), values.shape[-1]).to(values)
    return torch.where(empty, first, values / norm)


def first_states(circuit: Circuit, features: Tensor) -> npt.NDArray[np.float32]:
    """The first state of each record ``(N, F)`` in single precision, ``(N, 2**n)``; nothing for |0...0>."""
    if compile_program(circuit).amplitudes is None:
        return np.empty((0, 0), np.float32)
    found: npt.NDArray[np.float32] = _amplitudes(circuit, features).contiguous().numpy()
    return found


def compile_kernel(dtype: torch.dtype = torch.complex64) -> None:
    """Compile what a precision takes, or load it.

    Args:
        dtype: ``complex64``; or ``complex128``, in which no local training is compiled.
    """
    turn = Gate("RY", (0,), (Angle.weight(0),))
    circuit = Circuit(n_qubits=1, gates=(turn,), observables=(pauli_z(0, 1),), n_weights=1, n_features=1)
    weights = torch.zeros(1, dtype=dtype.to_real(), requires_grad=True)
    values = compiled_expectations(circuit, weights, torch.zeros(1, 1), dtype=dtype)
    (gradient,) = torch.autograd.grad(values.sum(), weights, create_graph=True)
    torch.autograd.grad(gradient.sum(), weights)
    if dtype != torch.complex64:
        return
    one, none = np.ones((1, 1), np.float32), np.zeros((0, 0, 0), np.float32)
    load_circuit(circuit, np.dtype(np.float32)).train(
        Rule(CROSS_ENTROPY, 0.0, 1.0, 0.0),
        Records(one, first_states(circuit, torch.ones(1, 1)), np.zeros(1, np.int64)),
        Plan(np.zeros((0, 0, 0), np.int64), one[None], none, one),
        Optimiser(0, 0.1, 0.0, (0.9, 0.999), 1e-8, np.zeros(0, np.float32), np.zeros(1, np.int64), none),
        one.copy(),
    )
