"""The page of a session matrix: attacks by the quantum server against clients."""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qflsec.base import ConfigError, Score
from qflsec.lab.worlds.delegation import SessionMatrixResult

__all__ = ["CELL_FACES", "render_blind_report", "write_blind_report"]

CELL_FACES: dict[str, tuple[str, str, str]] = {
    "wrong result": (
        "✕",
        "wrong result",
        "A result is accepted that is off by more than shot noise and the tests' bound.",
    ),
    "leaks": ("◉", "leaks", "The server learned something beyond chance of angles, outcomes or rounds."),
    "aborted": ("■", "aborted", "Too many tests failed: the client released no result."),
    "within bound": ("≈", "within bound", "Accepted, and off by no more than the tests' bound allows."),
    "holds": ("✓", "holds", "Accepted, right within shot noise, and nothing was learned."),
}


def render_blind_report(result: SessionMatrixResult) -> str:
    """The page, self-contained: it opens in a browser without a network and without scripts.

    Args:
        result: What the matrix found.
    """
    environment = Environment(
        loader=PackageLoader("qflsec.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (Path(__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
    environment.globals["css"] = Markup(css)  # noqa: S704 - the package's own file
    environment.filters.update(figures=_figures)
    return environment.get_template("blind.html.j2").render(result=result, faces=CELL_FACES)


def write_blind_report(result: SessionMatrixResult, path: Path) -> Path:
    """Write the page.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.write_text(render_blind_report(result), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the report", got=f"{path}: {error.strerror}", fix="name another file with --report"
        ) from error
    return path


def _figures(score: Score | None) -> str:
    """A mean over seeds with its interval, for people."""
    if score is None:
        return "–"
    text = f"{score.value:.3f}"
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return text
    return f"{text} [{score.low:.3f}, {score.high:.3f}]"
