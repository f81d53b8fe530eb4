"""HTML for panels: templates, tables, figures, and numbers for people."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from qflsec.base import Score
from qflsec.lab.grid.results import cause_words
from qflsec.report.chart import Chart
from qflsec.report.compiled import CompiledTemplates
from qflsec.report.svg import draw, keys

__all__ = [
    "cell_id",
    "figure",
    "fill",
    "interval",
    "ledger_id",
    "number",
    "quantity",
    "slug",
    "spread",
    "table",
]


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False, label: str = ""
) -> Markup:
    """A table; the first column names the rows, and numbers stand to the right.

    Args:
        header: The columns' headings.
        rows: Cells, escaped unless they are markup.
        numbers: Whether texts stand to the right as well: quantities with their units and intervals.
        label: What the table shows, for those who do not see it; its headings where empty.
    """
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in header)
    body = "".join(_row(row, numbers=numbers) for row in rows)
    name = escape(label or f"Table: {', '.join(header)}")
    return Markup(  # noqa: S704 - every text is escaped, once, by f-strings: a page has thousands of cells
        f'<div class="scroll" tabindex="0" role="group" aria-label="{name}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(row: Sequence[object], *, numbers: bool) -> str:
    first, *rest = row
    cells = []
    for value in rest:
        right = numbers or (isinstance(value, (int, float)) and not isinstance(value, bool))
        text = escape(number(value, 3) if isinstance(value, float) else value)
        cells.append(f'<td class="num">{text}</td>' if right else f"<td>{text}</td>")
    return f'<tr><th scope="row">{escape(first)}</th>{"".join(cells)}</tr>'


def figure(chart: Chart, label: str = "") -> Markup:
    """A figure with its title and its key.

    Args:
        chart: What is drawn.
        label: What it shows, for those who do not see it; the title where empty.
    """
    return Markup(
        '<figure class="figure"><figcaption>{}</figcaption>'
        '<div class="scroll" tabindex="0" role="group" aria-label="Figure">{}</div>{}</figure>'
    ).format(chart.title, draw(chart, label or chart.title), keys(chart))


def fill(template: str, **values: object) -> Markup:
    """A template of the package, filled; values are escaped."""
    return Markup(_environment().get_template(template).render(**values))  # noqa: S704 - it escapes


def number(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 10**-digits / 2 and digits > 2:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:,.{digits}f}"
    if text[0] != "-":
        return text
    return text.replace("-", "−") if text.strip("-0.") else text[1:]


def interval(score: Score | None, digits: int = 2) -> str:
    """An interval for people; empty where one observation allows none."""
    if score is None or not (math.isfinite(score.low) and math.isfinite(score.high)):
        return ""
    return f"[{number(score.low, digits)}, {number(score.high, digits)}]"


def _unbroken(score: Score | None, digits: int = 2) -> Markup:
    """An interval that stays on one line, but on narrow paper."""
    text = interval(score, digits)
    return Markup('<span class="iv">{}</span>').format(text) if text else Markup("")


def spread(score: Score | None, digits: int = 3) -> str:
    """A mean with its interval, for people."""
    return "–" if score is None else f"{number(score.value, digits)} {interval(score, digits)}".strip()


def quantity(name: str, score: Score) -> str:
    """A cost for people, with the unit that its name ends in."""
    value = score.value
    if name.endswith("bytes"):
        return f"{value / 1000:,.1f} kB"
    if name.endswith("seconds"):
        return f"{value:.2f} s"
    return f"{value:,.0f}"


def cell_id(attack: str, stack: str) -> str:
    """The element id of what is behind a cell."""
    return f"cell-{slug(attack)}--{slug(stack)}"


def ledger_id(stack: str, observer: str) -> str:
    """The element id of a stack's account for an observer."""
    return f"ledger-{slug(observer)}--{slug(stack)}"


def slug(text: str) -> str:
    """The text as a part of an element's id."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "x"


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qflsec.report"),
        bytecode_cache=CompiledTemplates(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, interval=_unbroken, spread=spread, causes=cause_words)
    environment.globals.update(
        cell_id=cell_id, ledger_id=ledger_id, quantity=quantity, figure=figure, pretty=_pretty
    )
    return environment


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, default=str, sort_keys=False)
