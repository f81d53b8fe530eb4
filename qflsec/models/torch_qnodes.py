"""QNodes that a torch module's ``forward`` calls: evaluated by the kernel while the module runs.

The module is called once, and each call of a QNode noted. The argument that depends on the records is the QNode's
features, the other tensors are its weights: that is told by autograd, not by names. Where the same QNode is called
again with arguments of these shapes, while :func:`~qflsec.models.torch_values.running` says how, its values are
computed here and returned as PennyLane returns them. At any other time the QNode is what it was.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qflsec.circuits import NotAffine
from qflsec.circuits.roles import Roles
from qflsec.models.torch_values import Values, check_exact, evaluated, is_running, values_of

__all__ = ["Call", "Outcome", "called", "route"]

_ROUTES = "_qflsec_routes"
_FIXED = (bool, int, float, str, type(None))


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a QNode.

    Attributes:
        qnode: The QNode.
        arguments: Its arguments by name; of a tensor an empty one of its shape.
        dependent: The arguments that depend on the records.
        result: What it gave, tensors likewise.
    """

    qnode: Any
    arguments: Mapping[str, Any]
    dependent: tuple[str, ...]
    result: Any


def called(module: nn.Module, example: Tensor, others: Sequence[Any] = ()) -> list[Call]:
    """The calls of PennyLane's QNodes while a module is called.

    Args:
        module: The module.
        example: A batch of records, as the module takes them.
        others: QNodes whose calls are left out.
    """
    found: list[Call] = []
    qml: Any = sys.modules.get("pennylane")
    if qml is None:
        return found
    call, records = qml.QNode.__call__, example.clone().requires_grad_()

    def note(qnode: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - PennyLane's interface
        result = call(qnode, *args, **options)
        if not any(qnode is other for other in others):
            arguments = _arguments(qnode, args, options)
            dependent = tuple(name for name, value in arguments.items() if _depends(value, records))
            found.append(
                Call(qnode, {n: _empty(v) for n, v in arguments.items()}, dependent, _emptied(result))
            )
        return result

    qml.QNode.__call__ = note
    try:
        with torch.enable_grad():
            module(records)
    finally:
        qml.QNode.__call__ = call
    return found


def _depends(value: Any, records: Tensor) -> bool:  # noqa: ANN401 - an argument
    while isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value):  # noqa: SLF001
        value = torch._C._functorch.get_unwrapped(value)  # noqa: SLF001 - autograd tells of plain tensors alone
    if not isinstance(value, Tensor) or not value.requires_grad:
        return False
    (slope,) = torch.autograd.grad(value.sum(), records, allow_unused=True, retain_graph=True)
    return slope is not None


def _emptied(result: Any) -> Any:  # noqa: ANN401 - what QNodes return
    return type(result)(map(_empty, result)) if isinstance(result, (list, tuple)) else _empty(result)


def _empty(value: Any) -> Any:  # noqa: ANN401 - an argument or a value
    """A tensor of the same shape that holds nothing, and outlives ``torch.func.vmap``."""
    return torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Tensor) else value


