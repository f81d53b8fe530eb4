"""Files of the user that a specification names: where they are, what is in them, and plugins."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qflsec.base import ConfigError, load_plugins

__all__ = ["code_digests", "content_digest", "load_user_plugins", "resolve", "without_places"]

_SUFFIXES = (".py", ".csv")
_loaded: dict[str, str] = {}


def resolve(table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The table with the names of files made absolute; they are relative to the specification."""
    return {
        key: _absolute(value, base) if isinstance(value, str) and _split(value) else value
        for key, value in table.items()
    }


def without_places(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with the digest of its content in the place of every file: what an id is made from.

    Raises:
        ConfigError: A file cannot be read.
    """
    return {
        key: _content(value) if isinstance(value, str) and _split(value) else value
        for key, value in table.items()
    }


def content_digest(path: str | Path) -> str:
    """Sha256 of a file.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError("a file cannot be read", got=path, fix=str(error.strerror)) from None


def code_digests(things: Iterable[object]) -> dict[str, str]:
    """Sha256 of the module of each plugin that is not part of the package, by the plugin's full name."""
    found: dict[str, str] = {}
    for thing in things:
        kind = thing if inspect.isclass(thing) or inspect.isfunction(thing) else type(thing)
        if kind.__module__.split(".")[0] != "qflsec":
            path = inspect.getsourcefile(kind)
            assert path is not None
            found[f"{kind.__module__}.{kind.__qualname__}"] = content_digest(path)
    return found


def load_user_plugins(names: Iterable[str]) -> None:
    """Import the modules and files that a specification lists as plugins.

    Raises:
        ConfigError: One cannot be imported.
    """
    load_plugins()
    for name in names:
        try:
            _import(name)
        except Exception as error:
            raise ConfigError(
                f"plugin {name!r} cannot be imported", got=f"{type(error).__name__}: {error}"
            ) from error


def _import(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    # One module name for each path: a file that was changed replaces what it registered before.
    module_name = f"qflsec_user_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    content = content_digest(name)
    if _loaded.get(module_name) == content and module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    _loaded[module_name] = content


def _split(text: str) -> tuple[str, str] | None:
    """The file and what follows its colon, where the text names a file of the user."""
    for suffix in _SUFFIXES:
        if text.endswith(suffix):
            return text, ""
        path, colon, rest = text.rpartition(f"{suffix}:")
        if colon and rest.isidentifier():
            return path + suffix, rest
    return None


def _absolute(text: str, base: Path) -> str:
    split = _split(text)
    assert split is not None
    path, rest = split
    return f"{(base / path).resolve()}:{rest}" if rest else str((base / path).resolve())


def _content(text: str) -> str:
    split = _split(text)
    assert split is not None
    path, rest = split
    return f"sha256:{content_digest(path)}:{rest}" if rest else f"sha256:{content_digest(path)}"
