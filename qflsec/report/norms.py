"""How long the updates of single clients were in each round: a figure for each stack, and its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from markupsafe import Markup

from qflsec.report.chart import Axis, Chart, Series
from qflsec.report.html import figure, number, table

__all__ = ["norm_figures"]

_Row = Sequence[float | None]

_MOST_LINES = 12
_LARGE = 20.0
_LIAR = 1  # the colour and marker of the first corrupted client


def norm_figures(title: str, facts: Mapping[str, Mapping[str, Any]]) -> Markup:
    """A figure for each stack, all with the same axis of norms so that they can be compared, and a table of each.

    Args:
        title: What the runs have in common.
        facts: What is known of the clients of each stack's run; runs without norms are left out.
    """
    known = {stack: told for stack, told in facts.items() if any(map(_known, told.get("norms", ())))}
    if not known:
        return Markup("")
    axis = _axis([value for told in known.values() for row in told["norms"] for value in _known(row)])
    parts = [
        Markup("<div>{}<details><summary>As a table</summary>{}</details></div>").format(
            figure(
                Chart(title=stack, x=Axis(label="round"), y=axis, series=_series(told), height=250),
                f"Norms of the clients' updates by round, {title}, stack {stack}; the table below has the numbers",
            ),
            _table(f"Norms of updates: {title}, stack {stack}", told),
        )
        for stack, told in known.items()
    ]
    return Markup('<p><b>L2 norm of each client\u2019s update</b></p><div class="figures">{}</div>').format(
        Markup("").join(parts)
    )


def _known(row: _Row) -> list[float]:
    return [value for value in row if value is not None]


def _axis(values: Sequence[float]) -> Axis:
    """Logarithmic where the largest update dwarfs the smallest; a norm of 0 has no place on such an axis."""
    low, high = min(values), max(values)
    if low > 0 and high > _LARGE * low:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        return Axis(label="L2 norm (logarithmic)", log=True, low=low, high=high)
    return Axis(label="L2 norm", low=0.0, high=1.06 * high or 1.0)


def _series(told: Mapping[str, Any]) -> list[Series]:
    honest, corrupted = _members(told)
    many = f"honest clients{': smallest, median, largest' if len(honest) > _MOST_LINES else ''}"
    usual = _lines(told, honest, "honest").values()
    odd = _lines(told, corrupted, "corrupted").items()
    return [
        *(_line(values, name="" if place else many, size=4.0) for place, values in enumerate(usual)),
        *(_line(values, name=name, size=9.0, look=_LIAR + place) for place, (name, values) in enumerate(odd)),
    ]


def _line(values: _Row, *, name: str, size: float, look: int | None = None) -> Series:
    """The rounds in which there is a value; an honest client's line is drawn in the colour of the axes.

    It has marks only where rounds are missing, which a line alone would hide: marks are most of a page's size.
    """
    rounds = [index for index, value in enumerate(values) if value is not None]
    return Series(
        name=name,
        x=[index + 1 for index in rounds],
        y=_known(values),
        kind="line" if look is None and 1 < len(rounds) == len(values) else "marked line",
        look=look or 0,
        muted=look is None,
        size=size,
    )


def _members(told: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    clients = range(len(told["norms"][0]))
    corrupted = set(told["corrupted"])
    return [i for i in clients if i not in corrupted], [i for i in clients if i in corrupted]


def _lines(told: Mapping[str, Any], members: Sequence[int], kind: str) -> dict[str, _Row]:
    """The norms of each of these clients by round; of many, the smallest, the median and the largest."""
    columns: dict[str, _Row] = {
        f"client {index} ({kind})": [row[index] for row in told["norms"]] for index in members
    }
    if len(members) <= _MOST_LINES:
        return columns
    rounds = [_known([row[index] for index in members]) for row in told["norms"]]
    ways: dict[str, Callable[[list[float]], float]] = {"smallest": min, "median": median, "largest": max}
    return {
        f"{word} of {len(members)} {kind} clients": [way(values) if values else None for values in rounds]
        for word, way in ways.items()
    }


def _table(label: str, told: Mapping[str, Any]) -> Markup:
    honest, corrupted = _members(told)
    lines = {**_lines(told, corrupted, "corrupted"), **_lines(told, honest, "honest")}
    rows = [
        (str(index + 1), *(number(values[index], 3) for values in lines.values()))
        for index in range(len(told["norms"]))
    ]
    return table(("round", *lines), rows, numbers=True, label=label)
