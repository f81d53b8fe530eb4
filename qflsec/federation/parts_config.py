"""Parts of a model from a name and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qflsec.base import ConfigError
from qflsec.federation.moving import Satellites, Vehicles
from qflsec.federation.parts import Depths, Parts, Slimmable

__all__ = ["parts_from_config"]

_KINDS: Mapping[str, type[Depths | Slimmable | Vehicles | Satellites]] = {
    kind.name: kind for kind in (Depths, Slimmable, Vehicles, Satellites)
}


def parts_from_config(config: Mapping[str, Any]) -> Parts | None:
    """The parts described by a name and parameters; None where nothing is.

    Raises:
        ConfigError: The name or a parameter is unknown, or refused.
    """
    if not config:
        return None
    values = dict(config)
    name = values.pop("name", None)
    kind = _KINDS.get(str(name))
    if kind is None:
        raise ConfigError("unknown parts of a model", got=repr(name), expected=" or ".join(map(repr, _KINDS)))
    known = [part.name for part in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"unknown parameter of {name!r}", got=", ".join(unknown), expected=", ".join(known))
    for part in fields(kind):
        value = values.get(part.name, 0.0)
        if part.type == "float" and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ConfigError(f"{part.name!r} of {name!r} is no number", got=repr(value), expected="a number")
    if kind is Depths and "depths" not in values:
        raise ConfigError("'depths' needs a depth for each client", fix="add depths = [1, 2, ...]")
    return kind(**values)
