"""Checking tables of a specification: what is wrong, where, and what was meant.

The tables' keys and types are those of the dataclasses and functions that they configure, so that a plugin
needs no second description of its parameters.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from qflsec.base import ConfigError, QflsecError
from qflsec.base.errors import Mistakes

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
        if not path:
            raise
        raise error.within(path) from error


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
            if field.metadata.get("internal"):  # bound to a run, and no part of a configuration
                continue
            if field.init and field.default is not dataclasses.MISSING:
                yield field.name, field.default
            elif field.init and field.default_factory is not dataclasses.MISSING:
                yield field.name, field.default_factory()
            elif field.init:
                yield field.name, inspect.Parameter.empty
        return
    for parameter in inspect.signature(thing).parameters.values():
        yield parameter.name, parameter.default


def _explain(error: ValidationError, model: type[BaseModel], path: str) -> QflsecError:
    """All that is wrong; a misspelt key is unknown and missing, and the first says more."""
    found: dict[str, ConfigError] = {}
    every = error.errors(include_url=False)
    # what is wrong inside a list makes the list too short as well
    parts = [
        one
        for one in every
        if not any(one["loc"] == other["loc"][: len(one["loc"])] for other in every if other is not one)
    ]
    strange = {str(part["loc"][-1]) for part in parts if part["type"] == "extra_forbidden"}
    for part in parts:
        key = str(part["loc"][-1]) if part["loc"] else ""
        if part["type"] == "missing" and difflib.get_close_matches(key, strange, n=1, cutoff=0.5):
            continue
        place = _place(part["loc"], path)
        found.setdefault(place, _mistake(part, place, key, model))  # a union fails once for each of its types
    return Mistakes(list(found.values())) if len(found) > 1 else next(iter(found.values()))


def _place(loc: Sequence[int | str], path: str) -> str:
    for part in loc:
        if not _is_tag(part):
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _mistake(part: ErrorDetails, place: str, key: str, model: type[BaseModel]) -> ConfigError:
    if part["type"] == "extra_forbidden":
        known = list(model.model_fields) if len(part["loc"]) == 1 else []
        return ConfigError(
            f"{place}: unknown key",
            got=repr(key),
            expected=f"one of {', '.join(known)}" if known else "no such key",
            fix=nearest(key, known) or "remove it",
        )
    if part["type"] == "missing":
        return ConfigError(f"{place}: missing", fix=f"add {key!r}")
    fix = None
    if part["type"] == "literal_error":
        said = str(part["ctx"]["expected"]).replace(" or ", ",")
        fix = nearest(str(part["input"]), [choice.strip("' ") for choice in said.split(",")])
    expected = str(part["msg"]).removeprefix(_EXPECTED)
    return ConfigError(f"{place}: wrong value", got=repr(part["input"]), expected=expected, fix=fix)


def _is_tag(part: object) -> bool:
    """Whether a part of pydantic's location names a type of a union instead of a key."""
    return isinstance(part, str) and (part in {"int", "float", "str", "bool", "none"} or "[" in part)
