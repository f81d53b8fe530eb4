"""The compiled kernel as torch functions: values, gradients, and gradients of gradients.

Values whose gradient is wanted are computed together with it where there is one output: a sample's derivatives then
only wait for their factor. A gradient of a gradient is a product of second derivatives and a direction, which is
linear in the direction; beyond, the torch kernel takes over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qflsec.circuits.circuit import Angle, Circuit, Gate
from qflsec.circuits.compiled.layout import Layout
from qflsec.circuits.compiled.loaded import NOTHING, Gradient, Loaded

__all__ = ["Batch", "evaluate"]

Parts = Sequence[Tensor | None]


class Measured(Protocol):
    """What a batch knows of its program."""

    circuit: Circuit
    dtype: np.dtype[Any]
    n_outputs: int


P = TypeVar("P", bound=Measured)


class Batch(Generic[P]):
    """The samples of one call.

    Attributes:
        loaded: The program.
        layout: The samples.
        weights, features, start: Their arrays.
        shapes: The shapes of the tensors.
    """

    def __init__(
        self, loaded: P, layout: Layout, arrays: tuple[Any, Any, Any], shapes: tuple[torch.Size, ...]
    ) -> None:
        self.loaded, self.layout, self.shapes = loaded, layout, shapes
        self.weights, self.features, self.start = arrays

    @property
    def arrays(self) -> tuple[Any, Any, Any]:
        """Weights, features and first states."""
        return self.weights, self.features, self.start

    def values(self, found: Any) -> Tensor:  # noqa: ANN401 - an array
        """The values of all samples ``(samples, K)`` along the axes of the batch."""
        return torch.from_numpy(found.reshape(*self.layout.axes, self.loaded.n_outputs))

    def seeds(self, grad: Tensor) -> Any:  # noqa: ANN401 - an array
        """A cotangent of the values as an array ``(samples, K)``."""
        return np.ascontiguousarray(grad.detach().numpy()).reshape(-1, self.loaded.n_outputs)

    def tensors(self, found: Gradient, factors: Any, wanted: Sequence[bool]) -> list[Tensor | None]:  # noqa: ANN401
        """The gradient in the tensors' own shapes."""
        layout, circuit = self.layout, self.loaded.circuit
        results: list[Tensor | None] = [None, None, None]
        if wanted[0]:
            if layout.apart or not layout.shared:
                own, axes = found.samples(found.by_weight, circuit.n_weights, factors), layout.axes
            else:
                own = found.rows(circuit.n_weights, factors)
                axes = (*layout.rows, *(1,) * len(layout.samples))
            results[0] = _to_size(own, axes, self.shapes[0])
        for place, part in ((1, found.by_feature), (2, found.by_start)):
            if wanted[place]:
                own = found.samples(part, self.shapes[place][-1], factors)
                results[place] = _to_size(own, layout.axes, self.shapes[place])
        return results

    def direction(self, along: Parts) -> tuple[Any, Any, Any]:
        """A cotangent of the gradients as a direction of motion; nothing stands for zero."""
        layout, circuit, dtype = self.layout, self.loaded.circuit, self.loaded.dtype
        total = layout.n_rows * layout.n_samples
        axes = layout.axes if layout.apart else (*layout.rows, *(1,) * len(layout.samples))
        if along[0] is None:
            weights = np.zeros((total if layout.apart else layout.n_rows, circuit.n_weights), dtype)
        else:
            weights = _rows(along[0], axes)
        features = (
            np.zeros((total, circuit.n_features), dtype) if along[1] is None else _rows(along[1], layout.axes)
        )
        if not self.start.size:
            return weights, features, NOTHING[dtype]
        start = (
            np.zeros((total, self.start.shape[-1]), dtype)
            if along[2] is None
            else _rows(along[2], layout.axes)
        )
        return weights, features, start


def _to_size(own: Any, axes: tuple[int, ...], shape: torch.Size) -> Tensor:  # noqa: ANN401 - an array
    """Rows along these axes as a tensor, summed over those along which one of this shape was broadcast."""
    if own.size == shape.numel():
        return torch.from_numpy(own.reshape(shape))
    return torch.from_numpy(own.reshape(*axes, own.shape[-1])).sum_to_size(shape)


def _rows(tensor: Tensor, axes: tuple[int, ...]) -> Any:  # noqa: ANN401 - an array
    size = tensor.shape[-1]
    return np.ascontiguousarray(tensor.detach().expand(*axes, size).numpy()).reshape(math.prod(axes), size)


