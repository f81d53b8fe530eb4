"""Gradients of single records, for all models and records in one call."""

from __future__ import annotations

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.models.base import EXACT, Execution, Generators, Model, leading_shape

__all__ = ["gradients_and_losses", "per_sample_gradients"]


def per_sample_gradients(
    model: Model,
    params: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    execution: Execution = EXACT,
    generator: Generators | None = None,
    create_graph: bool = False,
) -> Tensor:
    """The gradient of each record's loss in the parameters.

    The parameters are expanded to one row for each record, so that one forward and one backward pass give
    all gradients. Their mean over B is the gradient of the batch's mean loss, up to rounding.

    Shapes:
        params: ``(P,)`` or ``(..., 1, P)``, broadcasting against the leading axes of ``features``.
        features: ``(..., B, F)``.
        labels: ``(..., B)``, int64, or a shape that expands to it.
        returns: ``(..., B, P)``, in the dtype of ``params``.

    Args:
        model: The model.
        params: Flat parameters.
        features: Records.
        labels: Classes of the records.
        execution: How the circuit is executed.
        generator: The stream of measurement outcomes, needed where ``execution.shots`` is set; or one
            stream for each entry of the first leading axis.
        create_graph: Keep the graph, so that the result can be differentiated in ``features``, ``params``
            or both, as gradient inversion does.

    Raises:
        ConfigError: The shapes do not fit, or the graph of a parameter-shift gradient was asked for.
    """
    return gradients_and_losses(
        model,
        params,
        features,
        labels,
        execution=execution,
        generator=generator,
        create_graph=create_graph,
    )[0]


def gradients_and_losses(
    model: Model,
    params: Tensor,
    features: Tensor,
    labels: Tensor,
    *,
    execution: Execution = EXACT,
    generator: Generators | None = None,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Each record's gradient and its loss, of one evaluation of the model.

    Shapes:
        params, features and labels as in :func:`per_sample_gradients`.
        returns: ``(..., B, P)`` and ``(..., B)``; the losses carry no graph.

    Args:
        model: The model.
        params: Flat parameters.
        features: Records.
        labels: Classes of the records.
        execution: How the circuit is executed.
        generator: The stream of measurement outcomes.
        create_graph: Keep the gradients' graph.

    Raises:
        ConfigError: As for :func:`per_sample_gradients`.
    """
    if create_graph and execution.gradient == "parameter-shift":
        raise ConfigError(
            "the parameter-shift gradient cannot be differentiated again",
            fix="use gradient='autograd' where second derivatives are needed",
        )
    lead = leading_shape(params, features)
    rows = params.expand(*lead, params.shape[-1])
    if not (create_graph and rows.requires_grad):
        rows = rows.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(rows, features, execution=execution, generator=generator)
        losses = model.loss.per_sample(logits, labels)
        (gradients,) = torch.autograd.grad(losses.sum(), rows, create_graph=create_graph)
    return gradients, losses.detach()
