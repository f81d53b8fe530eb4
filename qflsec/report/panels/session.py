"""The session account: what all runs together told of each data set."""

from __future__ import annotations

import math

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.session import data_sets, runs_over, session_accounts
from qflsec.report.html import fill, table
from qflsec.report.panel import Panel

__all__ = ["Session"]


@register("panel", "session")
class Session(Panel):
    """What all seeds and cells together have spent on each data set."""

    title = "The session: what all runs together tell of the same records"
    order = 70.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation with a run."""
        return isinstance(result, MatrixResult) and bool(result.runs)

    def render(self, result: MatrixResult) -> str:
        """One part for each data set."""
        accounts = session_accounts(result)
        header = ("observer", "unit", "runs", "with an epsilon", "these together", "all together", "without")
        parts = []
        for data, own in data_sets(result).items():
            rows = [
                (
                    account.observer,
                    f"{account.unit} ({account.adjacency})",
                    account.runs,
                    account.bounded,
                    f"ε = {account.together.epsilon:.3g}, δ = {account.together.delta:.2g}, {account.together.by}",
                    "∞" if math.isinf(account.epsilon) else f"ε = {account.epsilon:.3g}",
                    ", ".join(account.unbounded) or "–",
                )
                for account in accounts
                if account.data == data
            ]
            shown = table(header, rows) if rows else ""
            parts.append({"data": data, "own": own, "runs": len(runs_over(result, data)), "table": shown})
        return fill("panels/session.html.j2", parts=parts)
