"""The parameters of the package's own plugins, as its sources write them: none of them is imported.

A mistake in a file should be told in a fraction of a second, and importing a model or an attack takes several.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from qflsec.base.installation import PACKAGE
from qflsec.base.registry import Kind, spelled

__all__ = ["written_keys"]

_Node = ast.ClassDef | ast.FunctionDef


@cache
def written_keys(kind: Kind, name: str) -> tuple[str, ...] | None:
    """The parameters of one plugin; None where no source of the package registers it.

    Args:
        kind: What it is.
        name: Its registry name.
    """
    path = spelled(kind).get(name)
    if path is None:
        return None
    registered = (
        node
        for node in _tree(path).body
        if isinstance(node, _Node)
        and any(_call(one, "register") == [kind, name] for one in node.decorator_list)
    )
    return tuple(_keys(next(registered), path))


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _call(node: ast.expr, function: str) -> list[object] | None:
    """The arguments of a call of a function, where the node is one: constants by value, names by name."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function):
        return None
    return [
        one.value if isinstance(one, ast.Constant) else one.id if isinstance(one, ast.Name) else None
        for one in node.args
    ]


def _keys(node: _Node, path: Path) -> list[str]:
    if isinstance(node, ast.ClassDef):
        return list(_fields(node, path))
    for decorator in node.decorator_list:  # a function that reads a table says which dataclass has the keys
        for name in _call(decorator, "configured_by") or ():
            found = _class_called(str(name), path)
            return list(_fields(*found)) if found else []
    arguments = node.args
    return [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def _fields(node: ast.ClassDef, path: Path) -> dict[str, None]:
    """The fields that a dataclass is made from: those of its bases first."""
    found: dict[str, None] = {}
    for base in reversed(node.bases):
        inner = base.value if isinstance(base, ast.Subscript) else base
        known = _class_called(inner.id, path) if isinstance(inner, ast.Name) else None
        found |= _fields(*known) if known else {}
    for part in node.body:
        if not (isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)):
            continue
        if "ClassVar" in ast.unparse(part.annotation):
            continue
        found[part.target.id] = None
        if part.value is not None and _is_inner(part.value):
            del found[part.target.id]
    return found


def _is_inner(value: ast.expr) -> bool:
    """Whether a default says that the field is no argument, or is bound to a run."""
    if _call(value, "field") is None:
        return False
    options = {one.arg: ast.unparse(one.value) for one in value.keywords}  # type: ignore[attr-defined]  # a call
    return options.get("init") == "False" or "internal" in options.get("metadata", "")


def _class_called(name: str, path: Path) -> tuple[ast.ClassDef, Path] | None:
    """A class that a module defines, or imports from another of the package."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    place = PACKAGE.parent.joinpath(*node.module.split("."))
                    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
                    return _class_called(alias.name, file)
    return None
