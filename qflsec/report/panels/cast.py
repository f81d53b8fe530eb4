"""The stacks and the attacks: what they claim, and their parameters."""

from __future__ import annotations

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.html import fill
from qflsec.report.panel import Panel

__all__ = ["Cast"]


@register("panel", "cast")
class Cast(Panel):
    """The layers of each stack with their claims, and each attack with its threat model."""

    title = "Stacks and attacks"
    order = 90.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """All of them, folded."""
        return fill("panels/cast.html.j2", result=result)
