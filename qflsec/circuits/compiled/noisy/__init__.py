"""The compiled noisy kernel: Pauli expectation values under noise, run by numba on vectors of samples.

A circuit and its noise become slots (:mod:`.schedule`) and tables of the rows that matter (:mod:`.program`), which one
fixed set of passes runs in blocks as in :mod:`qflsec.circuits.compiled`. It is compiled when noise is first used. The
torch kernel (:mod:`qflsec.circuits.noisy_kernel`) is its reference, and gives the gradients of its gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.circuit import Circuit
from qflsec.circuits.compiled.autograd import Batch
from qflsec.circuits.compiled.inputs import DTYPES, admit
from qflsec.circuits.compiled.layout import lay_out
from qflsec.circuits.compiled.loaded import NOTHING
from qflsec.circuits.compiled.noisy.loaded import NoisyLoaded, load_noisy
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.noisy_kernel import noisy_expectations
from qflsec.circuits.placed_noise import Noise

__all__ = ["MOST_QUBITS", "compiled_noisy_expectations"]

MOST_QUBITS = 8
"""Beyond, the states that a gradient keeps and the tables of rows take over 100 MB."""


def compiled_noisy_expectations(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    *,
    noise: Noise | None,
    dtype: torch.dtype = torch.complex64,
) -> Tensor:
    """Exact expectation values under noise, as :func:`qflsec.circuits.noisy_expectations` gives them.

    First derivatives are compiled; those that are to be differentiated again are the torch kernel's.

    Args:
        circuit: The circuit, of at most :data:`MOST_QUBITS` qubits.
        weights: Weights; leading axes broadcast against those of the features.
        features: Features.
        noise: The noise; None for none.
        dtype: ``complex64`` or ``complex128``; the result has its real counterpart.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., K)``, real.

    Raises:
        CircuitError: A wrong shape, dtype or device, an empty batch, an amplitude embedding, or too many qubits.
    """
    if circuit.n_qubits > MOST_QUBITS:
        raise CircuitError(
            "too many qubits for the compiled noisy kernel",
            got=circuit.n_qubits,
            expected=f"at most {MOST_QUBITS}",
            fix="call noisy_expectations",
        )
    circuit, weights, features = admit(circuit, weights, features, dtype)
    loaded = load_noisy(circuit, noise, DTYPES[dtype])
    layout = lay_out(weights.shape, weights.stride(), features.shape)
    arrays = layout.weights_of(weights), layout.features_of(features), NOTHING[loaded.dtype]
    batch = Batch(loaded, layout, arrays, (weights.shape, features.shape))
    if torch.is_grad_enabled() and (weights.requires_grad or features.requires_grad):
        values: Tensor = _NoisyValues.apply(weights, features, batch, dtype)  # type: ignore[no-untyped-call]
        return values
    found, _ = loaded.evaluate(layout, *arrays[:2])
    return batch.values(found)


class _NoisyValues(torch.autograd.Function):
    """Values; where there is one output, its derivatives are taken together with it."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        weights: Tensor,
        features: Tensor,
        batch: Batch[NoisyLoaded],
        dtype: torch.dtype,
    ) -> Tensor:
        ctx.batch, ctx.dtype, ctx.wanted = batch, dtype, (*ctx.needs_input_grad[:2], False)
        loaded, wanted = batch.loaded, ctx.wanted[:2] if batch.loaded.n_outputs == 1 else (False, False)
        values, ctx.gradient = loaded.evaluate(batch.layout, batch.weights, batch.features, wanted=wanted)
        ctx.save_for_backward(weights, features)
        return batch.values(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401 - torch's interface
        batch: Batch[NoisyLoaded] = ctx.batch
        if torch.is_grad_enabled():
            return *_differentiable(batch.loaded, ctx, grads[0]), None, None
        seeds = batch.seeds(grads[0])
        if ctx.gradient is not None:
            return *batch.tensors(ctx.gradient, seeds.reshape(-1), ctx.wanted)[:2], None, None
        _, found = batch.loaded.evaluate(
            batch.layout, batch.weights, batch.features, wanted=ctx.wanted[:2], seeds=seeds
        )
        assert found is not None
        return *batch.tensors(found, seeds[:0, 0].reshape(-1), ctx.wanted)[:2], None, None


def _differentiable(loaded: NoisyLoaded, ctx: Any, grad: Tensor) -> list[Tensor | None]:  # noqa: ANN401
    """The gradient by the torch kernel, as a function that can be differentiated."""
    inputs: tuple[Tensor, Tensor] = ctx.saved_tensors
    values = noisy_expectations(loaded.circuit, *inputs, noise=loaded.noise, dtype=ctx.dtype)
    wanted = [tensor for tensor, want in zip(inputs, ctx.wanted, strict=False) if want]
    found = iter(torch.autograd.grad(values, wanted, grad, create_graph=True, allow_unused=True))
    return [next(found) if want else None for want in ctx.wanted[:2]]
