"""Traces a torch function of features and weights into forms, number by number.

``make_fx`` records what a function does as a graph of elementary operations. Here the graph is run on forms in
place of numbers: operations that move entries are run on the entries' numbers in a table, elementary functions on
the forms. What is not known becomes :class:`Unknown`, with the operation that made it so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor

from qflsec.circuits.errors import CircuitError
from qflsec.circuits.forms import Form, power

__all__ = ["Traced", "Unknown", "trace_forms"]


@dataclass(frozen=True)
class Unknown:
    """A number that is no form, and why."""

    why: str


Entry = Form | Unknown
_MOVES = frozenset(
    [
        "select",
        "slice",
        "view",
        "reshape",
        "_unsafe_view",
        "_reshape_alias",
        "unsqueeze",
        "squeeze",
        "permute",
        "transpose",
        "t",
        "expand",
        "expand_as",
        "clone",
        "alias",
        "detach",
        "contiguous",
        "lift_fresh",
        "lift_fresh_copy",
        "cat",
        "stack",
        "unbind",
        "split",
        "split_with_sizes",
        "chunk",
        "index",
        "index_select",
        "select_scatter",
        "slice_scatter",
        "copy",
        "flip",
        "roll",
        "repeat",
        "repeat_interleave",
        "gather",
        "narrow",
        "diagonal",
        "unfold",
        "flatten",
        "unflatten",
    ]
)
_MADE = frozenset(
    [
        "zeros",
        "ones",
        "full",
        "empty",
        "arange",
        "linspace",
        "eye",
        "zeros_like",
        "ones_like",
        "full_like",
        "new_zeros",
        "new_ones",
        "new_full",
    ]
)
_DROPPED = {"memory_format", "dtype", "layout", "device", "pin_memory", "non_blocking", "copy"}
_FUNCTIONS = {
    "tanh": "tanh",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "sin": "sin",
    "cos": "cos",
    "exp": "exp",
    "log": "log",
    "sqrt": "sqrt",
    "sigmoid": "sigmoid",
    "abs": "abs",
}


@dataclass(frozen=True)
class Traced:
    """A traced function.

    Attributes:
        entries: What it gives.
        graph: The function as a graph of elementary operations, for single features and weights.
    """

    entries: list[Entry]
    graph: torch.fx.GraphModule

    def unknown(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The numbers that are no forms, as a function of single features and weights: ``(F,)``, ``(P,)`` -> ``(G,)``."""
        graph = torch.fx.Graph()
        kept: dict[torch.fx.Node, torch.fx.Node] = {}
        found: Any = graph.graph_copy(self.graph.graph, kept)
        graph.output(
            [one for one, entry in zip(found, self.entries, strict=True) if isinstance(entry, Unknown)]
        )
        graph.eliminate_dead_code()
        only = torch.fx.GraphModule(self.graph, graph)
        return lambda features, weights: torch.stack([value.reshape(()) for value in only(features, weights)])


