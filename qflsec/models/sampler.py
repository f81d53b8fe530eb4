"""Per-sample gradients of a :class:`~qflsec.models.layer.QuantumLayer` for Opacus, by one broadcast call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from qflsec.models.layer import QuantumLayer

__all__ = ["register_sampler"]


def register_sampler(layer: type[QuantumLayer]) -> None:
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
