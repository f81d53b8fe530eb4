"""The page of a channel matrix: attack against countermeasure, *detected?* and *is a key still claimed?*."""

from __future__ import annotations

import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from qflsec.base import ConfigError, Score
from qflsec.lab.worlds.channel import ChannelCell, ChannelMatrixResult

__all__ = ["CELL_FACES", "render_channel_report", "write_channel_report"]

CELL_FACES: dict[str, tuple[str, str, str]] = {
    "false key": (
        "✕",
        "false key",
        "A key is claimed secure that the adversary knows: the worst that can happen.",
    ),
    "key holds": (
        "✓",
        "key holds",
        "A key is claimed, and it is no longer than what the adversary left secret.",
    ),
    "no key": ("■", "no key", "The run aborts: the adversary stopped it and learned no key."),
    "not applicable": ("∅", "not applicable", "The attack cannot be made on this line."),
}


def render_channel_report(result: ChannelMatrixResult) -> str:
    """The page, self-contained: it opens in a browser without a network and without scripts.

    Args:
        result: What the matrix found.
    """
    return _environment().get_template("channel.html.j2").render(result=result, faces=CELL_FACES)


def write_channel_report(result: ChannelMatrixResult, path: Path) -> Path:
    """Write the page.

    Raises:
        ConfigError: The file cannot be written.
    """
    try:
        path.write_text(render_channel_report(result), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            "cannot write the report", got=f"{path}: {error.strerror}", fix="name another file with --report"
        ) from error
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("qflsec.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = Path(__file__).parent / "templates"
    environment.globals["css"] = Markup((folder / "report.css").read_text(encoding="utf-8"))  # noqa: S704
    environment.filters.update(figures=_figures, noticed=_noticed)
    return environment


def _figures(score: Score | None, digits: int = 2) -> str:
    """A mean over seeds with its interval, for people."""
    if score is None:
        return "–"
    text = f"{score.value:,.{digits}f}"
    if not (math.isfinite(score.low) and math.isfinite(score.high)):
        return text
    return f"{text} [{score.low:,.{digits}f}, {score.high:,.{digits}f}]"


def _noticed(cell: ChannelCell) -> str:
    if not cell.outcomes:
        return ""
    if not cell.detected:
        return "not detected"
    n = len(cell.outcomes)
    return "detected" if cell.detected == n else f"detected in {cell.detected} of {n}"