def _arguments(qnode: Any, args: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    return dict(inspect.signature(qnode.func).bind(*args, **options).arguments)


@dataclass(frozen=True, kw_only=True)
class _Route:
    """What answers calls of a QNode whose arguments are like those of one call.

    Attributes:
        reason: Why it is no circuit; None where it is one.
        values: Its values.
        roles: Which argument takes the features, and which the weights.
        features: The features' axes: those of records, and their number.
        fixed: Arguments that are no tensors.
        widths: The values of each measurement; None for a single one without an axis.
        kind: What holds the measurements: a list or a tuple; None for one tensor.
        dtype: The precision in which PennyLane gives them.
    """

    reason: str | None
    values: Values
    roles: Roles
    features: tuple[int, int]
    fixed: Mapping[str, Any]
    widths: tuple[int | None, ...]
    kind: Callable[[list[Tensor]], Any] | None
    dtype: torch.dtype

    def fits(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call's arguments are like those."""
        features = arguments.get(self.roles.features)
        return (
            isinstance(features, Tensor)
            and (features.dim() - 1, features.shape[-1]) == self.features
            and {name: value for name, value in arguments.items() if not isinstance(value, Tensor)}
            == self.fixed
            and len(arguments) == 1 + len(self.roles.weights) + len(self.fixed)
            and all(arguments[name].shape == shape for name, shape in self.roles.weights)
        )

    def __call__(self, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the QNode returns
        """What the QNode returns."""
        weights = torch.cat([arguments[name].reshape(-1) for name, _ in self.roles.weights])
        found = evaluated(self.values, weights, arguments[self.roles.features].to(weights.dtype))
        found = found.to(torch.promote_types(self.dtype, found.dtype))
        parts = torch.split(found, [width or 1 for width in self.widths], dim=-1)
        own = [
            part.squeeze(-1) if width is None else part
            for part, width in zip(parts, self.widths, strict=True)
        ]
        return own[0] if self.kind is None else self.kind(own)


class Outcome(NamedTuple):
    """What became of a QNode.

    Attributes:
        name: Its function's name.
        reason: Why it is no circuit; None where it is one.
        stays: Whether it stays with PennyLane.
    """

    name: str
    reason: str | None
    stays: bool


def route(calls: Sequence[Call]) -> list[Outcome]:
    """Let QNodes that a module calls be evaluated here, where calls are like those that were noted."""
    outcomes: dict[int, Outcome] = {}
    routes: dict[int, list[_Route]] = {}
    for call in calls:
        place, name = id(call.qnode), call.qnode.func.__name__
        known = routes.setdefault(
            place, getattr(call.qnode, _ROUTES, [])
        )  # another module may have called it
        one = next((one for one in known if one.fits(call.arguments)), None)
        if place in outcomes and (one is not None or outcomes[place].stays):
            continue
        try:
            if one is None:
                one = _route(call)
                known.append(one)
            outcomes.setdefault(place, Outcome(name, one.reason, stays=False))
        except NotAffine as error:
            outcomes[place] = Outcome(name, error.what, stays=True)
    for call in calls:
        if not outcomes[id(call.qnode)].stays:
            call.qnode.__class__ = _routed()
            setattr(call.qnode, _ROUTES, routes[id(call.qnode)])
    return list(outcomes.values())


@functools.cache
def _routed() -> type:
    """PennyLane's QNode, whose calls are answered here while a module runs."""
    import pennylane as qml

    class RoutedQNode(qml.QNode):  # type: ignore[misc]
        """A QNode that a module calls."""

        def __call__(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - PennyLane's interface
            if is_running():
                arguments = _arguments(self, args, options)
                for route in getattr(self, _ROUTES):
                    if route.fits(arguments):
                        return route(arguments)
                check_exact(self.func.__name__)
            return super().__call__(*args, **options)

    return RoutedQNode


def _route(call: Call) -> _Route:
    """What answers calls like this one.

    Raises:
        NotAffine: PennyLane alone can answer it.
    """
    qnode, tensors = call.qnode, {n: v for n, v in call.arguments.items() if isinstance(v, Tensor)}
    fixed = {name: value for name, value in call.arguments.items() if name not in tensors}
    if any(not isinstance(value, _FIXED) for value in fixed.values()):
        raise NotAffine("an argument is neither a tensor nor a number", got=", ".join(fixed))
    dependent = call.dependent
    if len(dependent) != 1 or len(tensors) == 1:
        raise NotAffine(
            "it is called otherwise than with one tensor that depends on the records, and weights",
            got=", ".join(dependent) or "none that depends on them",
        )
    features = tensors[dependent[0]]
    if features.dim() not in (1, 2):
        raise NotAffine("its features are no vectors", got=f"shape {tuple(features.shape)}")
    if qnode.shots.total_shots is not None:
        raise NotAffine("it has shots of its own", got=qnode.shots.total_shots)
    weights = tuple((name, tuple(value.shape)) for name, value in tensors.items() if name != dependent[0])
    roles = Roles(features=dependent[0], weights=weights)
    twin = copy.copy(qnode)
    twin.func = functools.partial(qnode.func, **fixed) if fixed else qnode.func
    found = values_of(twin, roles, features.shape[-1])
    several = isinstance(call.result, (list, tuple))
    parts = list(call.result) if several else [call.result]
    lead = features.shape[:-1]
    if not all(isinstance(part, Tensor) and part.shape[: len(lead)] == lead for part in parts):
        raise NotAffine("it gives no value for each record", got=parts)
    widths = tuple(part.shape[-1] if part.dim() > len(lead) else None for part in parts)
    if sum(1 if width is None else width for width in widths) != found.n_values:
        raise NotAffine(
            "its values have other shapes than a circuit's", got=[tuple(part.shape) for part in parts]
        )
    return _Route(
        reason=found.reason,
        values=found.values,
        roles=roles,
        features=(len(lead), features.shape[-1]),
        fixed=fixed,
        widths=widths,
        kind=type(call.result) if several else None,
        dtype=parts[0].dtype,
    )
