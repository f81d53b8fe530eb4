"""Protection against utility against cost, and how training went."""

from __future__ import annotations

from qflsec.base import register
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.states import GOALS
from qflsec.report.figures import honest_runs, tradeoff_figure, training_figure
from qflsec.report.html import figure, fill
from qflsec.report.panel import Panel
from qflsec.report.states import STATES
from qflsec.report.tradeoff import stack_points

__all__ = ["TradeOff", "Training"]


@register("panel", "tradeoff")
class TradeOff(Panel):
    """The strongest attack on each stack against its accuracy and its cost, on one pipeline at a time."""

    title = "Privacy, robustness, utility and cost"
    order = 40.0

    def applies(self, result: object) -> bool:
        """For matrices of the federation."""
        return isinstance(result, MatrixResult)

    def render(self, result: MatrixResult) -> str:
        """A figure and a table for each goal and pipeline."""
        points = {
            (protects, pipeline): found
            for protects in GOALS
            for pipeline in result.pipelines
            if (found := stack_points(result, protects, pipeline))
        }
        looks = {stack.name: position for position, stack in enumerate(result.stacks)}
        figures = {key: tradeoff_figure(found, *key, looks) for key, found in points.items()}
        return fill("panels/tradeoff.html.j2", tradeoffs=points, figures=figures, states=STATES)


@register("panel", "training")
class Training(Panel):
    """Accuracy over the rounds of the runs without an attack."""

    title = "Training without an attack"
    order = 50.0

    def applies(self, result: object) -> bool:
        """Where a run without an attack completed on the utility pipeline."""
        return isinstance(result, MatrixResult) and bool(honest_runs(result))

    def render(self, result: MatrixResult) -> str:
        """The figure."""
        return figure(training_figure(result), "Test accuracy over the rounds for each stack")