def evaluate(weights: Tensor, features: Tensor, start: Tensor, batch: Batch[Loaded]) -> Tensor:
    """Values of a batch, differentiable in weights, features and first states.

    Shapes:
        weights: ``(..., P)``; features: ``(..., F)``; start: ``(..., 2**n)`` or nothing; returns: ``(..., K)``
    """
    if torch.is_grad_enabled() and (weights.requires_grad or features.requires_grad or start.requires_grad):
        values: Tensor = _Values.apply(weights, features, start, batch)  # type: ignore[no-untyped-call]
        return values
    found, _ = batch.loaded.evaluate(batch.layout, *batch.arrays)
    return batch.values(found)


class _Values(torch.autograd.Function):
    """Values."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, features: Tensor, start: Tensor, batch: Batch[Loaded]) -> Tensor:  # noqa: ANN401
        single = batch.loaded.n_outputs == 1
        wanted = tuple(ctx.needs_input_grad[:3]) if single else (False, False, False)
        values, gradient = batch.loaded.evaluate(batch.layout, *batch.arrays, wanted=wanted)
        ctx.batch, ctx.gradient, ctx.wanted = batch, gradient, tuple(ctx.needs_input_grad[:3])
        ctx.save_for_backward(weights, features, start)
        return batch.values(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        if torch.is_grad_enabled():
            found = _Gradients.apply(*ctx.saved_tensors, grads[0], ctx.batch, ctx.gradient, ctx.wanted)  # type: ignore[no-untyped-call]
            return (*found, None)
        return (*_gradients(ctx.batch, grads[0], ctx.gradient, ctx.wanted), None)


def _gradients(
    batch: Batch[Loaded], grad: Tensor, known: Gradient | None, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of ``sum(grad * values)``."""
    seeds = batch.seeds(grad)
    if known is not None:  # one output, whose derivatives were taken with its value
        return batch.tensors(known, seeds.reshape(-1), wanted)
    _, found = batch.loaded.evaluate(batch.layout, *batch.arrays, wanted=wanted, seeds=seeds)
    assert found is not None
    return batch.tensors(found, seeds[:0, 0].reshape(-1), wanted)


class _Gradients(torch.autograd.Function):
    """The gradient of ``sum(grad * values)``, which can be differentiated."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        weights: Tensor,
        features: Tensor,
        start: Tensor,
        grad: Tensor,
        batch: Batch[Loaded],
        known: Gradient | None,
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.batch = batch
        ctx.save_for_backward(weights, features, start, grad)
        ctx.set_materialize_grads(False)
        return tuple(_gradients(batch, grad, known, wanted))

    @staticmethod
    def backward(ctx: Any, *along: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        inputs, batch = ctx.saved_tensors, ctx.batch
        wanted = tuple(ctx.needs_input_grad[:4])
        if not torch.is_grad_enabled():
            return (*_products(batch, inputs[3], along, wanted), None, None, None)
        parts = [
            torch.zeros(shape, dtype=inputs[0].dtype) if part is None else part
            for part, shape in zip(along, batch.shapes, strict=True)
        ]
        held = [part.detach() for part in parts]
        found = _Products.apply(inputs[3].detach(), *parts, batch, wanted)  # type: ignore[no-untyped-call]
        # zeros, whose gradient is that of the products in weights, features, first states and factors
        rest = _Rest.apply(*inputs, *held, batch, wanted)  # type: ignore[no-untyped-call]
        sums = [None if f is None else f + r for f, r in zip(found, rest, strict=True)]
        return (*sums, None, None, None)


def _products(
    batch: Batch[Loaded], grad: Tensor, along: Parts, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Second derivatives of ``sum(grad * values)`` times a direction, and the derivative of the values along it."""
    wants = (wanted[0], wanted[1], wanted[2])
    values, found = batch.loaded.products(
        batch.layout, *batch.arrays, batch.seeds(grad), batch.direction(along), wanted=wants
    )
    results = batch.tensors(found, values[:0, 0].reshape(-1), wanted)
    return [*results, batch.values(values) if wanted[3] else None]


