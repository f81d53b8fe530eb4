"""The page: one HTML file with everything in it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qflsec.base import ConfigError, Score
from qflsec.lab.worlds.federation.results import Cell, MatrixResult
from qflsec.report.figures import cell_figures, tradeoff_figure, training_figure
from qflsec.report.tradeoff import GOALS, stack_points

__all__ = ["render_report", "write_report"]

STATES: dict[str, tuple[str, str, str]] = {
    "ok": ("", "measured", "The advantage with its 95 % interval; darker is a stronger attack."),
    "no power": (
        "≈",
        "no power",
        "The attack has no clear effect even without a defense: says nothing of any defense.",
    ),
    "blocked": (
        "⊘",
        "blocked",
        "What the attack needs does not exist in its view. Left out of every ranking.",
    ),
    "incompatible": ("∅", "incompatible", "The layers of the stack cannot work together."),
    "useless": (
        "†",
        "useless",
        "The stack's accuracy is not clear of chance: there is nothing left to attack.",
    ),
    "aborted": ("■", "aborted", "The protocol noticed something and stopped: a result, not an error."),
    "failed": ("✕", "failed", "A trial ended in an error, which is shown."),
    "pending": ("…", "pending", "Not run yet."),
}


def render_report(result: MatrixResult) -> str:
    """The page of a matrix, self-contained: it opens in a browser without a network.

    Args:
        result: What the matrix found.
    """
    tradeoffs = {goal: stack_points(result, goals) for goal, goals in GOALS.items()}
    figures: dict[str, Any] = {
        f"tradeoff-{goal}": tradeoff_figure(points, goal) for goal, points in tradeoffs.items() if points
    }
    training = training_figure(result)
    if training is not None:
        figures["training"] = training
    for key, cell in result.cells.items():
        for number, figure in enumerate(cell_figures(cell)):
            figures[f"{cell_id(*key)}-{number}"] = figure
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            families=_families(result),
            states=STATES,
            tradeoffs=tradeoffs,
            figures=figures,
            figure_data=_script_json(figures),
            css=_resource("report.css"),
            script=_resource("report.js"),
            plotly=_plotly(),
            summary=_summary(result),
        )
    )


def write_report(result: MatrixResult, path: Path) -> Path:
    """Write the page.

    Args:
        result: What the matrix found.
        path: Where to.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_report(result), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the report", got=f"{path}: {error.strerror}", fix="name another file with --report"
        ) from error
    return path


def cell_id(attack: str, stack: str) -> str:
    """The element id of a cell's drill-down."""
    return f"cell-{_slug(attack)}--{_slug(stack)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "x"


def _families(result: MatrixResult) -> list[tuple[str, list[Any]]]:
    found: dict[str, list[Any]] = {}
    for attack in result.attacks:
        found.setdefault(attack.family, []).append(attack)
    return list(found.items())


def _summary(result: MatrixResult) -> str:
    counts = {state: sum(cell.state == state for cell in result.cells.values()) for state in STATES}
    parts = [f"{count} {STATES[state][1]}" for state, count in counts.items() if count]
    seeds = len(result.seeds)
    return (
        f"{len(result.attacks)} attacks against {len(result.stacks)} stacks, {seeds} seed{'s' if seeds != 1 else ''}: "
        + ", ".join(parts)
        + "."
    )


def number(value: float | None, digits: int = 2) -> str:
    """A number for people; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if 0 < abs(value) < 10**-digits / 2 and digits > 2:
        return f"{value:.1e}".replace("-", "−")
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def interval(score: Score | None, digits: int = 2) -> str:
    """An interval for people; empty where one observation allows none."""
    if score is None or not (math.isfinite(score.low) and math.isfinite(score.high)):
        return ""
    return f"[{number(score.low, digits)}, {number(score.high, digits)}]"


def quantity(name: str, score: Score) -> str:
    """A cost for people, with the unit that its name ends in."""
    value = score.value
    if name.endswith("bytes"):
        return f"{value / 1000:.1f} kB"
    if name.endswith("seconds"):
        return f"{value:.2f} s"
    return f"{value:,.0f}"


def shade(cell: Cell) -> int:
    """The colour step of a measured cell, 0 (harmless) to 10 (perfect attack)."""
    if cell.advantage is None or not math.isfinite(cell.advantage.value):
        return 0
    return max(0, min(10, round(10 * cell.advantage.value)))


def grouped(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ledger rows that differ in nothing but the pipeline as one row that names all of them."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        rest = {key: value for key, value in row.items() if key not in {"pipeline", "seeds"}}
        kept = found.setdefault(json.dumps(rest, sort_keys=True), {**rest, "pipelines": []})
        if row["pipeline"] not in kept["pipelines"]:
            kept["pipelines"].append(row["pipeline"])
    return list(found.values())


def epsilon(row: Mapping[str, Any]) -> str:
    """The epsilon and delta of a ledger row for people."""
    value = row.get("epsilon")
    if value is None:
        return ""
    text = "∞" if value == "infinity" else f"{float(value):.3g}"
    return f"ε = {text}, δ = {row.get('delta'):g}" if row.get("delta") is not None else f"ε = {text}"


def _script_json(value: object) -> Markup:
    """JSON for a script element: nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def _resource(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704


@lru_cache(maxsize=1)
def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs().replace("</script", "<\\/script"))  # noqa: S704


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qflsec.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, interval=interval, shade=shade, epsilon=epsilon, grouped=grouped
    )
    environment.globals.update(cell_id=cell_id, quantity=quantity, pretty=_pretty)
    return environment


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, default=str, sort_keys=False)
