"""Files of the user that a specification names: where they are, what is in them, and plugins."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError, QflsecError, load_plugins
from qflsec.base.places import place_digest
from qflsec.base.registry import forget
from qflsec.base.user_code import load_file, load_module, module_name
from qflsec.lab.grid.schema import at

__all__ = ["load_user_plugins", "python_files", "resolve", "without_places"]

_SUFFIXES = (".py", ".csv", ".parquet", ".npz", ".npy")
_PLACE = "path"
"""The key whose value is a place whatever it ends in: a file, a pattern, or a folder."""
_plugin_files: set[str] = set()


def resolve(table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The table with the names of files made absolute; they are relative to the specification."""
    return {
        key: _absolute(value, base) if isinstance(value, str) and _is_place(key, value) else value
        for key, value in table.items()
    }


def without_places(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the digest of its content in the place of every file: what an id is made from.

    Raises:
        QflsecError: A file is missing or cannot be read.
    """
    return {
        key: _content(value) if isinstance(value, str) and _is_place(key, value) else value
        for key, value in table.items()
    }


def python_files(table: Mapping[str, Any]) -> tuple[Path, ...]:
    """The Python files that the table names."""
    found = (_split(value) for value in table.values() if isinstance(value, str))
    return tuple(Path(split[0]) for split in found if split is not None and split[0].endswith(".py"))


def load_user_plugins(names: Sequence[str]) -> None:
    """Import the modules and files that a specification lists as plugins.

    Raises:
        ConfigError: One cannot be imported.
    """
    if names:  # they must not take the name of anything that comes with the package
        load_plugins()
    # The registry holds the plugins of one specification: another may bring a copy of the same file.
    for module in _plugin_files - {module_name(name) for name in names if name.endswith(".py")}:
        forget(module)
        sys.modules.pop(module, None)
        _plugin_files.discard(module)
    for name in names:
        try:
            with at(f"plugin {name!r} cannot be imported"):
                _import(name)
        except QflsecError:
            raise
        except Exception as error:
            raise ConfigError(
                f"plugin {name!r} cannot be imported", got=f"{type(error).__name__}: {error}"
            ) from error


def _import(name: str) -> None:
    if name.endswith(".py"):
        _plugin_files.add(load_file(name).__name__)
    else:
        load_module(name)


def _split(text: str) -> tuple[str, str] | None:
    """The file and what follows its colon, where the text names a file of the user."""
    for suffix in _SUFFIXES:
        if text.endswith(suffix):
            return text, ""
        path, colon, rest = text.rpartition(f"{suffix}:")
        if colon and rest.isidentifier():
            return path + suffix, rest
    return None


def _is_place(key: str, text: str) -> bool:
    return key == _PLACE or _split(text) is not None


def _absolute(text: str, base: Path) -> str:
    path, rest = _split(text) or (text, "")
    return f"{(base / path).resolve()}:{rest}" if rest else str((base / path).resolve())


def _content(text: str) -> str:
    path, rest = _split(text) or (text, "")
    return f"sha256:{place_digest(path)}:{rest}" if rest else f"sha256:{place_digest(path)}"
