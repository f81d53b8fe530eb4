"""Pointers for numba, and what is said to its compiler."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

__all__ = ["ahead", "double_at", "like_at", "once", "plain", "pointer", "small", "whole_at"]


@intrinsic
def pointer(typing: Any, array: Any) -> Any:
    """Where a contiguous array's numbers begin. It is not counted as a reference, so the caller keeps the array."""
    if array.layout != "C":
        raise TypingError(f"a pointer needs a C-contiguous array, got {array}")

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return context.make_array(array)(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), generate  # type: ignore[attr-defined]


@intrinsic
def ahead(typing: Any, pointer: Any, count: Any) -> Any:
    """A pointer so many numbers ahead."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), generate


def _addressed(kind: Any) -> Any:
    """A typing of ``(address) -> pointer``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(kind)(types.int64), generate  # type: ignore[attr-defined]


@intrinsic
def whole_at(typing: Any, address: Any) -> Any:
    """The whole numbers at an address. Whoever gives it keeps the array."""
    return _addressed(types.int64)


@intrinsic
def double_at(typing: Any, address: Any) -> Any:
    """The numbers of float64 at an address. Whoever gives it keeps the array."""
    return _addressed(types.float64)


@intrinsic
def like_at(typing: Any, array: Any, address: Any) -> Any:
    """The numbers at an address, of an array's dtype. Whoever gives it keeps the array."""
    made, generate = _addressed(array.dtype)

    def second(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return generate(context, builder, signature, args[1:])

    return made.return_type(array, types.int64), second


@intrinsic
def plain(typing: Any, value: Any) -> Any:
    """A constant as a number like any other: numba compiles a function anew for each constant that it is called with."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], signature.args[0], signature.return_type)

    return types.unliteral(value)(value), generate  # type: ignore[attr-defined]


def _marked(*attributes: str) -> Any:
    """A typing of ``()`` that marks the function in which it stands."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        for attribute in attributes:
            builder.function.attributes.add(attribute)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def small(typing: Any) -> Any:
    """Said in a function, keeps its code short: what stands around the passes gains nothing by loops unrolled."""
    return _marked("optsize")


@intrinsic
def once(typing: Any) -> Any:
    """Said in a function, keeps its code short and in one place.

    What is put into each place that calls it is optimised anew there, which is most of what compiling costs.
    """
    return _marked("optsize", "noinline")
