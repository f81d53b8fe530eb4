"""Protection against utility against cost, and how training went."""

from __future__ import annotations

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.html import fill
from qflsec.report.panel import Panel
from qflsec.report.tradeoff import GOALS, stack_points

__all__ = ["TradeOff", "Training"]


@register("panel", "tradeoff")
class TradeOff(Panel):
    """The strongest attack on each stack against its accuracy and its cost."""

    title = "Privacy, robustness, utility and cost"
    order = 40.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """A figure and a table for each goal."""
        from qflsec.report.figures import tradeoff_figure

        points = {goal: stack_points(result, goals) for goal, goals in GOALS.items()}
        figures = {goal: tradeoff_figure(found, goal) for goal, found in points.items() if found}
        return fill("panels/tradeoff.html.j2", tradeoffs=points, figures=figures)


@register("panel", "training")
class Training(Panel):
    """Accuracy over the rounds of the runs without an attack."""

    title = "Training without an attack"
    order = 50.0

    def applies(self, result: object) -> bool:
        """Where a run without an attack completed on the utility pipeline."""
        return isinstance(result, MatrixResult) and any(
            run.pipeline == result.utility_pipeline and not run.attack and run.accuracy for run in result.runs
        )

    def render(self, result: MatrixResult) -> str:
        """The figure."""
        from qflsec.report.figures import training_figure

        return fill("panels/training.html.j2", description=training_figure(result))
