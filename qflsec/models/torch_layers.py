"""Quantum layers of a torch module: what takes their place, or the place of a QNode that the module calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qflsec.base.errors import QflsecError
from qflsec.circuits import NotAffine
from qflsec.circuits.from_pennylane import roles_of
from qflsec.models.layer import QuantumLayer
from qflsec.models.torch_qnodes import called, route
from qflsec.models.torch_values import CircuitValues, Values, evaluated, running, values_of

__all__ = [
    "Replaced",
    "ValuesLayer",
    "calls_pennylane",
    "is_torch_layer",
    "own_shots",
    "replace_layers",
]


class ValuesLayer(nn.Module):
    """What takes the place of a quantum layer, with the parameters of that layer.

    Args:
        values: What evaluates it.
        parameters: Its weights in the order in which they are evaluated, by the names that they had.
        drops_axis: Whether one measured value comes without an axis of its own.
    """

    def __init__(
        self, values: Values, parameters: Mapping[str, nn.Parameter], *, drops_axis: bool = False
    ) -> None:
        super().__init__()
        self.values, self.drops_axis, self.order = values, drops_axis, tuple(parameters)
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Measured values.

        Shapes:
            inputs: ``(..., F)``; returns: ``(..., M)``
        """
        weights = torch.cat([getattr(self, name).reshape(-1) for name in self.order])
        found = evaluated(self.values, weights, inputs.to(weights.dtype))
        return found.squeeze(-1) if self.drops_axis else found


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What became of the quantum layers of a module, and of the QNodes that it calls.

    Attributes:
        kernel: Those that are circuits of the kernel now, by their names.
        tapes: Those that are no circuits, but whose tapes or angles are computed for all records at once, by their
            names, and why.
        pennylane: Those that stay with PennyLane, by their names, and why.
        one_by_one: Whether the module calls a QNode for one record after the other.
    """

    kernel: tuple[str, ...] = ()
    tapes: tuple[tuple[str, str], ...] = ()
    pennylane: tuple[tuple[str, str], ...] = ()
    one_by_one: bool = False


def replace_layers(module: nn.Module, example: Tensor) -> Replaced:
    """Let the quantum layers of a module, and the QNodes that it calls, run in the batched kernel.

    PennyLane's ``TorchLayer`` keeps a private dictionary of its weights and evaluates with that, whatever
    ``torch.func.functional_call`` puts in the place of its parameters. One that does not read as a circuit
    keeps its tapes, which are executed here; one that PennyLane alone can execute stays, and takes the weights of its
    registered parameters before every call. A QNode that the module's ``forward`` calls is evaluated in the same ways
    while the module runs (:mod:`qflsec.models.torch_qnodes`).

    Args:
        module: The module; it is changed.
        example: A batch of records, as the module takes them.
    """
    seen = _shapes(module, example)
    kernel, tapes, pennylane = [], [], []
    for name, layer in list(module.named_modules()):
        if isinstance(layer, QuantumLayer):
            own = CircuitValues(layer.circuit, layer.execution)
            _put(module, name, ValuesLayer(own, {"weights": layer.weights}))
            kernel.append(name)
        elif is_torch_layer(layer) and name in seen:
            try:
                replaced, reason = _values_layer(layer, *seen[name])
            except NotAffine as error:
                layer.register_forward_pre_hook(_take_registered)
                pennylane.append((name, error.what))
                continue
            _put(module, name, replaced)
            if reason is None:
                kernel.append(name)
            else:
                tapes.append((name, reason))
    stay = [layer.qnode for layer in module.modules() if is_torch_layer(layer)]
    calls = called(module, example, stay)
    for name, reason, stays in route(calls):
        if reason is None:
            kernel.append(name)
        else:
            (pennylane if stays else tapes).append((name, reason))
    return Replaced(
        kernel=tuple(kernel),
        tapes=tuple(tapes),
        pennylane=tuple(pennylane),
        one_by_one=len(calls) > len(called(module, example[:1], stay)),
    )


def is_torch_layer(layer: nn.Module) -> bool:
    """Whether it is PennyLane's, told without importing PennyLane."""
    return any(kind.__module__ == "pennylane.qnn.torch" for kind in type(layer).__mro__)


def own_shots(layer: Any) -> int | None:  # noqa: ANN401 - a module, or PennyLane's layer
    """The shots that a quantum layer brings with it; None where it brings none."""
    if isinstance(layer, QuantumLayer):
        return layer.execution.shots
    shots: int | None = layer.qnode.shots.total_shots if is_torch_layer(layer) else None
    return shots


def calls_pennylane(module: nn.Module, example: Tensor) -> bool:
    """Whether PennyLane runs a QNode where the module runs."""
    with running():
        return bool(called(module, example))


def _take_registered(layer: Any, _: Any) -> None:  # noqa: ANN401 - PennyLane's layer
    layer.qnode_weights = {name: layer._parameters[name] for name in layer.qnode_weights}  # noqa: SLF001


def _shapes(module: nn.Module, example: Tensor) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The shapes that each of PennyLane's layers takes and gives."""
    seen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    hooks = []
    for name, layer in module.named_modules():
        if is_torch_layer(layer):

            def note(_: nn.Module, given: tuple[Tensor, ...], found: Tensor, name: str = name) -> None:
                if given:
                    seen[name] = (tuple(given[0].shape), tuple(found.shape))

            hooks.append(layer.register_forward_hook(note))
    try:
        if hooks:
            with torch.no_grad():
                module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _values_layer(
    layer: Any,  # noqa: ANN401 - PennyLane's layer
    taken: tuple[int, ...],
    given: tuple[int, ...],
) -> tuple[ValuesLayer, str | None]:
    """What takes a layer's place, and why it is no circuit; None where it is one."""
    weights = dict(layer.qnode_weights)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    try:
        roles = roles_of(layer.qnode, weight_shapes=shapes, features_argument=layer.input_arg)
    except QflsecError as error:
        raise NotAffine(error.what) from error
    found = values_of(layer.qnode, roles, taken[-1])
    drops_axis = len(given) == len(taken) - 1
    if not drops_axis and given != (*taken[:-1], found.n_values):
        raise NotAffine(f"it gives values of shape {given} for inputs of shape {taken}")
    parameters = {key: weights[key] for key, _ in roles.weights}
    return ValuesLayer(found.values, parameters, drops_axis=drops_axis), found.reason


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of this name; what holds it twice gets it twice."""
    old = module.get_submodule(name)
    for parent in module.modules():
        for key, child in list(parent._modules.items()):  # noqa: SLF001 - named_children() leaves out repetitions
            if child is old:
                setattr(parent, key, layer)
