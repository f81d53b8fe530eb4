"""Vectors of one cache line (16 float32 or 8 float64) for numba, with arithmetic that stays in registers.

numba vectorises a loop only where it can prove that arrays do not overlap, which two rows of one array defeat. These
vectors are explicit: a load, a store, a broadcast, +, -, * and the opposite, so that a pass over a state is the same instructions on
every machine that has them, and a lane's result depends on its own lane alone.

Where a product and a sum are rounded once is said here (:func:`fma`, :func:`fnma`, :func:`plus`, :func:`minus`) and never
left to the compiler, which chooses anew wherever it puts a function: then two copies of one function have other last bits.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from platform import machine
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import get_or_insert_function
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

__all__ = [
    "BYTES",
    "exchanges",
    "floor",
    "fma",
    "fnma",
    "load",
    "load_pair",
    "minus",
    "narrow",
    "plus",
    "read",
    "splat",
    "store",
    "store_pair",
    "total",
    "widened",
    "write",
]

BYTES = 64
"""Of one vector: a cache line, and a register of AVX-512; two or four registers elsewhere."""
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
"""Processors that may lack a fused product and sum."""


class VectorType(types.Type):
    """A vector of floating-point numbers."""

    def __init__(self, scalar: Any) -> None:
        self.scalar, self.width = scalar, BYTES * 8 // scalar.bitwidth
        super().__init__(name=f"vector({scalar} x {self.width})")


_VECTORS = {scalar: VectorType(scalar) for scalar in (types.float32, types.float64)}


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        element = manager.lookup(kind.scalar).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.width))


def _place(context: Any, builder: Any, pointer: Any, offset: Any, kind: VectorType) -> Any:
    return builder.bitcast(builder.gep(pointer, [offset]), context.get_value_type(kind).as_pointer())


@intrinsic
def load(typing: Any, pointer: Any, offset: Any) -> Any:
    """The vector at an offset; both whole cache lines."""
    kind = _VECTORS[pointer.dtype]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        loaded = builder.load(_place(context, builder, args[0], args[1], kind))
        loaded.align = BYTES
        return loaded

    return kind(pointer, types.intp), generate


@intrinsic
def store(typing: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """Write a vector at an offset; both whole cache lines."""
    kind = _VECTORS[pointer.dtype]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        builder.store(args[2], _place(context, builder, args[0], args[1], kind), align=BYTES)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, kind), generate


@intrinsic
def read(typing: Any, pointer: Any, offset: Any) -> Any:
    """The vector at any offset."""
    kind = _VECTORS[pointer.dtype]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        found = builder.load(_place(context, builder, args[0], args[1], kind))
        found.align = kind.scalar.bitwidth // 8
        return found

    return kind(pointer, types.intp), generate


@intrinsic
def write(typing: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """Write a vector at any offset."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        place = _place(context, builder, args[0], args[1], value)
        builder.store(args[2], place, align=value.scalar.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, value), generate


@intrinsic
def widened(typing: Any, pointer: Any, offset: Any) -> Any:
    """As many numbers as a vector of float64 has, at any offset, as float64."""
    wide = _VECTORS[types.float64]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        kind = ir.VectorType(context.get_value_type(pointer.dtype), wide.width)
        found = builder.load(builder.bitcast(builder.gep(args[0], [args[1]]), kind.as_pointer()))
        found.align = pointer.dtype.bitwidth // 8
        return found if pointer.dtype == types.float64 else builder.fpext(found, context.get_value_type(wide))

    return wide(pointer, types.intp), generate


def exchanges(pattern: Sequence[tuple[int, int]]) -> Any:
    """A function ``(source, apart, rows, step)`` of one vector of each row, which puts the smaller of two first.

    Rows are read ``apart`` from each other, at any offset, and written to whole cache lines ``step`` apart. In between everything stays
    in registers, where there are as many as rows. It returns the sum of zero times each number: no number where one is not finite.

    Args:
        pattern: Pairs of rows, in the order in which they are compared.
    """
    count = 1 + max(map(max, pattern))

    @intrinsic
    def act(typing: Any, source: Any, apart: Any, rows: Any, step: Any) -> Any:
        kind = _VECTORS[rows.dtype]

        def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
            def at(k: int, pointer: Any, step: Any) -> Any:
                start = builder.mul(step, ir.Constant(ir.IntType(64), k))
                return _place(context, builder, pointer, start, kind)

            found = [builder.load(at(k, *args[:2])) for k in range(count)]
            zero = ir.Constant(context.get_value_type(kind), [0.0] * kind.width)
            spoiled = zero
            for value in found:
                value.align = kind.scalar.bitwidth // 8
                spoiled = _fused(context, builder, value, zero, spoiled)
            _exchange(builder, found, pattern)
            for k, value in enumerate(found):
                builder.store(value, at(k, *args[2:]), align=BYTES)
            return spoiled

        return kind(source, types.intp, rows, types.intp), generate

    return act


