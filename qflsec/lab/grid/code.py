"""The user's code in a matrix: what an id covers, and what it cannot cover."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from qflsec.base import AttackCard
from qflsec.base.sources import Sources
from qflsec.base.user_code import load_file, sources_in_use
from qflsec.lab.grid.results import CodeInfo

__all__ = ["Parts", "attack_part", "code_info", "digests_of", "sources_of"]

Parts = dict[str, object]


class _Attack(Protocol):
    @property
    def card(self) -> AttackCard: ...


def attack_part(attack: _Attack) -> Parts:
    """An attack."""
    return {f"attack {attack.card.name}": attack}


def sources_of(parts: Mapping[str, object], files: Mapping[str, Path] | None = None) -> dict[str, Sources]:
    """The sources of the parts that do not come with the package, and of files that are named.

    Args:
        parts: Registered things, by what they are.
        files: Python files, by what they are.

    Raises:
        ConfigError: Code stands in no file, has changed since it was imported, or cannot be told apart.
    """
    modules = {label: sys.modules[_maker(part).__module__] for label, part in parts.items()}
    own = {
        label: module for label, module in modules.items() if module.__name__.partition(".")[0] != "qflsec"
    }
    return sources_in_use({**own, **{label: load_file(path) for label, path in (files or {}).items()}})


def code_info(label: str, sources: Sources) -> CodeInfo:
    """What a report says of one part."""
    return CodeInfo(
        part=label,
        files=(sources.root.name, *sources.digests, *sources.data),
        installed=tuple(f"{name} {version}" for name, version in sources.installed.items()),
        not_covered=sources.not_covered,
    )


def digests_of(code: Mapping[str, Sources], labels: Iterable[str]) -> dict[str, str]:
    """The digests of those parts that do not come with the package, as an identity holds them."""
    return {label: code[label].digest for label in labels if label in code}


def _maker(part: object) -> Callable[..., Any]:
    """The class or function that a registered thing comes down to."""
    while isinstance(part, functools.partial):
        part = part.func
    if inspect.isclass(part):
        return part
    return inspect.unwrap(part) if inspect.isfunction(part) else type(part)
