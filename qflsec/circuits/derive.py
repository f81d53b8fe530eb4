"""Derived inputs as tensors: what a circuit's forms give, and the circuit that reads their values.

A circuit with forms is run as a circuit without: forms of weights alone become further weights, all others
further features. They are computed once for each call, by ordinary differentiable tensor operations, so that
every executor and its gradients hold for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from qflsec.base.errors import ConfigError
from qflsec.circuits.circuit import Angle, AngleKind, Circuit
from qflsec.circuits.errors import CircuitError
from qflsec.circuits.forms import Factor, Form, Function, Read

__all__ = ["angle_of", "apply_function", "derive", "refuse_derived", "resolve"]

_TORCH: dict[str, Callable[..., Tensor]] = {
    "tanh": torch.tanh,
    "arcsin": torch.asin,
    "arccos": torch.acos,
    "arctan": torch.atan,
    "sin": torch.sin,
    "cos": torch.cos,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sigmoid": torch.sigmoid,
    "reciprocal": torch.reciprocal,
    "abs": torch.abs,
    "power": torch.pow,
    "clip": torch.clamp,
}


def angle_of(form: Form, derived: dict[Form, int]) -> Angle:
    """The angle of a form; one that is not affine in a single input becomes a derived input, numbered in ``derived``."""
    terms = [term for term in form.terms if term[1]]
    if not terms:
        return Angle.constant(form.offset)
    scale, factors = terms[0]
    if len(terms) == 1 and len(factors) == 1 and isinstance(factors[0], Read):
        return Angle(factors[0].kind, factors[0].index, scale, form.offset)
    rest = Form(tuple((coefficient / scale, product) for coefficient, product in terms))
    return Angle.derived(derived.setdefault(rest, len(derived)), scale=scale, offset=form.offset)


@lru_cache(maxsize=256)
def resolve(circuit: Circuit) -> Circuit:
    """The circuit of the inputs that :func:`derive` gives; itself where it has no forms."""
    if not circuit.derived:
        return circuit
    places: dict[int, Angle] = {}
    counts = {"weight": circuit.n_weights, "feature": circuit.n_features}
    for group in _groups(circuit):
        kind: AngleKind = "weight" if group.kinds == {"weight"} else "feature"
        for position in group.positions:
            places[position] = Angle(kind, counts[kind])
            counts[kind] += 1

    def resolved(angle: Angle) -> Angle:
        if angle.kind != "derived":
            return angle
        return replace(places[angle.index], scale=angle.scale, offset=angle.offset)

    return Circuit(
        n_qubits=circuit.n_qubits,
        gates=tuple(replace(gate, angles=tuple(map(resolved, gate.angles))) for gate in circuit.gates),
        observables=circuit.observables,
        n_weights=counts["weight"],
        n_features=counts["feature"],
    )


def derive(circuit: Circuit, weights: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and features with the values of the circuit's forms behind them, as :func:`resolve` counts them.

    Shapes:
        weights ``(..., P)``, features ``(..., F)`` -> ``(..., P')``, ``(..., F')``; where a form reads both,
        the features get all leading axes.
    """
    source = {"weight": weights, "feature": features}
    new: dict[str, list[Tensor]] = {"weight": [weights], "feature": [features]}
    for group in _groups(circuit):
        if len(group.kinds) == 2:
            lead = torch.broadcast_shapes(weights.shape[:-1], features.shape[:-1])  # type: ignore[no-untyped-call]
            parts = [tensor.expand(*lead, tensor.shape[-1]) for tensor in (weights, features)]
            new["feature"] = [tensor.expand(*lead, tensor.shape[-1]) for tensor in new["feature"]]
            new["feature"].append(group.values(torch.cat(parts, dim=-1)))
        else:
            (kind,) = group.kinds
            new[kind].append(group.values(source[kind]))
    return torch.cat(new["weight"], dim=-1), torch.cat(new["feature"], dim=-1)


def refuse_derived(
    circuit: Circuit,
    who: str,
    *,
    kinds: Sequence[str] = ("weight", "feature"),
    error: type[ConfigError] = CircuitError,
) -> None:
    """Refuse a circuit with forms of these inputs, for one who needs angles that are affine in one input.

    Raises:
        CircuitError: It has one; or the error that is given.
    """
    if any(not form.kinds.isdisjoint(kinds) for form in circuit.derived):
        raise error(
            f"{who} needs angles that are affine in one weight or one feature",
            got="a sum, a product or a function of inputs in an angle",
            fix="compute it outside the circuit and give its value as a feature",
        )


