"""Columns of a matrix: stacks of layers, or why their layers cannot work together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qflsec.base import IncompatibleStack
from qflsec.federation import Layer, Stack, layer_from_config
from qflsec.lab.grid.schema import at
from qflsec.lab.worlds.federation.tables import checked

__all__ = ["StackEntry", "entry_of", "layers_of", "stack_of"]


@dataclass(frozen=True, kw_only=True)
class StackEntry:
    """A column: its layers, and the stack unless they cannot work together.

    Attributes:
        name: Its name in the matrix.
        layers: The layers in the order of the specification.
        stack: The stack; None where the layers are incompatible.
        incompatible: Why; empty where they are compatible.
    """

    name: str
    layers: tuple[Layer, ...]
    stack: Stack | None
    incompatible: str = ""


def stack_of(name: str, tables: Sequence[dict[str, Any]]) -> StackEntry:
    """The column of a table ``stacks.NAME``.

    Raises:
        QflsecError: A layer is unknown or a value cannot be used; the message starts with the key path.
    """
    return entry_of(name, layers_of(tables, f"stacks.{name}"))


def layers_of(tables: Sequence[dict[str, Any]], path: str) -> tuple[Layer, ...]:
    """The layers of a list of tables.

    Args:
        tables: The tables.
        path: The list's key path.

    Raises:
        QflsecError: A layer is unknown or a value cannot be used; the message starts with the key path.
    """
    layers = []
    for index, table in enumerate(tables):
        config = checked("layer", table, f"{path}[{index}]")
        with at(f"{path}[{index}]"):
            layers.append(layer_from_config(config))
    return tuple(layers)


def entry_of(name: str, layers: tuple[Layer, ...]) -> StackEntry:
    """The column of layers, with the reason where they cannot work together."""
    try:
        return StackEntry(name=name, layers=layers, stack=Stack.from_layers(name, layers))
    except IncompatibleStack as error:
        return StackEntry(name=name, layers=layers, stack=None, incompatible=str(error))
