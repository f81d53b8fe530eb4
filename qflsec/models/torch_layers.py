"""Circuits inside a torch module: executed as a run says, for many sets of weights at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from qflsec.base.errors import ConfigError, QflsecError
from qflsec.circuits import Circuit, NotAffine
from qflsec.circuits.from_pennylane import read_qnode, roles_of
from qflsec.models.base import EXACT, Execution, Generators, leading_shape
from qflsec.models.execute import measure
from qflsec.models.layer import QuantumLayer
from qflsec.models.qnode_call import Mode, QNodeCall, Whole, probe, qnode_call

__all__ = [
    "CircuitLayer",
    "QNodeLayer",
    "Replaced",
    "calls_pennylane",
    "is_torch_layer",
    "own_shots",
    "replace_layers",
    "running",
]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """How the circuits of a module are executed now."""

    execution: Execution = EXACT
    generator: Generators | None = None
    vmapped: bool = False


_ALONE = _Run()
_RUN: ContextVar[_Run] = ContextVar("run", default=_ALONE)


@contextmanager
def running(execution: Execution, generator: Generators | None, *, vmapped: bool) -> Iterator[None]:
    """Execute the circuits of modules that are called meanwhile.

    Args:
        execution: How.
        generator: The stream of measurement outcomes.
        vmapped: Whether the module is called under ``torch.func.vmap``.
    """
    token = _RUN.set(_Run(execution=execution, generator=generator, vmapped=vmapped))
    try:
        yield
    finally:
        _RUN.reset(token)


class _Rows(torch.autograd.Function):
    """A circuit under ``torch.func.vmap``: all rows go to the kernel together, outside of it.

    The kernel takes leading axes itself, and samplers, shifted evaluations and evaluators know no ``vmap``. The
    rule is run on the plain tensors, and what it computes is recorded by autograd as usual, so that no backward
    pass is written here.
    """

    @staticmethod
    def forward(weights: Tensor, inputs: Tensor, layer: _Layer) -> Tensor:
        return layer.evaluate(weights, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:  # noqa: ANN401 - torch's interface
        pass

    @staticmethod
    def vmap(
        info: Any,  # noqa: ANN401 - torch's interface
        in_dims: tuple[int | None, int | None, None],
        weights: Tensor,
        inputs: Tensor,
        layer: _Layer,
    ) -> tuple[Tensor, int]:
        rows, records = (
            value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip((weights, inputs), in_dims[:2], strict=True)
        )
        between = [1] * (records.dim() - 2)
        return layer.evaluate(rows.reshape(info.batch_size, *between, rows.shape[-1]), records), 0


class _Layer(nn.Module):
    """What takes the place of a quantum layer, with the parameters of that layer.

    Args:
        parameters: Its weights in the order in which they are evaluated, by the names that they had.
        drops_axis: Whether one measured value comes without an axis of its own.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, drops_axis: bool = False) -> None:
        super().__init__()
        self.drops_axis = drops_axis
        self.order = tuple(parameters)
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """Measured values.

        Shapes:
            inputs: ``(..., F)``; returns: ``(..., M)``
        """
        weights = torch.cat([getattr(self, name).reshape(-1) for name in self.order])
        inputs = inputs.to(weights.dtype)
        values: Tensor = (
            _Rows.apply(weights, inputs, self)  # type: ignore[no-untyped-call]
            if _RUN.get().vmapped
            else self.evaluate(weights, inputs)
        )
        return values.squeeze(-1) if self.drops_axis else values

    def evaluate(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Measured values of rows.

        Shapes:
            weights: ``(..., P)``; inputs: ``(..., F)``; returns: ``(..., M)``
        """
        raise NotImplementedError


class QNodeLayer(_Layer):
    """A QNode that is no circuit: for many records its tapes, or its angles, are computed at once.

    Args:
        call: The QNode.
        mode: How rows are evaluated.
        parameters: Its weights in the QNode's order, by the names that they had.
        drops_axis: Whether one measured value comes without an axis of its own.
    """

    def __init__(
        self,
        call: QNodeCall,
        mode: Mode,
        parameters: Mapping[str, nn.Parameter],
        *,
        drops_axis: bool = False,
    ) -> None:
        super().__init__(parameters, drops_axis=drops_axis)
        self.call, self.mode = call, mode

    def evaluate(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Measured values of rows, exactly and differentiated by autograd.

        Shapes:
            weights: ``(..., P)``; inputs: ``(..., F)``; returns: ``(..., M)``
        """
        lead = leading_shape(weights, inputs)
        rows, records = (value.expand(*lead, -1).reshape(-1, value.shape[-1]) for value in (weights, inputs))
        return self.call.rows(rows, records, self.mode).reshape(*lead, -1)


class CircuitLayer(_Layer):
    """A circuit in the place of a quantum layer, with the parameters of that layer.

    Args:
        circuit: The circuit.
        parameters: Its weights in the circuit's order, by the names that they had.
        execution: The layer's own noise and gradient, which the run's execution is joined with.
        drops_axis: Whether one measured value comes without an axis of its own.
    """

    def __init__(
        self,
        circuit: Circuit,
        parameters: Mapping[str, nn.Parameter],
        *,
        execution: Execution = EXACT,
        drops_axis: bool = False,
    ) -> None:
        super().__init__(parameters, drops_axis=drops_axis)
        self.circuit, self.execution = circuit, execution

    def evaluate(self, weights: Tensor, inputs: Tensor) -> Tensor:
        """Measured values of rows.

        Shapes:
            weights: ``(..., P)``; inputs: ``(..., F)``; returns: ``(..., M)``

        Raises:
            ConfigError: Both the layer and the run have noise.
        """
        run = _RUN.get()
        own, asked = self.execution, run.execution
        if own.noise is not None and asked.noise is not None:
            raise ConfigError(
                "a quantum layer of the module has noise of its own",
                got=asked.noise,
                fix="remove one of them",
            )
        execution = replace(
            asked,
            dtype="complex128" if weights.dtype == torch.float64 else "complex64",
            gradient=own.gradient if asked.gradient == "autograd" else asked.gradient,
            noise=own.noise or asked.noise,
        )
        return measure(self.circuit, weights, inputs, execution, run.generator)


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What became of the quantum layers of a module.

    Attributes:
        kernel: Layers that are circuits of the kernel now, by their names.
        tapes: Layers that are no circuits, but whose tapes or angles are computed for all records at once, by their
            names, and why.
        pennylane: Layers that stay with PennyLane, by their names, and why.
    """

    kernel: tuple[str, ...] = ()
    tapes: tuple[tuple[str, str], ...] = ()
    pennylane: tuple[tuple[str, str], ...] = ()


def replace_layers(module: nn.Module, example: Tensor) -> Replaced:
    """Let the quantum layers of a module run in the batched kernel, where they read as circuits.

    PennyLane's ``TorchLayer`` keeps a private dictionary of its weights and evaluates with that, whatever
    ``torch.func.functional_call`` puts in the place of its parameters. One that does not read as a circuit
    keeps its tapes, which are executed here; one that PennyLane alone can execute stays, and takes the weights of its
    registered parameters before every call.

    Args:
        module: The module; it is changed.
        example: A batch of records, as the module takes them.
    """
    seen = _shapes(module, example)
    kernel, tapes, pennylane = [], [], []
    for name, layer in list(module.named_modules()):
        if isinstance(layer, QuantumLayer):
            _put(
                module,
                name,
                CircuitLayer(layer.circuit, {"weights": layer.weights}, execution=layer.execution),
            )
            kernel.append(name)
        elif is_torch_layer(layer) and name in seen:
            try:
                _put(module, name, _circuit_layer(layer, *seen[name]))
                kernel.append(name)
            except NotAffine as error:
                other = _qnode_layer(layer, *seen[name])
                if other is None:
                    layer.register_forward_pre_hook(_take_registered)
                    pennylane.append((name, error.what))
                else:
                    _put(module, name, other)
                    tapes.append((name, error.what))
    return Replaced(kernel=tuple(kernel), tapes=tuple(tapes), pennylane=tuple(pennylane))


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
    """Whether a QNode is called where the module is."""
    qml: Any = sys.modules.get("pennylane")
    if qml is None:
        return False
    called, call = [], qml.QNode.__call__

    def note(qnode: object, *args: object, **options: object) -> object:
        called.append(qnode)
        return call(qnode, *args, **options)

    qml.QNode.__call__ = note
    try:
        with torch.no_grad():
            module(example)
    finally:
        qml.QNode.__call__ = call
    return bool(called)


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


def _circuit_layer(
    layer: Any,  # noqa: ANN401 - PennyLane's layer
    taken: tuple[int, ...],
    given: tuple[int, ...],
) -> CircuitLayer:
    weights = dict(layer.qnode_weights)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    try:
        roles = roles_of(layer.qnode, weight_shapes=shapes, features_argument=layer.input_arg)
        found = read_qnode(layer.qnode, roles, taken[-1])
    except NotAffine:
        raise
    except QflsecError as error:
        raise NotAffine(error.what) from error
    drops_axis = len(given) == len(taken) - 1
    if not drops_axis and given != (*taken[:-1], len(found.circuit.observables)):
        raise NotAffine(f"it gives values of shape {given} for inputs of shape {taken}")
    return CircuitLayer(
        found.circuit,
        {key: weights[key] for key, _ in roles.weights},
        execution=Execution(noise=found.noise),
        drops_axis=drops_axis,
    )


def _qnode_layer(
    layer: Any,  # noqa: ANN401 - PennyLane's layer
    taken: tuple[int, ...],
    given: tuple[int, ...],
) -> QNodeLayer | None:
    """A layer that evaluates the QNode's records at once; None where PennyLane alone can."""
    weights = dict(layer.qnode_weights)
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    try:
        roles = roles_of(layer.qnode, weight_shapes=shapes, features_argument=layer.input_arg)
        call = qnode_call(layer.qnode, roles, taken[-1])
        found = probe(call, roles.n_weights, taken[-1])
    except QflsecError:
        return None
    drops_axis = len(given) == len(taken) - 1
    fits = drops_axis or given == (*taken[:-1], found.n_values)
    if not fits or found.mode in get_args(Whole):
        return None
    return QNodeLayer(
        call, found.mode, {key: weights[key] for key, _ in roles.weights}, drops_axis=drops_axis
    )


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the one of this name; what holds it twice gets it twice."""
    old = module.get_submodule(name)
    for parent in module.modules():
        for key, child in list(parent._modules.items()):  # noqa: SLF001 - named_children() leaves out repetitions
            if child is old:
                setattr(parent, key, layer)
