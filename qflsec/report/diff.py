"""Two results side by side as a page: what differs in the cells, whether by more than noise, and in what was asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from qflsec.accounting.statistics import mean_over_seeds
from qflsec.base import ConfigError, Score
from qflsec.lab.grid.compare import CellDifference, compare
from qflsec.lab.grid.results import Cell, Result
from qflsec.report.html import interval, number, table
from qflsec.report.page import render_sections

__all__ = ["render_diff", "verdict", "write_diff"]

_LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class _Side:
    """One of the two.

    Attributes:
        name: What the page calls it.
        result: The result.
    """

    name: str
    result: Result[Any]


def write_diff(first: Result[Any], second: Result[Any], path: Path, *, names: tuple[str, str]) -> Path:
    """Write the page of two results.

    Args:
        first: One result.
        second: The other.
        path: Where to.
        names: What the page calls them.

    Raises:
        ConfigError: They are of different kinds, or the file cannot be written.
    """
    text = render_diff(first, second, names=names)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the page", got=f"{path}: {error.strerror}", fix="name another --out"
        ) from error
    return path


def render_diff(first: Result[Any], second: Result[Any], *, names: tuple[str, str]) -> str:
    """The page of two results, self-contained.

    Args:
        first: One result.
        second: The other.
        names: What the page calls them.

    Raises:
        ConfigError: They are of different kinds.
    """
    differences = compare(first, second)
    if names[0] == names[1]:
        names = (f"first: {names[0]}", f"second: {names[1]}")
    sides = _Side(name=names[0], result=first), _Side(name=names[1], result=second)
    changed = [part for part in differences if not part.same]
    same = [part for part in differences if part.same]
    sections = {
        "What differs": _summary(differences, sides),
        "Cells that differ": _cells(changed, sides) if changed else Markup("<p>None.</p>"),
        "In what was asked": _settings(sides),
        "Cells that are equal": _cells(same, sides) if same else Markup("<p>None.</p>"),
    }
    head = SimpleNamespace(
        name=f"{names[0]} against {names[1]}",
        description=f"Matrix “{first.name}”, made {first.created}, and matrix “{second.name}”, made {second.created}.",
        created=max(first.created, second.created),
    )
    return render_sections(head, sections)


def verdict(change: Score) -> str:
    """Whether a paired difference is more than noise."""
    if math.isnan(change.low):
        return "one seed in common allows no interval: nothing can be told"
    if change.value == 0 and change.low == change.high:
        return "the same in every seed"
    if change.low <= 0 <= change.high:
        return "within noise: the interval of the paired difference holds 0"
    return "more than noise"


def _summary(differences: tuple[CellDifference, ...], sides: tuple[_Side, _Side]) -> Markup:
    changed = [part for part in differences if not part.same]
    compared = [score for part in differences for score in part.changes.values()]
    moved = [score for score in compared if score.value or score.low != score.high]
    beyond = sum(verdict(score) == "more than noise" for score in moved)
    states = sum(part.before != part.after for part in changed)
    shared = len(set(sides[0].result.seeds) & set(sides[1].result.seeds))
    lines = [
        f"{len(changed)} of {len(differences)} cells differ, {states} of them in what they say.",
        f"{shared} seed{' is' if shared == 1 else 's are'} in common, and differences are paired by them: what a seed does to both is no difference.",
    ]
    if moved:
        lines.append(
            f"{beyond} of {len(moved)} measures that moved did so by more than noise: the 95 % interval of the paired "
            f"difference leaves 0 out. Of {len(moved)} that did nothing but vary, about {_LEVEL * len(moved):.1f} would "
            "be expected to look so by chance."
        )
    if not shared:
        lines.append(
            "Without a seed in common nothing is paired: only the states and each side's own intervals remain."
        )
    return Markup("").join(Markup("<p>{}</p>").format(line) for line in lines)


def _cells(parts: list[CellDifference], sides: tuple[_Side, _Side]) -> Markup:
    rows = sorted((row for part in parts for row in _rows(part, sides)), key=lambda row: row[0])
    header = ("attack × column", "measure", sides[0].name, sides[1].name, "difference", "paired seeds", "")
    return table(header, (row for _, row in rows), label="Cells of both results")


def _rows(part: CellDifference, sides: tuple[_Side, _Side]) -> Iterator[tuple[int, tuple[object, ...]]]:
    """A row for each measure, and its place: what is more than noise first, what is within it last."""
    place = part.attack, part.column
    cells = [side.result.cells.get(place) for side in sides]
    names = dict.fromkeys(name for cell in cells if cell is not None for name in cell.measures) or {"": None}
    for name in names:
        change = part.changes.get(name)
        said = "" if change is None else verdict(change)
        faces = [_face(cell, name) for cell in cells]
        other = part.before != part.after
        order = 0 if said == "more than noise" else 1 if other else 3 if said.startswith("within") else 2
        yield (
            order,
            (
                Markup("{}<br>× {}").format(part.attack, part.column),
                name.replace("_", " "),
                *faces,
                ""
                if change is None
                else Markup("<b>{}</b> {}").format(_signed(change.value), interval(change, 3)),
                "" if change is None else change.n,
                said or ("another state" if other else ""),
            ),
        )


def _face(cell: Cell | None, name: str) -> Markup:
    if cell is None:
        return Markup("not in it")
    values = tuple(cell.measures.get(name, {}).values())
    if not values:
        return Markup("{}").format(cell.state)
    own = getattr(cell, name, None)  # with what the records say, where the cell has it
    score = (
        own if isinstance(own, Score) else mean_over_seeds(values).score(name=name, baseline=0.0, ideal=0.0)
    )
    return Markup("<b>{}</b> {}<br>{}").format(number(score.value, 3), interval(score, 3), cell.state)


def _signed(value: float) -> str:
    text = number(value, 3)
    return text if text.startswith("−") or value == 0 else f"+{text}"


def _settings(sides: tuple[_Side, _Side]) -> Markup:
    old, new = (dict(_flat("", _asked(side.result))) for side in sides)
    names = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    if not names:
        return Markup("<p>Nothing: specification, seeds, code and versions are the same.</p>")
    rows = [(name, old.get(name, "–"), new.get(name, "–")) for name in names]
    return table(("", sides[0].name, sides[1].name), rows, label="Settings that differ")


def _asked(result: Any) -> dict[str, Any]:  # noqa: ANN401 - its kind says which
    """What a result was made from, as far as it says so."""
    common = {
        "seeds": ", ".join(map(str, result.seeds)),
        "versions": dict(result.versions),
        "own code": {part.part: ", ".join((*part.files, *part.installed)) for part in result.code},
    }
    if result.kind != "federation":
        return {**common, "specification": {k: v for k, v in result.spec.items() if k != "seeds"}}
    attacks = {
        one.label: {"name": one.name, "pipeline": one.pipeline, "threat": one.threat_sentence, **one.params}
        for one in result.attacks
    }
    stacks = {one.name: list(one.layers) or "no layers" for one in result.stacks}
    return {**common, "pipelines": dict(result.pipelines), "stacks": stacks, "attacks": attacks}


def _flat(path: str, value: object) -> Iterator[tuple[str, str]]:
    """Every leaf with its path."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _flat(f"{path}.{name}" if path else str(name), part)
    elif isinstance(value, (list, tuple)) and any(isinstance(part, Mapping) for part in value):
        for index, part in enumerate(value):
            yield from _flat(f"{path}[{index}]", part)
    else:
        yield path, str(list(value) if isinstance(value, tuple) else value)
