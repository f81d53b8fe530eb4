"""The registry of attacks, layers, data sets, models, checks and panels of the report.

A plugin registers by the decorator :func:`register` when its module is imported. The package's own
plugins are found by walking the packages named by :data:`HOMES`; third parties declare an entry point in
the group ``qflsec.plugins`` that names a module.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from qflsec.base.errors import UnknownName
from qflsec.base.installation import PACKAGE
from qflsec.base.numbers import finite

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints

__all__ = [
    "HOMES",
    "Kind",
    "check_spelling",
    "find",
    "forget",
    "load_plugins",
    "names",
    "register",
    "spelled",
    "third_parties",
]

Kind = Literal[
    "attack", "check", "claim", "layer", "dataset", "model", "panel", "partition", "threat", "topology"
]
HOMES: dict[Kind, tuple[str, ...]] = {
    "attack": ("qflsec.attacks",),
    "check": ("qflsec.audit.checks",),
    "claim": ("qflsec.audit.claims",),
    "dataset": ("qflsec.data",),
    "layer": ("qflsec.federation", "qflsec.protocols", "qflsec.defenses"),
    "model": ("qflsec.models",),
    "panel": ("qflsec.report.panels",),
    "partition": ("qflsec.data.partitioners",),
    "threat": ("qflsec.threat.model", "qflsec.threat.places", "qflsec.threat.pools"),
    "topology": ("qflsec.federation",),
}
"""Where the package's own plugins of each kind are: in a package, or in one module that imports little."""
_ENTRY_POINTS = "qflsec.plugins"
_T = TypeVar("_T")
_entries: dict[Kind, dict[str, Any]] = {}
_loaded: set[str] = set()


def register(kind: Kind, name: str) -> Callable[[_T], _T]:
    """Register the decorated class or function under ``name``; the numbers of a dataclass are checked from then on.

    Args:
        kind: What it is.
        name: Its registry name.
    """

    def keep(thing: _T) -> _T:
        if dataclasses.is_dataclass(thing) and isinstance(thing, type):
            finite(thing)
        entries = _entries.setdefault(kind, {})
        known = entries.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            getattr(thing, "__module__", None),
            getattr(thing, "__qualname__", None),
        ):
            msg = f"two plugins of kind {kind} are called {name!r}"
            raise ValueError(msg)
        entries[name] = thing
        return thing

    return keep


def forget(module: str) -> None:
    """Remove what a module registered, so that another may use the names."""
    for entries in _entries.values():
        for name in [name for name, thing in entries.items() if thing.__module__ == module]:
            del entries[name]


def load_plugins(*kinds: Kind) -> None:
    """Import every module that may register a plugin; the first call does the work.

    Args:
        kinds: The kinds that are wanted of the package's own; all by default. Those of third parties are imported
            whatever they register.
    """
    for home in dict.fromkeys(home for kind in kinds or HOMES for home in HOMES[kind]):
        if home not in _loaded:
            package = importlib.import_module(home)
            for module in pkgutil.walk_packages(getattr(package, "__path__", None) or (), prefix=f"{home}."):
                importlib.import_module(module.name)
            _loaded.add(home)
    _load_others()


def names(kind: Kind) -> tuple[str, ...]:
    """The registered names of one kind, sorted."""
    load_plugins(kind)
    return tuple(sorted(_entries.get(kind, {})))


def find(kind: Kind, name: str) -> Any:  # noqa: ANN401 - the registry is heterogeneous
    """The plugin called ``name``; of the package's own, only its module is imported.

    Raises:
        UnknownName: There is none; the message names the nearest.
    """
    if name not in _entries.get(kind, {}):
        file = spelled(kind).get(name)
        if file is not None:
            importlib.import_module(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
            _load_others()  # which must not take its name
    if name not in _entries.get(kind, {}):
        load_plugins(kind)
    entries = _entries.get(kind, {})
    if name not in entries:
        raise _unknown(kind, name, entries)
    return entries[name]


def check_spelling(kind: Kind, name: str) -> None:
    """Refuse a name that no source of the package registers, without importing what it stands for.

    Where third parties bring plugins, their names are not known before they are imported, and nothing is refused.

    Raises:
        UnknownName: There is none; the message names the nearest.
    """
    if name in _entries.get(kind, {}) or third_parties():
        return
    known = spelled(kind)
    if name not in known:
        raise _unknown(kind, name, known)


@cache
def spelled(kind: Kind) -> dict[str, Path]:
    """The names of one kind as the package's sources spell them, and the files that do."""
    written = re.compile(rf'^@register\("{kind}", "([^"]+)"\)', re.MULTILINE)
    places = [PACKAGE.parent.joinpath(*home.split(".")) for home in HOMES[kind]]
    files = [
        file
        for place in places
        for file in (place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")])
    ]
    return {name: file for file in files for name in written.findall(file.read_text(encoding="utf-8"))}


def third_parties() -> bool:
    """Whether anything else that is installed brings plugins."""
    return bool(_entry_points())


@cache  # to look for them reads what every package says of itself
def _entry_points() -> EntryPoints:
    from importlib.metadata import entry_points

    return entry_points(group=_ENTRY_POINTS)


def _load_others() -> None:
    """Import the plugins of third parties, once."""
    if _ENTRY_POINTS not in _loaded:
        for point in _entry_points():
            point.load()
        _loaded.add(_ENTRY_POINTS)


def _unknown(kind: Kind, name: str, known: Collection[str]) -> UnknownName:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    return UnknownName(
        f"unknown {kind}",
        got=repr(name),
        expected=f"one of {', '.join(sorted(known))}",
        fix=f"did you mean {near[0]!r}?" if near else f"run 'qflsec list {kind}s'",
    )
