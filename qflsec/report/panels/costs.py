"""What each stack costs."""

from __future__ import annotations

from qflsec.base import register
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
        return isinstance(result, MatrixResult) and any(part.costs for part in result.summaries.values())

    def render(self, result: MatrixResult) -> str:
        """One row for each stack."""
        names = dict.fromkeys(name for summary in result.summaries.values() for name in summary.costs)
        rows = []
        for stack in result.stacks:
            costs = result.summaries[stack.name].costs
            cells = [quantity(name, costs[name]) if name in costs else "–" for name in names]
            rows.append((stack.name, *cells))
        header = ("stack", *(name.replace("_", " ") for name in names))
        return fill("panels/costs.html.j2", result=result, table=table(header, rows, numbers=True))
