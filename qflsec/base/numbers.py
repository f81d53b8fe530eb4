"""Numbers of configurations: infinity and NaN are none, and a whole number has no fraction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import wraps
from numbers import Integral, Real
from typing import Any, TypeVar

from qflsec.base.errors import ConfigError

__all__ = ["finite"]

_T = TypeVar("_T", bound=type[Any])
_WHOLE = {"int", "int | None"}


def finite(kind: _T) -> _T:
    """Let a dataclass refuse what is no number, before anything is computed from it.

    Comparisons do not: NaN passes every ``if value < low`` and infinity every lower bound, and both go on silently
    into rates, budgets and lengths. Whatever :func:`~qflsec.base.register` registers is checked so; other
    configurations are decorated by hand::

        @finite
        @dataclass(frozen=True, kw_only=True)
        class Settings: ...
    """
    fields = [field for field in dataclasses.fields(kind) if field.init]
    names = [field.name for field in fields]
    whole = {field.name for field in fields if field.type in {int, *_WHOLE}}
    make = kind.__init__

    @wraps(make)
    def checked(self: object, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the dataclass made it
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            _check(name, value, whole=name in whole)
        make(self, *args, **kwargs)

    kind.__init__ = checked
    return kind


def _check(name: str, value: object, *, whole: bool) -> None:
    for number in _numbers(value):
        try:
            known = math.isfinite(number)
        except OverflowError:
            # it would go on into rates and lengths until one of them is computed in floating point
            raise ConfigError(
                f"{name!r} is out of range", got="an integer above all floating-point numbers"
            ) from None
        if not known:
            raise ConfigError(f"{name!r} is no number", got=number, expected="a finite one")
        if whole and not isinstance(number, Integral):
            raise ConfigError(f"{name!r} is out of range", got=number, expected="a whole number")


def _numbers(value: object) -> Iterator[Real]:
    if isinstance(value, Real):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _numbers(part)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _numbers(part)
