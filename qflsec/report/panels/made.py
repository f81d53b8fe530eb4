"""How a page was made: the command, versions, and what the ids of its results cover."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qflsec.base import register
from qflsec.lab import Result
from qflsec.lab.worlds.channel import ChannelMatrixResult
from qflsec.lab.worlds.delegation import SessionMatrixResult
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.html import fill, table
from qflsec.report.panel import Panel

__all__ = ["Code", "Made"]


@register("panel", "code")
class Code(Panel):
    """The user's code that the results' ids cover, and what they cannot cover."""

    title = "Your code"
    order = 100.0

    def applies(self, result: object) -> bool:
        """Where a plugin or a file of the user's made a part of the result."""
        return isinstance(result, Result) and bool(result.code)

    def render(self, result: Result[Any]) -> str:
        """One row for each part."""
        rows = [
            (part.part, ", ".join(part.files), ", ".join(part.installed), "; ".join(part.not_covered))
            for part in result.code
        ]
        header = ("part", "covered by content", "covered by version", "not covered")
        return fill("panels/code.html.j2", table=table(header, rows))


@register("panel", "made")
class Made(Panel):
    """The command, the seeds, the versions and the specification."""

    title = "How this page was made"
    order = 110.0

    def applies(self, result: object) -> bool:
        """For matrices of every kind."""
        return isinstance(result, (MatrixResult, ChannelMatrixResult, SessionMatrixResult))

    def render(self, result: MatrixResult | ChannelMatrixResult | SessionMatrixResult) -> str:
        """What it takes to make it again."""
        parts: Mapping[str, Any] = (
            {f"pipeline “{name}”": config for name, config in result.pipelines.items()}
            if isinstance(result, MatrixResult)
            else {"specification": result.spec}
        )
        rows = [*result.versions.items(), ("seeds", ", ".join(map(str, result.seeds)))]
        versions = table(("package", "version"), rows)
        data = _data(result) if isinstance(result, MatrixResult) and result.data else ""
        return fill("panels/made.html.j2", result=result, versions=versions, parts=parts, data=data)


def _data(result: MatrixResult) -> str:
    """The data of each pipeline: classes by name, features, whose they are, and what is odd about them."""
    rows = [
        (
            name,
            _counted(facts["classes"]),
            ", ".join(facts["features"]),
            _counted(facts["clients"]) or "drawn",
            facts["fitted_on"],
            "; ".join(facts["remarks"]) or "nothing",
        )
        for name, facts in result.data.items()
    ]
    header = (
        "pipeline",
        "classes (records)",
        "features",
        "clients (training records)",
        "fitted on",
        "noticed",
    )
    return table(header, rows, label="The data of each pipeline")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in counts.items())
