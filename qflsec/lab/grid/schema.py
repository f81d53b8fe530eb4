"""Checking tables of a specification: what is wrong, where, and what was meant.

The tables' keys and types are those of the dataclasses and functions that they configure, so that a plugin
needs no second description of its parameters.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import inspect
import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from qflsec.base import ConfigError, QflsecError
from qflsec.base.errors import Mistakes

__all__ = ["at", "check", "nearest", "read", "refuse_key", "table_of"]

_M = TypeVar("_M", bound=BaseModel)
_EXPECTED = "Input should be "
_LONGEST = 80
_NOTHING: Any = object()
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
    _refuse_strange(value, path)
    try:
        with at(path):  # values that refuse what they are made from
            return model.model_validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise _explain(error, model, value, path) from None


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


def _refuse_strange(value: object, path: str) -> None:
    """Refuse what TOML can write and JSON cannot: NaN and infinity, which would come out as nothing, and dates.

    Raises:
        ConfigError: There is one.
    """
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_strange(part, f"{path}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            _refuse_strange(part, f"{path}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path.removeprefix('.')}: not a finite number", got=value)
    elif isinstance(value, (dt.date, dt.time)):
        raise ConfigError(f"{path.removeprefix('.')}: wrong value", got=value, fix="put it into quotes")


def _explain(error: ValidationError, model: type[BaseModel], value: object, path: str) -> QflsecError:
    """All that is wrong; a misspelt key is unknown and missing, and the first says more."""
    found: dict[str, ConfigError] = {}
    every = _nearest_types(error.errors(include_url=False), value)
    # what is wrong inside a list makes the list too short as well
    parts = [
        one
        for one in every
        if not any(one["loc"] == other["loc"][: len(one["loc"])] for other in every if other is not one)
    ]
    strange: dict[tuple[int | str, ...], list[str]] = {}
    for part in parts:
        if part["type"] == "extra_forbidden":
            strange.setdefault(part["loc"][:-1], []).append(str(part["loc"][-1]))
    for part in parts:
        key = str(part["loc"][-1]) if part["loc"] else ""
        beside = strange.get(part["loc"][:-1], [])
        if part["type"] == "missing" and difflib.get_close_matches(key, beside, n=1, cutoff=0.5):
            continue
        place, written = _where(part["loc"], value, path)
        given = part["input"] if written is _NOTHING else written
        found.setdefault(
            place, _mistake(part, place, key, given, model)
        )  # a union fails once for each of its types
    return Mistakes(list(found.values())) if len(found) > 1 else next(iter(found.values()))


def _nearest_types(errors: list[ErrorDetails], value: object) -> list[ErrorDetails]:
    """Of what is wrong with a table by each of the types that it may have, what is wrong by the type whose keys it has most of."""
    strange: dict[tuple[int | str, ...], int] = {}
    for one in errors:
        place, tag = one["loc"][:-2], one["loc"][-2:-1]
        if tag and _is_tag(tag[0]) and _where((*place, *tag), value, "") == _where(place, value, ""):
            found = (*place, *tag)
            strange[found] = strange.get(found, 0) + (one["type"] in _UNKNOWN)
    worse = {
        one
        for one in strange
        for other in strange
        if one[:-1] == other[:-1] and strange[one] > strange[other]
    }
    return [one for one in errors if one["loc"][:-1] not in worse]


def _where(location: tuple[int | str, ...], value: object, path: str) -> tuple[str, object]:
    """The key path of a location, and what was written there.

    Parts that lead nowhere in what was written name a type of a union, not a key; the last may name a missing key.
    """
    place, here = path, value
    for part in location:
        if part == "[key]":
            return place.removeprefix("."), _NOTHING
        inside = (isinstance(here, Mapping) and part in here) or (
            isinstance(here, (list, tuple)) and isinstance(part, int) and part < len(here)
        )
        if not inside and _is_tag(part):
            continue
        here = here[part] if inside else _NOTHING  # type: ignore[index]  # a mapping or a list, as was just seen
        place += f"[{part}]" if isinstance(part, int) else f".{part}"
    return place.removeprefix("."), here


def _shown(value: object) -> str:
    """A value on part of a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def _expected(kind: str, message: str) -> str:
    """What would have been accepted, in TOML's words."""
    words = {
        "too_short": "at least one entry",
        "string_pattern_mismatch": "a name of letters a to z, digits, spaces and .,_+- that begins with a letter or digit",
        "tuple_type": "a list",
        "dict_type": "a table",
        "model_type": "a table",
    }
    return words.get(kind, message.removeprefix(_EXPECTED))


def refuse_key(key: str, known: Collection[str], place: str) -> None:
    """Refuse a key that there is not.

    Args:
        key: The key.
        known: The keys that there are.
        place: Its key path.

    Raises:
        ConfigError: Always.
    """
    raise _unknown(key, known, place)


def _unknown(key: str, known: Collection[str], place: str) -> ConfigError:
    return ConfigError(
        f"{place}: unknown key",
        got=repr(key),
        expected=f"one of {', '.join(known)}" if known else "no such key",
        fix=nearest(key, known) or "remove it",
    )


def _mistake(part: ErrorDetails, place: str, key: str, given: object, model: type[BaseModel]) -> ConfigError:
    if part["type"] in _UNKNOWN:
        return _unknown(key, _known(model, part["loc"]), place)
    if part["type"] == "missing":
        return ConfigError(f"{place}: missing", fix=f"add {key!r}")
    fix = None
    if part["type"] == "literal_error":
        said = str(part["ctx"]["expected"]).replace(" or ", ",")
        fix = nearest(str(part["input"]), [choice.strip("' ") for choice in said.split(",")])
    expected = _expected(part["type"], str(part["msg"]))
    return ConfigError(f"{place}: wrong value", got=_shown(given), expected=expected, fix=fix)


def _known(model: type[BaseModel], place: tuple[object, ...]) -> list[str]:
    """The keys that there are where an unknown one was found: of the table, or of a dataclass in it."""
    kinds: list[Any] = [model]
    for part in place[:-1]:
        kinds = [inner for kind in kinds for inner in _inside(kind, part)]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return list(kind.model_fields)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return [field.name for field in dataclasses.fields(kind) if field.init]
    return []


def _inside(kind: Any, part: object) -> list[Any]:  # noqa: ANN401 - a type, or a form of one
    """The types that an entry of a table or list of one type may have; one for each member of a union."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return [] if field is None else [field.annotation, *_members(field.annotation)]
    entries = get_args(kind)[1:] if get_origin(kind) is dict else get_args(kind)[:1]
    return [] if _members(kind) else [one for entry in entries for one in (entry, *_members(entry))]


def _members(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a type, or a form of one
    return get_args(kind) if get_origin(kind) in {Union, UnionType} else ()


def _is_tag(part: object) -> bool:
    """Whether a part of pydantic's location names a type of a union instead of a key."""
    simple = {"int", "float", "str", "bool", "none"}
    return isinstance(part, str) and (part in simple or "[" in part or part[:1].isupper())