def _exchange(builder: Any, found: list[Any], pattern: Sequence[tuple[int, int]]) -> None:
    for a, b in pattern:
        less = builder.fcmp_ordered("<", found[b], found[a])
        found[a], found[b] = (
            builder.select(less, found[b], found[a]),
            builder.select(less, found[a], found[b]),
        )


@intrinsic
def load_pair(typing: Any, pointer: Any, offset: Any) -> Any:
    """The vector at an offset and the next one: the real and the imaginary parts of an amplitude."""
    kind = _VECTORS[pointer.dtype]
    both = types.UniTuple(kind, 2)  # type: ignore[attr-defined]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        place = _place(context, builder, args[0], args[1], kind)
        found = []
        for k in range(2):
            found.append(builder.load(builder.gep(place, [ir.Constant(ir.IntType(32), k)])))
            found[k].align = BYTES
        return context.make_tuple(builder, both, found)

    return both(pointer, types.intp), generate


@intrinsic
def store_pair(typing: Any, pointer: Any, offset: Any, first: Any, second: Any) -> Any:
    """Write two vectors, the first at an offset and the other one behind it."""
    kind = _VECTORS[pointer.dtype]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        place = _place(context, builder, args[0], args[1], kind)
        for k in range(2):
            builder.store(args[2 + k], builder.gep(place, [ir.Constant(ir.IntType(32), k)]), align=BYTES)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, kind, kind), generate


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """A vector of equal numbers."""
    kind = _VECTORS[value]

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        vector = context.get_value_type(kind)
        first = builder.insert_element(
            ir.Constant(vector, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0)
        )
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.width), [0] * kind.width)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)

    return kind(value), generate


@intrinsic
def floor(typing: Any, value: Any) -> Any:
    """The largest whole numbers that are not above a vector's."""
    if not isinstance(value, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        kind = context.get_value_type(value)
        name = f"llvm.floor.v{value.width}f{value.scalar.bitwidth}"
        return builder.call(get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name), args)

    return value(value), generate


@intrinsic
def narrow(typing: Any, pointer: Any, offset: Any, value: Any) -> Any:
    """Write a vector of float64 as the pointer's numbers, at any offset."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        kind = ir.VectorType(context.get_value_type(pointer.dtype), value.width)
        numbers = args[2] if pointer.dtype == types.float64 else builder.fptrunc(args[2], kind)
        place = builder.bitcast(builder.gep(args[0], [args[1]]), kind.as_pointer())
        builder.store(numbers, place, align=pointer.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, types.intp, value), generate


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """The sum of a vector's numbers, by halves."""
    if not isinstance(value, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        part, width = args[0], value.width
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    part, part, ir.Constant(ir.VectorType(ir.IntType(32), width), list(lanes))
                )
                for lanes in (range(width), range(width, 2 * width))
            ]
            part = builder.fadd(*halves)
        return builder.extract_element(part, ir.Constant(ir.IntType(32), 0))

    return value.scalar(value), generate


@intrinsic
def plus(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The sum a b + c d, where c d is rounded first."""
    if not isinstance(a, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        a, b, c, d = args
        return _fused(context, builder, a, b, builder.fmul(c, d))

    return a(a, a, a, a), generate


@intrinsic
def minus(typing: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """The difference a b - c d, where c d is rounded first."""
    if not isinstance(a, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        a, b, c, d = args
        return _fused(context, builder, a, b, builder.fneg(builder.fmul(c, d)))

    return a(a, a, a, a), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c, rounded once where the processor can."""
    if not isinstance(a, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return _fused(context, builder, *args)

    return a(a, a, a), generate


@intrinsic
def fnma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """The difference c - a b, rounded once where the processor can."""
    if not isinstance(a, VectorType):
        return None

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        a, b, c = args
        return _fused(context, builder, builder.fneg(a), b, c)

    return a(a, a, a), generate


def _fused(context: Any, builder: Any, a: Any, b: Any, c: Any) -> Any:
    """By one instruction; by two where the processor has none, as a function of a library would take many times as long."""
    features = context.codegen().magic_tuple()[-1]
    if machine().lower() in _X86 and "+fma" not in features.split(","):
        return builder.fadd(builder.fmul(a, b), c)
    kind = a.type
    name = f"llvm.fma.v{kind.count}f{32 if kind.element == ir.FloatType() else 64}"
    kind_of_fma = ir.FunctionType(kind, [kind] * 3)
    return builder.call(get_or_insert_function(builder.module, kind_of_fma, name), [a, b, c])


def _arithmetic(function: Any, instruction: str) -> None:
    @infer_global(function)
    class _Typing(ConcreteTemplate):
        cases = [signature(kind, kind, kind) for kind in _VECTORS.values()]  # noqa: RUF012

    @lower_builtin(function, VectorType, VectorType)
    def _lower(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


@infer_global(operator.neg)
class _Negation(ConcreteTemplate):
    cases = [signature(kind, kind) for kind in _VECTORS.values()]  # noqa: RUF012


@lower_builtin(operator.neg, VectorType)
def _negate(context: Any, builder: Any, _: Any, args: Any) -> Any:
    return builder.fneg(args[0])


for _function, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_function, _instruction)
