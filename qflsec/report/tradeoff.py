"""Protection against utility against cost: which stacks no other stack beats in everything."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qflsec.base import Score
from qflsec.lab.worlds.federation.results import MatrixResult

__all__ = ["GOALS", "StackPoint", "stack_points"]

GOALS = {"privacy": frozenset({"confidentiality"}), "robustness": frozenset({"integrity", "availability"})}
"""What a stack protects, and the goals of the attacks on it."""
_COST = "network_bytes"
_STRENGTH = frozenset({"ok", "useless", "lost"})


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


def stack_points(result: MatrixResult, goals: frozenset[str]) -> tuple[StackPoint, ...]:
    """The stacks that have both a scored attack with one of these goals and an accuracy.

    Args:
        result: What the matrix found.
        goals: The goals of the attacks that count.

    Units:
        cost: bytes
    """
    found: dict[str, tuple[str, Score, Score, float]] = {}
    for name, summary in result.summaries.items():
        strongest = _worst(result, name, goals)
        if strongest is None or summary.utility is None:
            continue
        spent = summary.costs.get(_COST)
        found[name] = (*strongest, summary.utility, math.inf if spent is None else spent.value)
    # whoever does worse than guessing can guess, so a negative advantage protects no better than 0
    values = {
        n: (max(worst.value, 0.0), -utility.value, cost) for n, (_, worst, utility, cost) in found.items()
    }
    points = []
    for name, (label, worst, utility, cost) in found.items():
        rivals = [v for n, v in values.items() if n != name and not result.summaries[n].useless]
        useless = result.summaries[name].useless
        points.append(
            StackPoint(
                stack=name,
                worst_attack=label,
                worst=worst,
                utility=utility,
                cost=cost if math.isfinite(cost) else None,
                useless=useless,
                non_dominated=not useless and not any(_dominates(rival, values[name]) for rival in rivals),
            )
        )
    return tuple(points)


def _worst(result: MatrixResult, stack: str, goals: frozenset[str]) -> tuple[str, Score] | None:
    """The strongest scored attack; cells without power say nothing and do not count."""
    found = [
        (attack.label, cell.advantage)
        for attack in result.attacks
        if attack.goal in goals
        for cell in (result.cells[attack.label, stack],)
        if cell.state in _STRENGTH and cell.advantage is not None and math.isfinite(cell.advantage.value)
    ]
    return max(found, key=lambda pair: pair[1].value, default=None)


def _dominates(rival: tuple[float, float, float], value: tuple[float, float, float]) -> bool:
    no_worse = all(a <= b for a, b in zip(rival, value, strict=True))
    return no_worse and rival != value
