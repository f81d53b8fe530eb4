"""Executing a circuit as an :class:`~qflsec.models.base.Execution` says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qflsec.base.errors import ConfigError
from qflsec.circuits import Circuit, expectations, parameter_shift, sample_expectations
from qflsec.models.base import Evaluator, Execution, Generators
from qflsec.models.encoding import swap_roles

__all__ = ["measure"]


def measure(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    execution: Execution,
    generator: Generators | None,
) -> Tensor:
    """Measured values of the circuit's observables.

    An evaluator computes values and gradients in the party's place, with its own shots.

    With shots and the gradient ``"autograd"``, the values are sampled but differentiate as the exact ones
    do, which is a simulator's privilege; ``"parameter-shift"`` takes the gradient from sampled values too.

    Shapes:
        weights: ``(..., P)``.
        features: ``(..., F)``.
        returns: ``(..., K)``, real.

    Raises:
        ConfigError: The execution is not available, or there are shots without a generator.
    """
    if execution.executor != "kernel" or execution.noise is not None or execution.mitigation is not None:
        raise ConfigError("this execution is not available", got=execution)
    if execution.evaluator is not None:
        if not torch.is_grad_enabled():  # then no Jacobian is asked for
            weights, features = weights.detach(), features.detach()
        delegated: Tensor = _Delegated.apply(weights, features, circuit, execution.evaluator)  # type: ignore[no-untyped-call]
        return delegated
    if execution.shots is not None and generator is None:
        raise ConfigError(
            "sampled outcomes need a random stream",
            got="shots without a generator",
            fix="pass one, such as qflsec.base.stream(seed, 'shots')",
        )
    if execution.gradient == "parameter-shift":
        values: Tensor = _Shifted.apply(weights, features, circuit, execution, generator)  # type: ignore[no-untyped-call]
        return values
    values = _evaluate(circuit, weights, features, execution, generator)
    if execution.shots is None or not _differentiated(weights, features):
        return values
    exact = expectations(circuit, weights, features, dtype=execution.complex_dtype)
    return values + (exact - exact.detach())  # adds zero, and a gradient


def _differentiated(weights: Tensor, features: Tensor) -> bool:
    return torch.is_grad_enabled() and (weights.requires_grad or features.requires_grad)


def _evaluate(
    circuit: Circuit, weights: Tensor, features: Tensor, execution: Execution, generator: Generators | None
) -> Tensor:
    dtype = execution.complex_dtype
    if execution.shots is None or generator is None:
        return expectations(circuit, weights, features, dtype=dtype)
    return sample_expectations(
        circuit, weights, features, shots=execution.shots, generator=generator, dtype=dtype
    )


class _Shifted(torch.autograd.Function):
    """Values whose gradient in weights and features is taken by the parameter-shift rule."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        weights: Tensor,
        features: Tensor,
        circuit: Circuit,
        execution: Execution,
        generator: Generators | None,
    ) -> Tensor:
        ctx.save_for_backward(weights, features)
        ctx.circuit, ctx.execution, ctx.generator = circuit, execution, generator
        return _evaluate(circuit, weights, features, execution, generator)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:  # noqa: ANN401 - torch's interface
        weights, features = ctx.saved_tensors
        in_weights = in_features = None
        if ctx.needs_input_grad[0]:
            in_weights = _pull_back(ctx, ctx.circuit, weights, features, grads[0])
        if ctx.needs_input_grad[1]:
            in_features = _pull_back(ctx, swap_roles(ctx.circuit), features, weights, grads[0])
        return in_weights, in_features, None, None, None


class _Delegated(torch.autograd.Function):
    """Values that somebody else computes, with all that their gradient takes, in one request."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's context
        weights: Tensor,
        features: Tensor,
        circuit: Circuit,
        evaluator: Evaluator,
    ) -> Tensor:
        wanted = (bool(ctx.needs_input_grad[0]), bool(ctx.needs_input_grad[1]))
        values, in_weights, in_features = evaluator.evaluate(
            circuit, weights.detach(), features.detach(), wanted=wanted
        )
        ctx.save_for_backward(in_weights, in_features)
        ctx.shapes = weights.shape, features.shape
        return values.to(weights.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # noqa: ANN401 - torch's interface
        found = [
            None
            if jacobian is None
            else (grads[0].unsqueeze(-1) * jacobian.to(grads[0].dtype)).sum(-2).sum_to_size(shape)
            for jacobian, shape in zip(ctx.saved_tensors, ctx.shapes, strict=True)
        ]
        return found[0], found[1], None, None


def _pull_back(ctx: Any, circuit: Circuit, weights: Tensor, features: Tensor, grad: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
    execution: Execution = ctx.execution
    jacobian = parameter_shift(
        circuit,
        weights,
        features,
        shots=execution.shots,
        generator=ctx.generator,
        dtype=execution.complex_dtype,
    )
    products = (grad.unsqueeze(-1) * jacobian).sum(-2)
    return products.sum_to_size(weights.shape).to(weights.dtype)
