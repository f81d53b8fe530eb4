"""What the specifications of the matrices beside the main one share: files, presets and tables of attacks."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol, TypeVar

from qflsec.base import ConfigError, find
from qflsec.lab.grid.schema import at, check, nearest

__all__ = ["AttackEntry", "attacks_by_label", "folder_presets", "read_specification"]

Spec = TypeVar("Spec")
Attack = TypeVar("Attack")


class AttackEntry(Protocol):
    """A table ``[[attacks]]``: a registered name, an optional label, and parameters."""

    @property
    def name(self) -> str:
        """The attack's registered name."""

    @property
    def label(self) -> str | None:
        """The row's label; the name where there is none."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The attack's parameters."""


def attacks_by_label(
    tables: Sequence[AttackEntry], kind: type[Attack], *, honest: str, what: str
) -> dict[str, Attack | None]:
    """The attacks by label, the honest row first.

    Args:
        tables: The tables of attacks.
        kind: What every attack must be.
        honest: The label of the row without an attack.
        what: Such an attack, in words.

    Raises:
        ConfigError: A table cannot be used, or two labels are equal.
    """
    found: dict[str, Attack | None] = {honest: None}
    for index, table in enumerate(tables):
        with at(f"attacks[{index}]"):
            registered = find("attack", table.name)
            if not issubclass(registered, kind):
                raise ConfigError(f"not {what}", got=repr(table.name))
            attack = registered(**check(registered, dict(table.params), "params"))
            label = table.label or table.name
            if label in found:
                raise ConfigError("a label is used twice", got=repr(label), fix='add label = "..."')
        found[label] = attack
    return found


def folder_presets(folder: str) -> dict[str, Path]:
    """The specifications of a folder of presets, by name."""
    files = (Path(str(resources.files("qflsec.lab"))) / "presets" / folder).glob("*.toml")
    return {path.stem: path for path in sorted(files)}


def read_specification(
    preset_or_file: str | Path,
    known: Mapping[str, Path],
    parse: Callable[[dict[str, Any]], Spec],
    *,
    what: str,
) -> Spec:
    """A specification by the name of a preset or the path of a file.

    Args:
        preset_or_file: Which.
        known: The presets.
        parse: Makes and checks the specification; its errors are told with the file's name.
        what: What is specified, in words.

    Raises:
        ConfigError: There is none, or it cannot be used; the message says where and how to mend it.
    """
    name = str(preset_or_file)
    path = known.get(name, Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"there is no such {what}",
            got=repr(name),
            expected=f"a TOML file, or one of {', '.join(known)}",
            fix=nearest(name, known),
        ) from None
    with at(path.name):
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("not a TOML file", got=str(error), fix="mend the syntax there") from None
        return parse(document)