def apply_function(name: str, constants: tuple[float, ...], value: Tensor) -> Tensor:
    """A function of :data:`~qflsec.circuits.forms.FUNCTIONS` on a tensor."""
    return _TORCH[name](value, *constants)


class _Group:
    """The forms that read the same kinds of inputs, evaluated together.

    Columns are the constant 1, the inputs, and the functions of forms, inner ones first.

    Attributes:
        kinds: Of what the forms are.
        positions: Their positions among the circuit's forms.
    """

    def __init__(self, circuit: Circuit, kinds: frozenset[str]) -> None:
        self.kinds = kinds
        self.positions = [k for k, form in enumerate(circuit.derived) if form.kinds == kinds]
        sizes = {"weight": circuit.n_weights, "feature": circuit.n_features}
        reads = [Read(kind, i) for kind in ("weight", "feature") if kind in kinds for i in range(sizes[kind])]
        self._columns: dict[Factor, int] = {read: 1 + k for k, read in enumerate(reads)}
        self._levels: list[list[tuple[str, tuple[float, ...], Any]]] = []
        forms = [circuit.derived[k] for k in self.positions]
        levels: dict[Function, int] = {}
        for form in forms:
            _depths(form, levels)
        for level in range(1, 1 + max(levels.values(), default=0)):
            self._add_level([function for function, depth in levels.items() if depth == level])
        self._final = self._table(forms)

    def _add_level(self, functions: Sequence[Function]) -> None:
        kinds = dict.fromkeys((function.name, function.constants) for function in functions)
        steps = []
        for name, constants in kinds:
            own = [f for f in functions if (f.name, f.constants) == (name, constants)]
            steps.append((name, constants, self._table([f.of for f in own])))
        for name, constants in kinds:
            for function in functions:
                if (function.name, function.constants) == (name, constants):
                    self._columns[function] = 1 + len(self._columns)
        self._levels.append(steps)

    def _table(self, forms: Sequence[Form]) -> tuple[list[list[list[int]]], list[list[float]]]:
        """Columns ``[term][factor][form]``, padded with the constant 1, and coefficients ``[term][form]``."""
        terms = max(len(form.terms) for form in forms)
        width = max((len(factors) for form in forms for _, factors in form.terms), default=0)
        index = [[[0] * len(forms) for _ in range(width)] for _ in range(terms)]
        scale = [[0.0] * len(forms) for _ in range(terms)]
        for place, form in enumerate(forms):
            for t, (coefficient, factors) in enumerate(form.terms):
                scale[t][place] = coefficient
                for f, factor in enumerate(factors):
                    index[t][f][place] = self._columns[factor]
        return index, scale

    def values(self, inputs: Tensor) -> Tensor:
        """The forms' values: ``(..., inputs)`` -> ``(..., forms)``."""
        columns = torch.cat([torch.ones_like(inputs[..., :1]), inputs], dim=-1)
        for level in self._levels:
            found = [
                apply_function(name, constants, _sums(columns, table)) for name, constants, table in level
            ]
            columns = torch.cat([columns, *found], dim=-1)
        return _sums(columns, self._final)


def _sums(columns: Tensor, table: tuple[list[list[list[int]]], list[list[float]]]) -> Tensor:
    """Sums of products, one elementwise operation after the other: a matrix product would round by the batch."""
    total: Tensor | None = None
    for factors, scale in zip(*table, strict=True):
        product = columns.new_tensor(scale)
        for places in factors:
            index = torch.tensor(places, device=columns.device)
            product = product * columns.index_select(-1, index)
        total = product if total is None else total + product
    assert total is not None
    return total.expand(*columns.shape[:-1], -1)


def _depths(form: Form, levels: dict[Function, int]) -> int:
    """Note how deeply each function of a form is nested; the form's own depth."""
    deepest = 0
    for _, factors in form.terms:
        for factor in factors:
            if isinstance(factor, Function):
                levels[factor] = 1 + _depths(factor.of, levels)
                deepest = max(deepest, levels[factor])
    return deepest


@lru_cache(maxsize=256)
def _groups(circuit: Circuit) -> tuple[_Group, ...]:
    """Forms of weights, of features, and of both, in this order."""
    kinds = dict.fromkeys(form.kinds for form in circuit.derived)
    return tuple(
        _Group(circuit, own) for own in sorted(kinds, key=lambda own: (len(own), min(own) == "feature"))
    )
