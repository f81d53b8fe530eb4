"""The page's tables for other programs: links that hold their files, so that they work without a server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup

from qflsec.base import register
from qflsec.lab.grid.results import Result
from qflsec.lab.tables import cells_csv, latex, ledger_csv, trials_csv
from qflsec.report.html import fill, slug
from qflsec.report.panel import Panel

__all__ = ["Downloads"]

_MOST_BYTES = 1_000_000
"""Browsers refuse addresses beyond 2 MB, and a page that carries much more than it shows is slow to open."""


@register("panel", "downloads")
class Downloads(Panel):
    """The matrix, its trials and the ledger as CSV, and the matrix as LaTeX."""

    title = "Downloads"
    order = 120.0

    def applies(self, result: object) -> bool:
        """For matrices of every kind."""
        return isinstance(result, Result)

    def render(self, result: Result[Any]) -> str:
        """A link for each file."""
        links = [_link(result.name, *file) for file in _files(result)]
        return fill("panels/downloads.html.j2", links=links)


def _files(result: Result[Any]) -> Iterator[tuple[str, str, str, str, str]]:
    """Ending, type, text, what it is, and the format by which the command line writes it."""
    csv = "text/csv"
    yield "cells.csv", csv, cells_csv(result), "the matrix: a line for each cell", "csv-cells"
    yield "trials.csv", csv, trials_csv(result), "all trials: a line for each seed of each cell", "csv"
    if result.kind == "federation":
        yield "ledger.csv", csv, ledger_csv(result), "the ledger: a line for each statement", "csv-ledger"
    yield "matrix.tex", "text/x-tex", latex(result), "the matrix as a LaTeX table (booktabs)", "latex"


def _link(name: str, ending: str, kind: str, text: str, what: str, form: str) -> Markup:
    content = text.encode()
    if len(content) > _MOST_BYTES:
        return Markup(
            "{}: too large for a page; write it by <code>qflsec matrix export --format {}</code>"
        ).format(what, form)
    file, data = f"{slug(name)}-{ending}", base64.b64encode(content).decode()
    return Markup('<a download="{}" href="data:{};charset=utf-8;base64,{}">{}</a> {}').format(
        file, kind, data, file, what
    )
