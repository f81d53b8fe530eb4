"""Charts as SVG that the page's style sheet colours: drawn without a script, on paper and in both colour schemes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from qflsec.report.chart import Chart, Interval, Scale, Series, scale_of
from qflsec.report.marks import Point, look_of, marker, path

__all__ = ["draw", "keys"]

_WIDTH = 560
_LEFT, _RIGHT, _TOP = 58, 12, 10
_GLYPH = 6.6  # the width of a letter of the axes

_Group = list[str]  # elements whose texts are escaped; only the whole is Markup, which takes time to make


def draw(chart: Chart, label: str) -> Markup:
    """The chart as an ``svg`` element.

    Args:
        chart: The chart.
        label: What it shows, for those who do not see it.
    """
    names = dict.fromkeys(value for one in chart.series for value in one.x if isinstance(value, str))
    slanted = sum(len(name) + 1 for name in names) * _GLYPH > _WIDTH - _LEFT
    bottom = 46 + (int(max(map(len, names), default=0) * _GLYPH) - 12 if slanted else 0)
    height = chart.height + bottom - 46
    across = scale_of(
        chart.x,
        [value for one in chart.series for value in one.x],
        [pair for one in chart.series for pair in one.x_intervals],
        start=_LEFT,
        end=_WIDTH - _RIGHT,
    )
    up = scale_of(
        chart.y,
        [*(value for one in chart.series for value in one.y), *chart.levels, *_floor(chart)],
        [pair for one in chart.series for pair in one.y_intervals],
        start=height - bottom,
        end=_TOP,
    )
    parts = [*_axes(chart, across, up, height, slanted=slanted)]
    bars = [one for one in chart.series if one.kind == "bars"]
    for position, one in enumerate(chart.series):
        slot = (bars.index(one), len(bars)) if one.kind == "bars" else (0, 1)
        parts.append(_series(one, position, across, up, slot))
    return Markup(  # noqa: S704 - escaped
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def keys(chart: Chart) -> Markup:
    """The key of the chart as a list; empty where no series has a name."""
    items = [
        f'<li><svg viewBox="0 0 26 14" aria-hidden="true" class="key">{_sample(one, position)}</svg>'
        f"{escape(one.name)}</li>"
        for position, one in enumerate(chart.series)
        if one.name
    ]
    return Markup(f'<ul class="keys">{"".join(items)}</ul>' if items else "")  # noqa: S704 - escaped


def _floor(chart: Chart) -> tuple[float, ...]:
    """Bars begin at 0, which must be seen."""
    return (0.0,) if any(one.kind == "bars" for one in chart.series) and not chart.y.log else ()


def _axes(chart: Chart, across: Scale, up: Scale, height: int, *, slanted: bool) -> _Group:
    left, right, bottom, top = across.start, across.end, up.start, up.end
    parts = []
    for value, text in up.ticks():
        y = up(value)
        parts.append(_line((left, y), (right, y), "grid"))
        parts.append(_text(left - 7, y + 4, text, anchor="end"))
    for value, text in across.ticks():
        x = across(value)
        if not across.names:
            parts.append(_line((x, bottom), (x, top), "grid"))
        turn = f"rotate(-90 {x:.1f} {bottom + 8:.1f})" if slanted else ""
        parts.append(_text(x + (4 if slanted else 0), bottom + (8 if slanted else 17), text, anchor="end" if slanted else "middle", turn=turn))  # fmt: skip
    parts += [_line((left, up(level)), (right, up(level)), "level") for level in chart.levels]
    parts.append(_line((left, bottom), (right, bottom), "axis"))
    parts.append(_line((left, bottom), (left, top), "axis"))
    parts.append(_text((left + right) / 2, height - 6, chart.x.label, kind="name"))
    middle = (bottom + top) / 2
    parts.append(_text(13, middle, chart.y.label, kind="name", turn=f"rotate(-90 13 {middle:.1f})"))
    return parts


def _series(one: Series, position: int, across: Scale, up: Scale, slot: tuple[int, int]) -> str:
    colour, shape = _look(one, position)
    points = [(across(x) + _shift(across, slot), up(y)) for x, y in zip(one.x, one.y, strict=True)]
    parts = [_whiskers(one, points, across, up)]
    if one.kind == "bars":
        width = 0.7 * across.band / slot[1]
        parts += [_bar(x, y, width, up(0.0), hint) for (x, y), hint in zip(points, _hints(one), strict=True)]
    elif one.kind != "points":
        route = _stairs(points) if one.kind == "steps" else points
        dashed = ' stroke-dasharray="5 4"' if one.dashed else ""
        parts.insert(0, f'<path class="line" d="{path(route)}"{dashed}/>')
    if one.kind in {"points", "marked line"}:
        kind = f"mark{' hollow' * one.hollow}{' rim' * one.rim}"
        parts += [
            f'<path class="{kind}" d="{marker(shape, *point, one.size)}">{_title(hint)}</path>'
            for point, hint in zip(points, _hints(one), strict=True)
            if all(map(math.isfinite, point))
        ]
    parts += [
        _text(x, y - 6, label, kind="value")
        for (x, y), label in zip(points, one.labels, strict=False)
        if label
    ]
    return f'<g class="{colour}">{"".join(parts)}</g>'


def _sample(one: Series, position: int) -> str:
    """What a series looks like, for the key."""
    colour, shape = _look(one, position)
    parts = []
    if one.kind == "bars":
        parts.append(_bar(13, 2, 14, 12, ""))
    elif one.kind != "points":
        dashed = ' stroke-dasharray="5 4"' if one.dashed else ""
        parts.append(f'<path class="line" d="M1 7L25 7"{dashed}/>')
    if one.kind in {"points", "marked line"}:
        kind = f"mark{' hollow' * one.hollow}{' rim' * one.rim}"
        parts.append(f'<path class="{kind}" d="{marker(shape, 13, 7, 10)}"/>')
    return f'<g class="{colour}">{"".join(parts)}</g>'


def _look(one: Series, position: int) -> tuple[str, int]:
    colour, shape = look_of(position if one.look is None else one.look)
    return ("muted" if one.muted else colour), shape


def _shift(across: Scale, slot: tuple[int, int]) -> float:
    """Bars of several series stand side by side."""
    return 0.7 * across.band * ((slot[0] + 0.5) / slot[1] - 0.5) if slot[1] > 1 else 0.0


def _whiskers(one: Series, points: Sequence[Point], across: Scale, up: Scale) -> str:
    ends: list[tuple[Point, Point]] = []
    for (_, y), pair in zip(points, one.x_intervals, strict=False):
        if _finite(pair):
            ends.append(((across(pair[0]), y), (across(pair[1]), y)))
    for (x, _), pair in zip(points, one.y_intervals, strict=False):
        if _finite(pair):
            ends.append(((x, up(pair[0])), (x, up(pair[1]))))
    route = "".join(path(pair) for pair in ends)
    return f'<path class="whisker" d="{route}"/>' if route else ""


def _finite(pair: Interval) -> bool:
    return all(map(math.isfinite, pair))


def _stairs(points: Sequence[Point]) -> list[Point]:
    """From each point straight across, then up."""
    route = list(points[:1])
    for before, after in pairwise(points):
        route += [(after[0], before[1]), after]
    return route


def _hints(one: Series) -> Sequence[str]:
    return one.hints or [""] * len(one.y)


def _title(hint: str) -> str:
    return f"<title>{escape(hint)}</title>" if hint else ""


def _bar(x: float, y: float, width: float, floor: float, hint: str) -> str:
    top, tall = min(y, floor), abs(floor - y)
    place = f'x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{tall:.1f}"'
    return f'<rect class="bar" {place}>{_title(hint)}</rect>'


def _line(start: Point, end: Point, kind: str) -> str:
    return f'<path class="{kind}" d="{path([start, end])}"/>'


def _text(
    x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "tick", turn: str = ""
) -> str:
    turned = f' transform="{turn}"' if turn else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'
