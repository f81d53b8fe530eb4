"""The page: one HTML file with everything in it, made of panels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from markupsafe import Markup

from qflsec.base import ConfigError, find, names
from qflsec.base.failures import traceback_of
from qflsec.report.chart import Chart
from qflsec.report.html import fill, slug
from qflsec.report.panel import Panel

__all__ = [
    "Reportable",
    "render_figure",
    "render_report",
    "render_sections",
    "render_waiting",
    "write_report",
]

_SCRIPTS = ("matrix.js", "report.js", "downloads.js")
_LIVE_SCRIPT = "live.js"


class Reportable(Protocol):
    """What the page itself takes of a result; everything else is the panels'."""

    @property
    def name(self) -> str:
        """The matrix's name."""

    @property
    def description(self) -> str:
        """What it is for."""

    @property
    def created(self) -> str:
        """UTC time, ISO 8601."""


def render_report(result: Reportable, *, live: str = "", nonce: str = "") -> str:
    """The page of a result, self-contained: it opens in a browser without a network.

    Args:
        result: What a matrix found.
        live: The version of a page that is served while the matrix runs; empty for one that stands alone.
        nonce: What the server's policy knows the page's own scripts and styles by.
    """
    sections = [section for name in names("panel") if (section := _section(name, result)) is not None]
    sections.sort(key=lambda section: (section["order"], section["id"]))
    return fill(
        "page.html.j2",
        result=result,
        sections=sections,
        css=_resource("report.css"),
        scripts=[_resource(name) for name in (*_SCRIPTS, *([_LIVE_SCRIPT] if live else ()))],
        live=live,
        nonce=_nonce(nonce),
    )


def render_sections(head: Reportable, sections: Mapping[str, str]) -> str:
    """A page that is no result's: of given sections.

    Args:
        head: Its name and what it is of.
        sections: HTML by heading.
    """
    made = [
        {"id": f"panel-{slug(title)}".lower(), "title": title, "failure": "", "content": Markup(content)}  # noqa: S704 - HTML by contract
        for title, content in sections.items()
    ]
    css, scripts = _resource("report.css"), [_resource(name) for name in _SCRIPTS]
    return fill(
        "page.html.j2", result=head, sections=made, css=css, scripts=scripts, live="", nonce=_nonce("")
    )


def render_waiting(reason: str, *, live: str, nonce: str) -> str:
    """The page that is served where nothing can be shown yet.

    Args:
        reason: Why.
        live: The version.
        nonce: What the server's policy knows the page's own scripts and styles by.
    """
    css, script = _resource("report.css"), _resource(_LIVE_SCRIPT)
    return fill("waiting.html.j2", reason=reason, css=css, script=script, live=live, nonce=_nonce(nonce))


def render_figure(chart: Chart) -> str:
    """The page of a single figure, self-contained."""
    return fill("figure.html.j2", chart=chart, css=_resource("report.css"))


def write_report(result: Reportable, path: Path) -> Path:
    """Write the page.

    Args:
        result: What a matrix found.
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


def _section(name: str, result: Reportable) -> dict[str, Any] | None:
    """What the page shows of a panel; its error where it fails, so that it takes no other down."""
    kind: type[Panel] = find("panel", name)
    section = {"id": f"panel-{slug(name)}", "title": kind.title, "order": kind.order, "failure": ""}
    try:
        panel = kind()
        if not panel.applies(result):
            return None
        return {**section, "content": Markup(panel.render(result))}  # noqa: S704 - HTML by contract
    except Exception as error:  # noqa: BLE001 - whatever it is stands in the panel's place
        failure = f"{type(error).__name__}: {error}"
        return {**section, "content": "", "failure": failure, "traceback": traceback_of(error)}


def _nonce(value: str) -> Markup:
    return Markup(' nonce="{}"').format(value) if value else Markup("")


def _resource(name: str) -> Markup:
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704