def trace_forms(
    function: Callable[[Tensor, Tensor], Sequence[Tensor]], features: Tensor, weights: Tensor
) -> Traced:
    """The numbers that a function of features and weights gives, as forms.

    The function is run once. What it does beside torch, and where it branches on a value, the forms do not tell:
    they hold for these inputs only, until they are checked at others.

    Shapes:
        features ``(F,)``, weights ``(P,)``; the function gives tensors of one entry each.

    Raises:
        CircuitError: The function cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pure = torch.func.functionalize(function)  # what is written in place becomes new values
            made = make_fx(pure, _error_on_data_dependent_ops=False)(features, weights)
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise CircuitError(
                "the QNode's angles cannot be traced", got=f"{type(error).__name__}: {error}"
            ) from error
    machine = _Machine()
    values: dict[torch.fx.Node, Any] = {}
    kinds: list[Literal["feature", "weight"]] = ["feature", "weight"]
    inputs = iter(zip(kinds, (features, weights), strict=True))
    for node in made.graph.nodes:
        if node.op == "placeholder":
            kind, tensor = next(inputs)
            values[node] = machine.ids([Form.read(kind, k) for k in range(tensor.numel())])
        elif node.op == "get_attr":
            values[node] = machine.constants(getattr(made, str(node.target)))
        elif node.op == "call_function":
            values[node] = machine.call(node, values)
        else:
            (found,) = node.args
            entries = [machine.entry(values[one] if isinstance(one, torch.fx.Node) else one) for one in found]
            return Traced(entries, made)
    raise AssertionError("a graph without an output")


class _Machine:
    """Runs a graph's operations on tensors of numbers into a table of forms."""

    def __init__(self) -> None:
        self._table: list[Entry] = []
        self._rules: dict[str, Callable[..., Tensor]] = {
            "add": lambda a, b, alpha=1: self._linear(a, b, 1.0, alpha),
            "sub": lambda a, b, alpha=1: self._linear(a, b, 1.0, -alpha),
            "rsub": lambda a, b, alpha=1: self._linear(b, a, 1.0, -alpha),
            "mul": lambda a, b: self._each(_times, a, b),
            "div": lambda a, b: self._each(_over, a, b),
            "neg": lambda a: self._each(lambda x: _times(x, Form.constant(-1.0)), a),
            "square": lambda a: self._each(lambda x: _times(x, x), a),
            "reciprocal": lambda a: self._each(lambda x: _over(Form.constant(1.0), x), a),
            "pow": lambda a, p: self._each(_power, a, p),
            "log1p": lambda a: self._each(lambda x: x.plus(Form.constant(1.0)).under("log"), a),
            "relu": lambda a: self._clamp(a, 0.0, None),
            "clamp_min": lambda a, low: self._clamp(a, low, None),
            "clamp_max": lambda a, high: self._clamp(a, None, high),
            "maximum": lambda a, b: self._each(lambda x, y: _limited(x, y, below=True), a, b),
            "minimum": lambda a, b: self._each(lambda x, y: _limited(x, y, below=False), a, b),
            "linalg_vector_norm": self._norm,
            "_softmax": self._softmax,
            "clamp": lambda a, low=None, high=None: self._clamp(a, low, high),
            "sum": self._sum,
            "mean": self._mean,
            "dot": lambda a, b: self._sum(self._each(_times, a, b)),
            "mv": lambda a, b: self._sum(self._each(_times, a, b[None, :]), [1]),
            "mm": lambda a, b: self._sum(self._each(_times, a[:, :, None], b[None]), [1]),
        }
        for theirs, ours in _FUNCTIONS.items():
            self._rules[theirs] = lambda a, ours=ours: self._each(lambda x: _under(x, ours), a)

    def ids(self, entries: Sequence[Entry]) -> Tensor:
        """New numbers for entries."""
        first = len(self._table)
        self._table += entries
        return torch.arange(first, len(self._table))

    def constants(self, tensor: Tensor) -> Tensor:
        """New numbers for a tensor's values."""
        if tensor.is_complex():
            return self.ids([Unknown("complex numbers")] * tensor.numel()).reshape(tensor.shape)
        flat = tensor.detach().reshape(-1).double().tolist()
        return self.ids([Form.constant(value) for value in flat]).reshape(tensor.shape)

    def entry(self, value: Any) -> Entry:  # noqa: ANN401 - a tensor of numbers, or a constant
        """The form of one entry."""
        ids = self._lifted(value)
        return self._table[int(ids.reshape(()))]

    def call(self, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> Any:  # noqa: ANN401 - tensors, or tuples
        """The result of one operation."""
        target: Any = node.target
        if target.__name__ == "getitem":
            source, place = node.args
            parts = values[source]  # type: ignore[index]
            return _shaped(parts, node, self) if isinstance(parts, Unknown) else parts[place]
        name = target.overloadpacket.__name__
        args = torch.fx.node.map_arg(node.args, lambda one: values[one])
        options = {k: v for k, v in node.kwargs.items() if k not in _DROPPED}
        if name in _MADE:
            return self.constants(
                target(*(a.double() if isinstance(a, Tensor) else a for a in args), **node.kwargs)
            )
        try:
            if name in _MOVES:
                return getattr(torch.ops.aten, name)(*args, **options)
            if name == "_to_copy":
                return args[0]
            if name in self._rules:
                return self._rules[name](*args, **options)
        except (CircuitError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            name = f"{name} ({error})"
        return _shaped(Unknown(f"the operation {name}"), node, self)

    def _lifted(self, value: Any) -> Tensor:  # noqa: ANN401 - a tensor of numbers, or a constant
        return value if isinstance(value, Tensor) else self.ids([Form.constant(float(value))]).reshape(())

    def _each(self, rule: Callable[..., Entry], *operands: Any) -> Tensor:  # noqa: ANN401 - tensors and constants
        lifted = torch.broadcast_tensors(*(self._lifted(operand) for operand in operands))  # type: ignore[no-untyped-call]
        rows = zip(*(one.reshape(-1).tolist() for one in lifted), strict=True)
        return self.ids([_applied(rule, [self._table[k] for k in row]) for row in rows]).reshape(
            lifted[0].shape
        )

    def _linear(self, a: Any, b: Any, first: float, second: float) -> Tensor:  # noqa: ANN401 - tensors and constants
        return self._each(lambda x, y: _times(x, Form.constant(first)).plus(y, second), a, b)

    def _clamp(self, a: Tensor, low: float | None, high: float | None) -> Tensor:
        ends = (float("-inf") if low is None else low), (float("inf") if high is None else high)
        return self._each(lambda x: x.under("clip", *ends), a)

    def _norm(self, a: Tensor, order: float = 2, dims: Any = None, keepdim: bool = False) -> Tensor:  # noqa: ANN401 - torch's own signature
        if order != 2:
            raise CircuitError("a norm of another order than 2", got=order)
        squares = self._each(lambda x: _times(x, x), a)
        return self._each(lambda x: _under(x, "sqrt"), self._sum(squares, dims, keepdim))

    def _softmax(self, a: Tensor, dim: int, half: bool = False) -> Tensor:
        powers = self._each(lambda x: _under(x, "exp"), a)
        return self._each(_over, powers, self._sum(powers, [dim], keepdim=True))

    def _sum(self, a: Tensor, dims: Sequence[int] | int | None = None, keepdim: bool = False) -> Tensor:
        axes = [dims] if isinstance(dims, int) else list(dims or range(a.dim()))
        kept = [axis for axis in range(a.dim()) if axis not in {axis % a.dim() for axis in axes}]
        moved = a.permute(*kept, *(axis % a.dim() for axis in axes)) if a.dim() else a
        shape = [a.shape[axis] for axis in kept]
        rows = moved.reshape(-1, max(1, a.numel()) // max(1, int(torch.Size(shape).numel()))).tolist()
        nothing: Entry = Form()
        entries = [
            reduce(lambda x, k: _applied(Form.plus, [x, self._table[k]]), row, nothing) for row in rows
        ]
        out = self.ids(entries).reshape(shape)
        for axis in sorted(axis % a.dim() for axis in axes) if keepdim else ():
            out = out.unsqueeze(axis)
        return out

    def _mean(self, a: Tensor, dims: Sequence[int] | int | None = None, keepdim: bool = False) -> Tensor:
        total = self._sum(a, dims, keepdim)
        return self._each(_times, total, total.numel() / a.numel())


def _shaped(unknown: Unknown, node: torch.fx.Node, machine: _Machine) -> Tensor | Unknown:
    """An operation's unknown entries; one value for an operation that gives several tensors."""
    like = node.meta.get("val")
    if not isinstance(like, Tensor):
        return unknown
    return machine.ids([unknown] * like.numel()).reshape(like.shape)


def _applied(rule: Callable[..., Entry], operands: Sequence[Entry]) -> Entry:
    for operand in operands:
        if isinstance(operand, Unknown):
            return operand
    return rule(*operands)


def _times(x: Form, y: Form) -> Form:
    return x.times(y)


def _over(x: Form, y: Form) -> Form:
    return x.times(y.under("reciprocal"))


def _under(x: Form, name: str) -> Form:
    return x.under(name)


def _limited(x: Form, y: Form, *, below: bool) -> Form:
    """The larger of two numbers, or the smaller, where one of them is a constant."""
    limited, limit = (x, y) if x.kinds else (y, x)
    if limit.kinds:
        raise CircuitError("which of two inputs is larger")
    return limited.under("clip", *((limit.offset, math.inf) if below else (-math.inf, limit.offset)))


def _power(x: Form, p: Form) -> Form:
    if p.kinds:
        raise CircuitError("a power whose exponent is an input")
    return power(x, p.offset)
