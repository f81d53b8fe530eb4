"""What each stack costs."""

from __future__ import annotations

from collections.abc import Mapping

from qflsec.base import Score, register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.html import fill, quantity, table
from qflsec.report.panel import Panel

__all__ = ["Costs"]


@register("panel", "costs")
class Costs(Panel):
    """Bytes, gradients, circuits and seconds of each stack's honest runs."""

    title = "Costs"
    order = 80.0

    def applies(self, result: object) -> bool:
        """Where an honest run has costs."""
        return isinstance(result, MatrixResult) and any(_costs(result, name) for name in result.summaries)

    def render(self, result: MatrixResult) -> str:
        """One row for each stack."""
        names = dict.fromkeys(name for stack in result.summaries for name in _costs(result, stack))
        rows = []
        for stack in result.stacks:
            costs = _costs(result, stack.name)
            cells = [quantity(name, costs[name]) if name in costs else "–" for name in names]
            rows.append((stack.name, *cells))
        header = ("stack", *(name.replace("_", " ") for name in names))
        return fill("panels/costs.html.j2", result=result, table=table(header, rows, numbers=True))


def _costs(result: MatrixResult, stack: str) -> Mapping[str, Score]:
    summary = result.summaries[stack].by_pipeline.get(result.utility_pipeline)
    return {} if summary is None else summary.costs
