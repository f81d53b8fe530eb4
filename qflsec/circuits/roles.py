"""Which argument of a QNode takes the features and which take weights; by name, never by position."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qflsec.circuits.errors import CircuitError

__all__ = ["FEATURE_NAMES", "WEIGHT_NAMES", "Roles", "Shape", "read_roles"]

FEATURE_NAMES = frozenset({"input", "inputs", "feature", "features", "x", "xs", "data", "sample", "samples"})
WEIGHT_NAMES = frozenset(
    {"weight", "weights", "w", "param", "params", "parameter", "parameters", "var", "vars", "variables"}
    | {"theta", "thetas", "phi", "phis", "bias", "biases"}
)
Shape = tuple[int, ...]
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What each argument of a QNode takes.

    Attributes:
        features: The argument that takes a record.
        weights: The arguments that take weights, with their shapes, in the QNode's order; the flat weights
            are theirs one after the other, each in row-major order.
    """

    features: str
    weights: tuple[tuple[str, Shape], ...]

    @property
    def n_weights(self) -> int:
        """Length of the flat weight vector."""
        return sum(math.prod(shape) for _, shape in self.weights)

    def arguments(self, weights: Tensor, features: Tensor) -> dict[str, Tensor]:
        """The arguments of one call.

        Shapes:
            weights: ``(..., P)``; each argument gets ``(..., *shape)``.
        """
        parts = torch.split(weights, [math.prod(shape) for _, shape in self.weights], dim=-1)
        shaped = {
            name: part.reshape((*part.shape[:-1], *shape))
            for (name, shape), part in zip(self.weights, parts, strict=True)
        }
        return {**shaped, self.features: features}


def read_roles(
    function: Callable[..., Any],
    shapes: Mapping[str, Sequence[int]] | Sequence[int],
    *,
    features_argument: str | None = None,
) -> Roles:
    """The roles of a function's arguments.

    The features' argument is the one that ``features_argument`` names, else the only one of
    :data:`FEATURE_NAMES`. All others are weights, but those that have a default and no shape: they keep
    their default.

    Args:
        function: The function that a QNode wraps.
        shapes: The shape of each weight argument, or the shape of the only one.
        features_argument: The features' argument, where its name does not say so.

    Raises:
        CircuitError: A role is named by neither side, or the shapes do not fit the arguments.
    """
    parameters = inspect.signature(function).parameters
    signature = f"({', '.join(parameters)})"
    if any(parameter.kind in _VARIADIC for parameter in parameters.values()):
        raise CircuitError(
            "the QNode takes arguments without a name", got=signature, expected="named features and weights"
        )
    named = shapes if isinstance(shapes, Mapping) else {}
    features = _features(list(parameters), signature, named, features_argument)
    empty = inspect.Parameter.empty
    weights = [
        name
        for name, parameter in parameters.items()
        if name != features and (name in named or name in WEIGHT_NAMES or parameter.default is empty)
    ]
    return Roles(features=features, weights=_weights(weights, signature, shapes))


def _features(names: list[str], signature: str, shapes: Mapping[str, Any], chosen: str | None) -> str:
    if chosen is not None:
        if chosen not in names:
            raise CircuitError("the QNode has no such features_argument", got=chosen, expected=signature)
        return chosen
    known = [name for name in names if name.lower() in FEATURE_NAMES and name not in shapes]
    if len(known) == 1:
        return known[0]
    unsure = known or [n for n in names if n not in WEIGHT_NAMES and n not in shapes] or ["NAME"]
    options = [f'features_argument = "{name}"' for name in unsure]
    raise CircuitError(
        "several of the QNode's arguments could be the features"
        if known
        else "which argument of the QNode takes the features is not said",
        got=signature,
        expected="one argument called inputs, features, x, data or sample",
        fix=f"rename it, or say which: {' or '.join(options)}",
    )


def _weights(
    names: list[str], signature: str, shapes: Mapping[str, Sequence[int]] | Sequence[int]
) -> tuple[tuple[str, Shape], ...]:
    if isinstance(shapes, Mapping):
        if set(names) != set(shapes):
            raise CircuitError(
                "weight_shapes does not name the QNode's weight arguments",
                got=", ".join(shapes),
                expected=", ".join(names) or f"none, for {signature}",
            )
        return tuple((name, tuple(shapes[name])) for name in names)
    if len(names) != 1:
        raise CircuitError(
            f"the QNode takes {len(names)} weight arguments",
            got=signature,
            expected="one, or a shape for each",
            fix="add weight_shapes = { "
            + ", ".join(f"{name} = [...]" for name in names or ["weights"])
            + " }",
        )
    return ((names[0], tuple(shapes)),)
