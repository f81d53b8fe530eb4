"""Protection against utility against cost on one pipeline: which stacks no other stack beats in everything."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import MatrixResult, PipelineSummary, Strongest

__all__ = ["StackPoint", "stack_points"]

_COST = "network_bytes"


@dataclass(frozen=True, kw_only=True)
class StackPoint:
    """One stack as a point. Attack, accuracy and cost are of one pipeline.

    Attributes:
        stack: Its name.
        worst: The strongest attack; a lower advantage is better.
        utility: The accuracy; higher is better.
        cost: Bytes on the network in one run; lower is better. None where unknown.
        non_dominated: Whether it is ranked and no other ranked stack is at least as good in all three and better in
            one.
    """

    stack: str
    worst: Strongest
    utility: Score
    cost: float | None
    non_dominated: bool


def stack_points(result: MatrixResult, protects: str, pipeline: str) -> tuple[StackPoint, ...]:
    """The stacks that have both a scored attack of this kind and an accuracy on this pipeline.

    Args:
        result: What the matrix found.
        protects: ``"privacy"`` or ``"robustness"``.
        pipeline: The pipeline's name.

    Units:
        cost: bytes
    """
    found: dict[str, tuple[PipelineSummary, Strongest, Score]] = {}
    for name, stack in result.summaries.items():
        summary = stack.by_pipeline.get(pipeline)
        if summary is not None and summary.accuracy is not None and protects in summary.worst:
            found[name] = (summary, summary.worst[protects], summary.accuracy)
    # whoever does worse than guessing can guess, so a negative advantage protects no better than 0
    ranked = {
        name: (max(worst.advantage.value, 0.0), -accuracy.value, _cost(summary))
        for name, (summary, worst, accuracy) in found.items()
        if not worst.unranked
    }
    return tuple(
        StackPoint(
            stack=name,
            worst=worst,
            utility=accuracy,
            cost=_cost(summary) if math.isfinite(_cost(summary)) else None,
            non_dominated=name in ranked
            and not any(_dominates(rival, ranked[name]) for rival in ranked.values()),
        )
        for name, (summary, worst, accuracy) in found.items()
    )


def _cost(summary: PipelineSummary) -> float:
    spent = summary.costs.get(_COST)
    return math.inf if spent is None else spent.value


def _dominates(rival: tuple[float, float, float], value: tuple[float, float, float]) -> bool:
    no_worse = all(a <= b for a, b in zip(rival, value, strict=True))
    return no_worse and rival != value
