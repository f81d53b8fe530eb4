"""What can be set, and what docstrings say of it: the one description of every parameter.

Classes and functions describe their fields and arguments in sections ``Attributes`` and ``Args`` of their
docstrings, and physical units in a section ``Units``. Pages, ``qflsec show`` and errors read them from there.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["REQUIRED", "Parameter", "described", "plain", "summary", "units"]

REQUIRED: Any = type("Required", (), {"__repr__": lambda _: "required"})()
"""The default of what has none."""
_HEAD = re.compile(r"^[A-Z][a-z]+( [a-z]+)?:$")
_ENTRY = re.compile(r"^ {1,4}\*{0,2}(\w+(?:, \w+)*)(?: \([^)]*\))?: ?(.*)$")
_UNIT = re.compile(r"(\w+(?:, \w+)*): ([^;]+)")
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """Something that a table of a specification can set.

    Attributes:
        name: The key.
        type: What it takes, in words.
        about: What it is, in a sentence or a few.
        default: What holds where it is left out, JSON-able; :data:`REQUIRED` where it has to be given.
        unit: The physical unit; empty for none.
    """

    name: str
    type: str
    about: str
    default: Any = field(default=REQUIRED)
    unit: str = ""

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is REQUIRED

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        said = {"type": self.type, "required": self.required, "unit": self.unit or None, "about": self.about}
        return said if self.required else {**said, "default": self.default}


def summary(thing: Callable[..., Any]) -> str:
    """The first paragraph of a docstring on one line; empty where there is none."""
    return plain(_text(thing).partition("\n\n")[0])


def described(thing: Callable[..., Any]) -> dict[str, str]:
    """What the docstring says of each field or argument; a class may leave to its bases what they say."""
    found: dict[str, str] = {}
    for owner in _owners(thing):
        for title in ("Attributes", "Args"):
            for name, about in _entries(_section(_text(owner), title)):
                found.setdefault(name, about)
    return found


def units(thing: Callable[..., Any]) -> dict[str, str]:
    """The physical unit of each field or argument that has one."""
    found: dict[str, str] = {}
    for owner in _owners(thing):
        text = "; ".join(line.strip() for line in _section(_text(owner), "Units"))
        for names, unit in _UNIT.findall(text):
            for name in names.split(", "):
                found.setdefault(name, unit.strip().rstrip("."))
    return found


def _owners(thing: Callable[..., Any]) -> tuple[Any, ...]:
    return thing.__mro__[:-1] if isinstance(thing, type) else (thing,)


def _text(thing: Any) -> str:  # noqa: ANN401 - a class or a function
    """The docstring of the thing itself; dataclasses without one are given their signature, which says nothing."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    return "" if not text or text.startswith(f"{thing.__name__}(") else inspect.cleandoc(text)


def _section(text: str, title: str) -> list[str]:
    """The lines of a section."""
    lines = text.splitlines()
    if f"{title}:" not in lines:
        return []
    start = lines.index(f"{title}:") + 1
    ends = [i for i in range(start, len(lines)) if _HEAD.match(lines[i]) or (lines[i] and lines[i][0] != " ")]
    return lines[start : ends[0] if ends else len(lines)]


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Names with what is said of each, over as many lines as it takes."""
    names: list[str] = []
    said: list[str] = []
    for line in [*lines, "    end: "]:
        entry = _ENTRY.match(line)
        if entry:
            yield from ((name, plain(" ".join(said))) for name in names)
            names, said = entry[1].split(", "), []
        said.append(entry[2] if entry else line.strip())


def plain(text: str) -> str:
    """Without the mark-up of references and code."""
    named = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text)
    return " ".join(named.replace("``", "`").split())
