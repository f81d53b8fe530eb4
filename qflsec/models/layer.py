"""A circuit as a torch module, for users and for Opacus."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import torch
from torch import Tensor

from qflsec.circuits import Circuit
from qflsec.models.base import EXACT, Execution
from qflsec.models.execute import measure

__all__ = ["QuantumLayer"]


class QuantumLayer(torch.nn.Module):
    """A circuit whose weights are an ordinary torch parameter.

    The forward pass reads ``self.weights`` and nothing else, so that whatever replaces the parameter
    (``torch.func.functional_call``, Opacus) is what the circuit runs with. Where Opacus was imported before
    the layer is made, its per-sample gradients take one broadcast call instead of ``torch.func``.

    The layer gives the dtype of its weights, so that ``module.double()`` and ``module.half()`` do to it what
    they do to its neighbours: double weights are run in ``"complex128"``, all others as ``execution`` says.

    Shapes:
        input ``(B, ..., F)`` -> output ``(B, ..., K)``, the expectation values of the observables.

    Args:
        circuit: The circuit.
        generator: The stream of the initial weights, uniform in [0, 2 pi).
        execution: How the circuit is executed.
        shot_generator: The stream of measurement outcomes; needed where ``execution.shots`` is set.
    """

    weights: torch.nn.Parameter

    def __init__(
        self,
        circuit: Circuit,
        *,
        generator: torch.Generator | None = None,
        execution: Execution = EXACT,
        shot_generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if "opacus" in sys.modules:  # it takes seconds to import, and only its users need the sampler
            _register_sampler(QuantumLayer)
        self.circuit = circuit
        self.execution = execution
        self.shot_generator = shot_generator
        self.weights = torch.nn.Parameter(2 * math.pi * torch.rand(circuit.n_weights, generator=generator))

    def forward(self, inputs: Tensor) -> Tensor:
        """Measured values of the circuit's observables."""
        return self.run(self.weights, inputs)

    def run(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Measured values with other weights ``(..., P)``."""
        if inputs.numel() == 0:  # Poisson sampling may draw nobody; the graph still reaches the weights
            nobody = inputs.sum(dim=-1, keepdim=True) + weights.sum(dim=-1, keepdim=True)
            return nobody.to(weights.dtype).expand(*nobody.shape[:-1], len(self.circuit.observables))
        execution = self.execution
        if weights.dtype == torch.float64:
            execution = replace(execution, dtype="complex128")
        return measure(self.circuit, weights, inputs, execution, self.shot_generator).to(weights.dtype)

    def extra_repr(self) -> str:
        """The sizes, for printing."""
        circuit = self.circuit
        return (
            f"{circuit.n_qubits} qubits, {circuit.n_features} features, {circuit.n_weights} weights, "
            f"{len(circuit.observables)} observables"
        )


def _register_sampler(layer: type[QuantumLayer]) -> None:
    """Tell Opacus how to differentiate ``layer`` for every record at once.

    Opacus is right about the layer without this, through ``torch.func``; expanding the weights to one row
    for each record is faster.
    """
    from opacus.grad_sample import register_grad_sampler

    register_grad_sampler(layer)(_sample_gradients)


def _sample_gradients(
    layer: QuantumLayer, activations: list[Tensor], backprops: Tensor
) -> dict[torch.nn.Parameter, Tensor]:
    inputs = activations[0]
    rows = layer.weights.detach().expand(len(inputs), -1).requires_grad_()
    with torch.enable_grad():
        between = [1] * (inputs.dim() - 2)  # axes of one record, such as time steps, share its row
        outputs = layer.run(rows.reshape(len(inputs), *between, rows.shape[-1]), inputs)
        (gradients,) = torch.autograd.grad(outputs, rows, grad_outputs=backprops)
    return {layer.weights: gradients}
