"""Privacy against utility against cost: which stacks no other stack beats in everything."""

from __future__ import annotations

from dataclasses import dataclass

from qflsec.base import Score
from qflsec.lab.results import MatrixResult

__all__ = ["StackPoint", "stack_points"]

COST = "network_bytes"


@dataclass(frozen=True, kw_only=True)
class StackPoint:
    """One stack as a point.

    Attributes:
        stack: Its name.
        worst_attack: The label of the strongest attack.
        worst: Its advantage; lower is better.
        utility: The accuracy; higher is better.
        cost: Bytes on the network in one run; lower is better. None where unknown.
        useless: Whether its accuracy is not clear of chance.
        non_dominated: Whether no other useful stack is at least as good in all three and better in one.
    """

    stack: str
    worst_attack: str
    worst: Score
    utility: Score
    cost: float | None
    useless: bool
    non_dominated: bool


def stack_points(result: MatrixResult) -> tuple[StackPoint, ...]:
    """The stacks that have both a scored attack and an accuracy.

    Units:
        cost: bytes
    """
    values: dict[str, tuple[float, float, float]] = {}
    for name, summary in result.summaries.items():
        if summary.worst is None or summary.utility is None:
            continue
        cost = summary.costs.get(COST)
        values[name] = (
            summary.worst[1].value,
            -summary.utility.value,
            float("inf") if cost is None else cost.value,
        )
    points = []
    for name, value in values.items():
        summary = result.summaries[name]
        assert summary.worst is not None
        assert summary.utility is not None
        rivals = [v for n, v in values.items() if n != name and not result.summaries[n].useless]
        points.append(
            StackPoint(
                stack=name,
                worst_attack=summary.worst[0],
                worst=summary.worst[1],
                utility=summary.utility,
                cost=None if value[2] == float("inf") else value[2],
                useless=summary.useless,
                non_dominated=not summary.useless and not any(_dominates(rival, value) for rival in rivals),
            )
        )
    return tuple(points)


def _dominates(rival: tuple[float, float, float], value: tuple[float, float, float]) -> bool:
    no_worse = all(a <= b for a, b in zip(rival, value, strict=True))
    return no_worse and rival != value
