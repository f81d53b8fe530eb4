"""Layers from their configuration: a registry name and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from qflsec.base import ConfigError, find
from qflsec.federation.layers import Layer

__all__ = ["layer_from_config"]


def layer_from_config(config: Mapping[str, Any]) -> Layer:
    """The layer described by its registry name and parameters.

    Raises:
        UnknownName: There is no such layer.
        ConfigError: A parameter is unknown or refused.
    """
    if "name" not in config:
        raise ConfigError("a layer without a name", got=dict(config), fix='add name = "..."')
    values = dict(config)
    kind = find("layer", str(values.pop("name")))
    known = {field.name for field in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(
            f"unknown parameter of layer {config['name']!r}",
            got=", ".join(unknown),
            expected=", ".join(sorted(known)) or "none",
        )
    try:
        layer = kind(**values)
    except TypeError as error:
        raise ConfigError(f"cannot make layer {config['name']!r}", got=str(error)) from error
    if not isinstance(layer, Layer):
        raise ConfigError(
            f"{config['name']!r} is registered as a layer but is none", got=type(layer).__name__
        )
    return layer
