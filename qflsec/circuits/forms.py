"""Derived inputs: what an angle reads where it is not affine in one weight or one feature.

A form is a sum of products. The factors are weights, features and functions of further forms, so that
``(pi - x_0) (pi - x_1)``, ``w_3 x_0`` and ``pi tanh(x_2)`` are forms. Every form is kept in one normal order:
equal forms compare equal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any, Literal

from qflsec.circuits.errors import CircuitError

__all__ = ["FUNCTIONS", "Factor", "Form", "Function", "Read", "affine_scales", "power"]

MAX_TERMS = 256
MAX_POWER = 8

FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    "tanh": (0, math.tanh),
    "arcsin": (0, math.asin),
    "arccos": (0, math.acos),
    "arctan": (0, math.atan),
    "sin": (0, math.sin),
    "cos": (0, math.cos),
    "exp": (0, math.exp),
    "log": (0, math.log),
    "sqrt": (0, math.sqrt),
    "sigmoid": (0, lambda x: 1 / (1 + math.exp(-x))),
    "reciprocal": (0, lambda x: 1 / x),
    "abs": (0, abs),
    "power": (1, lambda x, p: float(x**p)),
    "clip": (2, lambda x, low, high: min(max(x, low), high)),
}
"""Functions of one number: how many constants each takes, and its value."""


@dataclass(frozen=True)
class Read:
    """One weight or one feature."""

    kind: Literal["weight", "feature"]
    index: int

    def __post_init__(self) -> None:
        if self.kind not in ("weight", "feature") or not _whole(self.index):
            raise CircuitError("a form reads weights and features", got=f"{self.kind!r} {self.index!r}")

    def to_config(self) -> list[Any]:
        """As JSON-able data."""
        return [self.kind, self.index]

    def reads(self) -> Iterator[Read]:
        """The inputs that the factor depends on."""
        yield self


@dataclass(frozen=True)
class Function:
    """A function of a form.

    Attributes:
        name: A key of :data:`FUNCTIONS`.
        of: What it is a function of.
        constants: Its constants: the exponent of ``power``, both ends of ``clip``.
    """

    name: str
    of: Form
    constants: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", tuple(float(constant) for constant in self.constants))
        if self.name not in FUNCTIONS or len(self.constants) != FUNCTIONS[self.name][0]:
            raise CircuitError("no such function of a form", got=(self.name, *self.constants))
        if not isinstance(self.of, Form):
            raise CircuitError(f"{self.name} of something that is no form", got=repr(self.of))

    def to_config(self) -> list[Any]:
        """As JSON-able data."""
        return [self.name, self.of.to_config(), *(repr(c) for c in self.constants)]

    def reads(self) -> Iterator[Read]:
        """The inputs that the factor depends on."""
        yield from self.of.reads()


Factor = Read | Function
Term = tuple[float, tuple[Factor, ...]]


@dataclass(frozen=True)
class Form:
    """A sum of products.

    Attributes:
        terms: Pairs of a coefficient and its factors; one without factors is a constant.
    """

    terms: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        """Put terms and factors into their order, and add up equal products."""
        table: dict[tuple[Factor, ...], float] = {}
        for coefficient, factors in self.terms:
            product = tuple(sorted(factors, key=_key)) if len(factors) > 1 else tuple(factors)
            table[product] = table.get(product, 0.0) + float(coefficient)
        if not all(math.isfinite(coefficient) for coefficient in table.values()):
            raise CircuitError("a form's coefficient is not finite", got=list(table.values()))
        if len(table) > MAX_TERMS:
            raise CircuitError("a form has too many terms", got=len(table), expected=f"at most {MAX_TERMS}")
        ordered = sorted(table.items(), key=lambda item: [_key(factor) for factor in item[0]])
        terms = tuple((value + 0.0, product) for product, value in ordered if value)
        object.__setattr__(self, "terms", terms)

    @classmethod
    def constant(cls, value: float) -> Form:
        """A number."""
        return cls(((value, ()),))

    @classmethod
    def read(cls, kind: Literal["weight", "feature"], index: int) -> Form:
        """One input."""
        return cls(((1.0, (Read(kind, index),)),))

    @property
    def offset(self) -> float:
        """The constant among the terms."""
        return self.terms[0][0] if self.terms and not self.terms[0][1] else 0.0

    @cached_property
    def kinds(self) -> frozenset[str]:
        """Which of weights and features it depends on."""
        return frozenset(read.kind for read in self.reads())

    def reads(self) -> Iterator[Read]:
        """The inputs that the form depends on."""
        for _, factors in self.terms:
            for factor in factors:
                yield from factor.reads()

    def value(self, inputs: Mapping[str, Sequence[float]]) -> float:
        """The form's value, by plain arithmetic; not a number outside a function's domain."""
        try:
            return sum(
                c * math.prod(_value(factor, inputs) for factor in factors) for c, factors in self.terms
            )
        except (ValueError, ZeroDivisionError, OverflowError):
            return math.nan

    def plus(self, other: Form, factor: float = 1.0) -> Form:
        """The sum with a multiple of another form."""
        return Form(self.terms + tuple((c * factor, product) for c, product in other.terms))

    def times(self, other: Form) -> Form:
        """The product, multiplied out."""
        if len(self.terms) * len(other.terms) > 16 * MAX_TERMS:
            raise CircuitError("a form has too many terms", expected=f"at most {MAX_TERMS}")
        return Form(tuple((a * b, left + right) for a, left in self.terms for b, right in other.terms))

    def under(self, name: str, *constants: float) -> Form:
        """A function of the form."""
        if not self.kinds:
            return Form.constant(FUNCTIONS[name][1](self.offset, *constants))
        return Form(((1.0, (Function(name, self, constants),)),))

    def renamed(self, rename: Callable[[Read], Read]) -> Form:
        """The same form of other inputs."""

        def of(factor: Factor) -> Factor:
            return (
                rename(factor) if isinstance(factor, Read) else replace(factor, of=factor.of.renamed(rename))
            )

        return Form(tuple((c, tuple(of(factor) for factor in factors)) for c, factors in self.terms))

    def to_config(self) -> list[Any]:
        """As JSON-able data; :meth:`from_config` is the inverse."""
        return [[c, [factor.to_config() for factor in factors]] for c, factors in self.terms]

    @classmethod
    def from_config(cls, config: Sequence[Any]) -> Form:
        """The form that :meth:`to_config` wrote."""
        return cls(tuple((c, tuple(_factor(item) for item in factors)) for c, factors in config))


def power(form: Form, exponent: float) -> Form:
    """A power; a small whole one is multiplied out."""
    if exponent == -1:
        return form.under("reciprocal")
    if exponent == int(exponent) and 0 < exponent <= MAX_POWER:
        return reduce(Form.times, [form] * int(exponent))
    return form.under("power", exponent)


def _factor(config: Sequence[Any]) -> Factor:
    name, of, *constants = config
    if name in ("weight", "feature"):
        return Read(name, of)
    return Function(name, Form.from_config(of), tuple(float(constant) for constant in constants))


def _value(factor: Factor, inputs: Mapping[str, Sequence[float]]) -> float:
    if isinstance(factor, Read):
        return inputs[factor.kind][factor.index]
    return FUNCTIONS[factor.name][1](factor.of.value(inputs), *factor.constants)


def _key(factor: Factor) -> tuple[int, str, int, str]:
    """Weights, then features, each by index; then functions."""
    if isinstance(factor, Read):
        return 0, factor.kind, factor.index, ""
    return 1, factor.name, 0, json.dumps(factor.to_config())


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def affine_scales(form: Form, kind: str) -> dict[int, float | None]:
    """For each input of a kind that the form reads: its coefficient, or None where the form is not affine in it."""
    scales: dict[int, float | None] = {}
    for coefficient, factors in form.terms:
        alone = len(factors) == 1 and isinstance(factors[0], Read)
        for factor in factors:
            for read in factor.reads():
                if read.kind == kind:
                    scales[read.index] = coefficient if alone and read.index not in scales else None
    return scales
