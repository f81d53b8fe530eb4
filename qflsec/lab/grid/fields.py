"""The parameters of whatever a table of a specification configures, in words."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from qflsec.base.parameters import REQUIRED, Parameter, described, units
from qflsec.lab.grid.schema import table_of

__all__ = ["nested_tables", "parameters_of"]

_WORDS = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "none",
    Any: "anything",
    object: "anything",
}
_MANY = {tuple, list, set, frozenset, Collection}


def parameters_of(thing: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The parameters of a dataclass, of a table's model or of a function with keyword arguments."""
    is_table = isinstance(thing, type) and issubclass(thing, BaseModel)
    table: type[BaseModel] = thing if is_table else table_of(thing)  # type: ignore[assignment]
    about, unit = described(thing), units(thing)
    return tuple(
        Parameter(
            name=name,
            type=in_words(field.annotation),
            about=about.get(name, ""),
            default=REQUIRED if field.is_required() else _shown(field.get_default(call_default_factory=True)),
            unit=unit.get(name, ""),
        )
        for name, field in table.model_fields.items()
    )


def in_words(kind: Any) -> str:  # noqa: ANN401 - an annotation
    """What a value of a type is called in a specification."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'"{part}"' if isinstance(part, str) else str(part) for part in parts)
    if origin in {Union, types.UnionType}:
        return " or ".join(dict.fromkeys(in_words(part) for part in parts if part is not type(None)))
    if origin in _MANY or kind in _MANY:
        inner = [in_words(part) for part in parts if part is not Ellipsis]
        if len(inner) > 1:
            return f"list of {len(inner)}: {', '.join(inner)}"
        return f"list of {_plural(inner[0])}" if inner else "list"
    if origin is not None and hasattr(kind, "__metadata__"):
        return in_words(parts[0])
    return _WORDS.get(kind, "table")


def nested_tables(thing: Callable[..., Any]) -> dict[str, type]:
    """The dataclass or table that a parameter's value is itself made from, by the parameter's name."""
    is_table = isinstance(thing, type) and issubclass(thing, BaseModel)
    table: Any = thing if is_table else table_of(thing)
    found: dict[str, type] = {}
    for name, field in table.model_fields.items():
        for kind in _leaves(field.annotation):
            if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel)):
                found[name] = kind
    return found


def _leaves(kind: Any) -> list[Any]:  # noqa: ANN401 - an annotation
    parts = get_args(kind)
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [kind]


def _plural(words: str) -> str:
    return f"{words}s" if words in {"whole number", "number", "text", "table"} else f"({words})"


def _shown(value: object) -> object:
    """A default as TOML and JSON have it."""
    if isinstance(value, tuple | list | set | frozenset):
        return [_shown(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): _shown(part) for key, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {name: _shown(part) for name, part in given.items() if part is not None}
    return value if value is None or isinstance(value, str | int | float | bool) else repr(value)
