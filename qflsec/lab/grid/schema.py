"""Checking tables of a specification: what is wrong, where, and what was meant.

The tables' keys and types are those of the dataclasses and functions that they configure, so that a plugin
needs no second description of its parameters.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from qflsec.base import ConfigError, QflsecError

__all__ = ["at", "check", "nearest", "read", "table_of"]

_M = TypeVar("_M", bound=BaseModel)
_EXPECTED = "Input should be "
_UNKNOWN = {"extra_forbidden", "unexpected_keyword_argument"}


@contextmanager
def at(path: str) -> Iterator[None]:
    """Put the key path in front of any error that the user can mend."""
    try:
        yield
    except QflsecError as error:
        raise type(error)(
            f"{path}: {error.what}" if path else error.what,
            got=error.got,
            expected=error.expected,
            fix=error.fix,
        ) from error


def nearest(name: str, known: Collection[str]) -> str | None:
    """``did you mean 'x'?`` for the most similar known name; None where none is similar."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else None


def read(model: type[_M], value: object, path: str) -> _M:
    """``value`` as ``model``, strictly: no text for numbers, no unknown keys.

    Raises:
        ConfigError: It does not fit; the message names the key path.
    """
    try:
        with at(path):  # values that refuse what they are made from
            return model.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, model, path) from None


def check(thing: Callable[..., Any], value: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The arguments of a dataclass or function as a table gives them, with Python's types.

    Args:
        thing: What the table configures.
        value: The table, without a ``name`` that is not an argument.
        path: The table's key path.

    Raises:
        ConfigError: A key is unknown or missing, or a value has the wrong type.
    """
    model = table_of(thing)
    checked = read(model, dict(value), path)
    return {key: getattr(checked, key) for key in checked.model_fields_set}


@cache
def table_of(thing: Callable[..., Any]) -> type[BaseModel]:
    """The model of the table that configures a dataclass or a function with keyword arguments."""
    try:
        hints = get_type_hints(thing)
    except NameError:  # annotations that exist for type checkers only
        hints = {}
    arguments: dict[str, Any] = {
        name: (hints.get(name, Any), ... if default is inspect.Parameter.empty else default)
        for name, default in _arguments(thing)
    }
    return create_model(
        getattr(thing, "__name__", "table"),
        __config__=ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False),
        **arguments,
    )


def _arguments(thing: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if field.init and field.default is not dataclasses.MISSING:
                yield field.name, field.default
            elif field.init and field.default_factory is not dataclasses.MISSING:
                yield field.name, field.default_factory()
            elif field.init:
                yield field.name, inspect.Parameter.empty
        return
    for parameter in inspect.signature(thing).parameters.values():
        yield parameter.name, parameter.default


def _explain(error: ValidationError, model: type[BaseModel], path: str) -> ConfigError:
    # A misspelt key is reported twice, as unknown and as missing: the first says more.
    found = sorted(error.errors(include_url=False), key=lambda part: part["type"] not in _UNKNOWN)
    first = found[0]
    place = path
    for part in first["loc"]:
        if not _is_tag(part):
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
    place = place.removeprefix(".")
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    key = str(first["loc"][-1]) if first["loc"] else ""
    if first["type"] in _UNKNOWN:
        known = _known(model, first["loc"])
        return ConfigError(
            f"{place}: unknown key{more}",
            got=repr(key),
            expected=f"one of {', '.join(known)}" if known else "no such key",
            fix=nearest(key, known) or "remove it",
        )
    if first["type"] == "missing":
        return ConfigError(f"{place}: missing{more}", fix=f"add {key!r}")
    message = str(first["msg"])
    if first["type"] == "literal_error":
        choices = [
            choice.strip("' ") for choice in str(first["ctx"]["expected"]).replace(" or ", ",").split(",")
        ]
        fix = nearest(str(first["input"]), choices)
    else:
        fix = None
    expected = message.removeprefix(_EXPECTED)
    return ConfigError(f"{place}: wrong value{more}", got=repr(first["input"]), expected=expected, fix=fix)


def _known(model: type[BaseModel], place: tuple[object, ...]) -> list[str]:
    """The keys that there are where an unknown one was found: of the table, or of a dataclass in it."""
    if len(place) == 1:
        return list(model.model_fields)
    inner = model.model_fields.get(str(place[0]))
    kinds = [] if inner is None else [inner.annotation, *get_args(inner.annotation)]
    for kind in kinds:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind) if field.init]
    return []


def _is_tag(part: object) -> bool:
    """Whether a part of pydantic's location names a type of a union instead of a key."""
    return isinstance(part, str) and (part in {"int", "float", "str", "bool", "none"} or "[" in part)
