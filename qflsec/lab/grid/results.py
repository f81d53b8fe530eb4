"""What the results of all kinds of matrix share: a head, cells by row and column, and their documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from qflsec.base import Score
from qflsec.lab.grid.units import Place

__all__ = [
    "UNKNOWN",
    "Cell",
    "CodeInfo",
    "Head",
    "Result",
    "cause_words",
    "head_now",
    "plain",
    "read_head",
    "read_score",
]

UNKNOWN = "cannot be known"
"""The cause of what nobody could prove."""


@dataclass(frozen=True, kw_only=True)
class CodeInfo:
    """Code that does not come with the package and that ids cover.

    Attributes:
        part: What it makes, such as ``"attack push"``.
        files: Its file, the modules that this imports by their names, and files that they name.
        installed: The installed packages that it imports, with their versions.
        not_covered: Imports that cannot be followed: a change behind them changes no id.
    """

    part: str
    files: tuple[str, ...]
    installed: tuple[str, ...] = ()
    not_covered: tuple[str, ...] = ()


class Cell(Protocol):
    """One attack against one column, over all seeds."""

    @property
    def attack(self) -> str:
        """The attack's label."""

    @property
    def column(self) -> str:
        """What the attack was run against."""

    @property
    def state(self) -> str:
        """What the cell says in a word or two; ``"pending"`` and ``"failed"`` are states of every kind."""

    @property
    def sentence(self) -> str:
        """What the cell says."""

    @property
    def statuses(self) -> Mapping[int, str]:
        """What became of each trial that is stored, by seed."""

    @property
    def measures(self) -> Mapping[str, Mapping[int, float]]:
        """The numbers that two results are compared by: each measure by seed."""

    @property
    def aborts(self) -> Mapping[str, int]:
        """How many runs, rounds or sessions a protocol stopped, by who caused it as its parties could prove it."""

    def records(self) -> list[dict[str, Any]]:
        """The stored trials, a flat record each."""


C = TypeVar("C", bound=Cell)


@dataclass(frozen=True, kw_only=True)
class Head:
    """What every result begins with.

    Attributes:
        name: The matrix's name.
        description: What it is for.
        command: The command that made it.
        created: UTC time, ISO 8601.
        versions: Versions of the packages that can change a number.
        seeds: The seeds.
        code: The user's code that ids cover.
        failures: Each kind of failure once: how many trials or runs ended in it and where, the error, and its traceback on
            the lines that follow.
    """

    name: str
    description: str
    command: str
    created: str
    versions: Mapping[str, str]
    seeds: tuple[int, ...]
    code: tuple[CodeInfo, ...] = ()
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result(Head, Generic[C]):
    """What a matrix found.

    Attributes:
        kind: The kind of matrix.
        cells: By (attack label, column name); complete.
    """

    kind: ClassVar[str]
    cells: Mapping[Place, C]

    def document_head(self, schema: str) -> dict[str, Any]:
        """The first keys of the result's document."""
        return {
            "schema": schema,
            "kind": self.kind,
            **{part.name: plain(getattr(self, part.name)) for part in fields(Head)},
            "code": [plain(asdict(part)) for part in self.code],
        }


def head_now(head: Mapping[str, Any], command: str) -> dict[str, Any]:
    """The head of a result that is made now, as arguments.

    Args:
        head: The head of a frame.
        command: The command that made the rows.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return read_head({**head, "command": command, "created": created, "failures": ()})


def read_head(document: Mapping[str, Any]) -> dict[str, Any]:
    """The head that a document begins with, as arguments."""
    return {
        **{part.name: document[part.name] for part in fields(Head)},
        "seeds": tuple(document["seeds"]),
        "failures": tuple(document["failures"]),
        "code": tuple(
            CodeInfo(
                part=part["part"],
                **{name: tuple(part[name]) for name in ("files", "installed", "not_covered")},
            )
            for part in document["code"]
        ),
    }


def cause_words(aborts: Mapping[str, int]) -> str:
    """Aborts by cause, in words; empty where there were none."""
    return ", ".join(f"{cause} ({count})" for cause, count in aborts.items())


def plain(value: Any) -> Any:  # noqa: ANN401 - JSON is heterogeneous
    """The same value in JSON types: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def read_score(value: Mapping[str, Any]) -> Score:
    """The score of a document, in which numbers that are not finite are null."""
    numbers = ("value", "low", "high", "baseline", "ideal")
    return Score(**{**value, **{name: math.nan if value[name] is None else value[name] for name in numbers}})
