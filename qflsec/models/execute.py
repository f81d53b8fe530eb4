"""Executing a circuit as an :class:`~qflsec.models.base.Execution` says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qflsec.base.errors import ConfigError
from qflsec.circuits import Circuit, DeviceNoise, on_device, parameter_shift, sample_expectations
from qflsec.circuits.executors import exact_expectations, exact_noisy_expectations
from qflsec.circuits.placed_noise import Noise
from qflsec.models.base import Evaluator, Execution, Generators

__all__ = ["measure"]


def measure(
    circuit: Circuit,
    weights: Tensor,
    features: Tensor,
    execution: Execution,
    generator: Generators | None,
) -> Tensor:
    """Measured values of the circuit's observables.

    With mitigation, values at two noise scales are extrapolated to none, and so are their gradients.

    Noise acts on exact values and on sampled outcomes alike, and on their gradients.

    An evaluator computes values and gradients in the party's place, with its own shots.

    With shots and the gradient ``"autograd"``, the values are sampled but differentiate as the exact ones
    do, which is a simulator's privilege; ``"parameter-shift"`` takes the gradient from sampled values too.

    Shapes:
        weights: ``(..., P)``.
        features: ``(..., F)``.
        returns: ``(..., K)``, real.

    Raises:
        ConfigError: An evaluator with noise, or shots without a generator.
    """
    if execution.mitigation is not None and execution.noise is not None:
        return _extrapolated(circuit, weights, features, execution, generator)
    if execution.evaluator is not None and execution.noise is not None:
        raise ConfigError("an evaluator has noise of its own", got=execution, fix="remove 'noise'")
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
    exact = _exact(circuit, weights, features, execution)
    return values + (exact - exact.detach())  # adds zero, and a gradient


def _extrapolated(
    circuit: Circuit, weights: Tensor, features: Tensor, execution: Execution, generator: Generators | None
) -> Tensor:
    """1.5 E(1) - 0.5 E(3): what is linear in the noise scale cancels, and the variance is 2.25 + 0.25 times that of shots.

    Source:
        Temme, Bravyi, Gambetta: Error mitigation for short-depth quantum circuits, PRL 119, 180509, 2017
        (Richardson's extrapolation; of first order here, with the weights that make c1 + c3 = 1 and c1 + 3 c3 = 0).
    """
    assert execution.noise is not None
    plain = replace(execution, mitigation=None)
    stretched = replace(plain, noise=execution.noise.repeated(3))
    near, far = (measure(circuit, weights, features, one, generator) for one in (plain, stretched))
    return 1.5 * near - 0.5 * far


def _differentiated(weights: Tensor, features: Tensor) -> bool:
    return torch.is_grad_enabled() and (weights.requires_grad or features.requires_grad)


def _evaluate(
    circuit: Circuit, weights: Tensor, features: Tensor, execution: Execution, generator: Generators | None
) -> Tensor:
    if execution.shots is None or generator is None:
        return _exact(circuit, weights, features, execution)
    circuit, noise = _placed(circuit, execution)
    return sample_expectations(
        circuit,
        weights,
        features,
        shots=execution.shots,
        generator=generator,
        dtype=execution.complex_dtype,
        noise=noise,
    )


def _placed(circuit: Circuit, execution: Execution) -> tuple[Circuit, Noise | None]:
    """The circuit as it is executed, and its noise: a device has gates and places of its own."""
    if isinstance(execution.noise, DeviceNoise):
        return on_device(circuit, execution.noise)
    return circuit, execution.noise


def _exact(circuit: Circuit, weights: Tensor, features: Tensor, execution: Execution) -> Tensor:
    """Expectation values as of infinitely many shots."""
    dtype = execution.complex_dtype
    circuit, noise = _placed(circuit, execution)
    if noise is None:
        return exact_expectations(circuit, weights, features, dtype=dtype, executor=execution.executor)
    return exact_noisy_expectations(
        circuit, weights, features, noise=noise, dtype=dtype, executor=execution.executor
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
        in_weights = in_features = None
        if ctx.needs_input_grad[0]:
            in_weights = _pull_back(ctx, grads[0], "weight")
        if ctx.needs_input_grad[1]:
            in_features = _pull_back(ctx, grads[0], "feature")
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


def _pull_back(ctx: Any, grad: Tensor, of: Literal["weight", "feature"]) -> Tensor:  # noqa: ANN401 - torch's context
    execution: Execution = ctx.execution
    weights, features = ctx.saved_tensors
    circuit, noise = _placed(ctx.circuit, execution)
    jacobian = parameter_shift(
        circuit,
        weights,
        features,
        shots=execution.shots,
        generator=ctx.generator,
        dtype=execution.complex_dtype,
        noise=noise,
        of=of,
    )
    own = weights if of == "weight" else features
    products = (grad.unsqueeze(-1) * jacobian).sum(-2)
    return products.sum_to_size(own.shape).to(own.dtype)
