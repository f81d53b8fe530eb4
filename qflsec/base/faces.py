"""Faces of packages that are lazy: a name is imported when it is first asked for (PEP 562).

A face writes its imports once, for type checkers::

    if TYPE_CHECKING:
        from qflsec.lab.grid.store import Store

    __all__ = ["Store"]
    __getattr__, __dir__ = lazily(__name__)

Those imports are also what :func:`lazily` goes by, so that no second list can differ from them. A face must not name
anything like one of its own modules: importing the module would replace it.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable

__all__ = ["lazily"]


def lazily(face: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a face whose imports stand under ``if TYPE_CHECKING``.

    Args:
        face: The package's name.
    """
    places: dict[str, tuple[str, str]] = {}

    def find(name: str) -> object:
        if not places and not name.startswith("_"):
            places.update(_imports(face))
        if name not in places:
            msg = f"module {face!r} has no attribute {name!r}"
            raise AttributeError(msg)
        module, original = places[name]
        found: object = getattr(importlib.import_module(module), original)
        setattr(sys.modules[face], name, found)
        return found

    def listed() -> list[str]:
        known = vars(sys.modules[face])
        return sorted({*known, *known["__all__"]})

    return find, listed


def _imports(face: str) -> dict[str, tuple[str, str]]:
    """Where each name comes from that a face imports for type checkers: the module, and its name there."""
    spec = sys.modules[face].__spec__
    source = spec.loader.get_source(face) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
    return {
        name.asname or name.name: (part.module, name.name)
        for block in ast.parse(source or "").body
        if isinstance(block, ast.If)
        for part in block.body
        if isinstance(part, ast.ImportFrom) and part.module is not None
        for name in part.names
    }