class _Products(torch.autograd.Function):
    """Products of second derivatives and a direction, differentiable in the direction, in which they are linear."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        in_weights: Tensor,
        in_features: Tensor,
        in_start: Tensor,
        batch: Batch[Loaded],
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.batch = batch
        ctx.save_for_backward(grad)
        ctx.set_materialize_grads(False)
        along = (in_weights, in_features, in_start)
        if any(bool(part.any()) for part in along):
            return tuple(_products(batch, grad, along, wanted))
        # Jacobians are taken by differentiating in a direction that is zero: only its graph is wanted
        shapes = (*batch.shapes, grad.shape)
        return tuple(
            torch.zeros(shape, dtype=grad.dtype) if want else None
            for shape, want in zip(shapes, wanted, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        batch, (grad,) = ctx.batch, ctx.saved_tensors
        return (None, *_turned(batch, grad, grads, ctx.needs_input_grad[1:4]), None, None)


def _turned(batch: Batch[Loaded], grad: Tensor, grads: Parts, wants: Sequence[bool]) -> list[Tensor | None]:
    """What products give back to their direction: second derivatives are symmetric, those of values are gradients."""
    results: list[Tensor | None] = [None, None, None]
    if any(part is not None for part in grads[:3]):
        results = _products(batch, grad, grads[:3], (*wants, False))[:3]
    moved = grads[3]
    if moved is not None:
        more = _gradients(batch, moved, None, wants)
        results = [b if a is None else a if b is None else a + b for a, b in zip(results, more, strict=True)]
    return results


class _Rest(torch.autograd.Function):
    """Zeros in place of products of second derivatives, with their gradient in all but the direction."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        weights: Tensor,
        features: Tensor,
        start: Tensor,
        grad: Tensor,
        in_weights: Tensor,
        in_features: Tensor,
        in_start: Tensor,
        batch: Batch[Loaded],
        wanted: tuple[bool, ...],
    ) -> tuple[Tensor | None, ...]:
        ctx.batch, ctx.wanted = batch, wanted
        ctx.save_for_backward(weights, features, start, grad, in_weights, in_features, in_start)
        ctx.set_materialize_grads(False)
        likes = (weights, features, start, grad)
        return tuple(
            torch.zeros_like(like) if want else None for like, want in zip(likes, wanted, strict=True)
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        *inputs, a, b, c = ctx.saved_tensors
        found = _third(ctx.batch.loaded.circuit, tuple(inputs), (a, b, c), grads)
        return (*found, *(None,) * 5)


def _third(
    circuit: Circuit, inputs: tuple[Tensor, ...], along: tuple[Tensor, ...], grads: tuple[Tensor | None, ...]
) -> list[Tensor | None]:
    """The gradient of products of second derivatives, by the torch kernel."""
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_(tensor.numel() > 0) for tensor in inputs]
        values = _by_torch(circuit, *leaves[:3])
        own = [leaf for leaf in leaves[:3] if leaf.requires_grad]
        first = torch.autograd.grad(values, own, leaves[3], create_graph=True, allow_unused=True)
        moving = [part for part, leaf in zip(along, leaves[:3], strict=True) if leaf.requires_grad]
        dot = sum((a * b).sum() for a, b in zip(first, moving, strict=True) if a is not None)
        every = [*own, leaves[3]]
        if not isinstance(dot, Tensor):
            return [None] * 4
        second = torch.autograd.grad(dot, every, create_graph=True, allow_unused=True)
        wanted = [grad for grad, leaf in zip(grads, leaves, strict=True) if leaf.requires_grad]
        pairs = [(a, b) for a, b in zip(second, wanted, strict=True) if a is not None and b is not None]
        total = sum((a * b).sum() for a, b in pairs)
        if not isinstance(total, Tensor) or not total.requires_grad:
            return [None] * 4
        third = iter(torch.autograd.grad(total, every, allow_unused=True))
    return [next(third) if leaf.requires_grad else None for leaf in leaves]


def _by_torch(circuit: Circuit, weights: Tensor, features: Tensor, start: Tensor) -> Tensor:
    """The values by the torch kernel, a first state being more features."""
    from dataclasses import replace

    from qflsec.circuits.kernel import expectations

    complex_dtype = torch.complex64 if weights.dtype == torch.float32 else torch.complex128
    if start.numel():
        n = circuit.n_features
        amplitudes = tuple(Angle.feature(n + k) for k in range(start.shape[-1]))
        embedding = Gate("AmplitudeEmbedding", circuit.gates[0].wires, amplitudes)
        circuit = replace(circuit, gates=(embedding, *circuit.gates[1:]), n_features=n + start.shape[-1])
        axes = torch.broadcast_shapes(features.shape[:-1], start.shape[:-1])  # type: ignore[no-untyped-call]
        features = torch.cat([features.expand(*axes, -1), start.expand(*axes, -1)], dim=-1)
        # the torch kernel normalises the state; what is differentiated here is a quadratic form of it
        scale = start.square().sum(-1, keepdim=True)
        return scale * expectations(circuit, weights, features, dtype=complex_dtype)
    return expectations(circuit, weights, features, dtype=complex_dtype)
