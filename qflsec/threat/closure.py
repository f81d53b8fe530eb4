"""Closure: what a coalition can compute from what it sees.

Without it an attack would be called blocked although its coalition only has to add or subtract: two
consecutive models give the aggregate of a linear rule to everybody who reads them, and an aggregate less
the coalition's own updates gives the honest remainder. The number of examples of each client is taken as
known to every coalition: it is a small integer that can be enumerated, and withholding it would overstate
a protection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from qflsec.threat.party import Party
from qflsec.threat.view import Item

__all__ = ["LaneFacts", "close"]


@dataclass(kw_only=True)
class LaneFacts:
    """What is known of a run besides its messages.

    Attributes:
        counts: The number of examples of each client.
        participants: For each round, the clients whose updates were aggregated.
        linear: Whether the server's step is the weighted mean of the updates.
        server_learning_rate: The factor between the aggregate and the step.
    """

    counts: tuple[float, ...]
    linear: bool
    server_learning_rate: float
    participants: dict[int, frozenset[int]] = field(default_factory=dict)


def close(items: Sequence[Item], facts: LaneFacts, corrupted: frozenset[int]) -> tuple[Item, ...]:
    """The items together with all that follows from them, each with its anonymity set.

    Args:
        items: What the coalition sees, and what its layers let it compute.
        facts: What is known of the run.
        corrupted: The corrupted clients.
    """
    found = list(items)
    found.extend(_steps(found, facts))
    found.extend(_residuals(found, facts))
    counted = [item.with_k(_anonymity(item, found, corrupted)) for item in found]
    return tuple(sorted(counted, key=lambda item: (item.round, item.derived)))


def _steps(items: Sequence[Item], facts: LaneFacts) -> list[Item]:
    """Differences of consecutive models."""
    models: dict[int, dict[Party, Item]] = {}
    for item in items:
        if item.kind in {"model", "final-model"} and item.form == "plain":
            models.setdefault(item.round, {})[item.receiver] = item
    known = {item.round for item in items if item.kind == "aggregate" and item.form == "plain"}
    steps: list[Item] = []
    for round_index in sorted(models):
        after = models.get(round_index + 1)
        if after is None or round_index not in facts.participants:
            continue
        shared = sorted(set(models[round_index]) & set(after))
        before_item = models[round_index][shared[0]] if shared else next(iter(models[round_index].values()))
        after_item = after[shared[0]] if shared else next(iter(after.values()))
        if facts.linear and round_index in known:
            continue
        about = facts.participants[round_index]
        steps.append(
            Item(
                round=round_index,
                kind="aggregate" if facts.linear else "step",
                form="plain",
                value=(after_item.vector - before_item.vector) / facts.server_learning_rate,
                weight=sum(facts.counts[index] for index in about),
                about=about,
                sender=after_item.sender,
                receiver=after_item.receiver,
                derived=True,
            )
        )
    return steps


def _residuals(items: Sequence[Item], facts: LaneFacts) -> list[Item]:
    """Aggregates less the single updates that are known."""
    residuals: list[Item] = []
    for item in items:
        if item.kind != "aggregate" or item.form != "plain":
            continue
        known = _single_updates(items, item.round, item.about)
        rest = item.about - frozenset(known)
        if not known or not rest:
            continue
        weight = item.weight if item.weight is not None else sum(facts.counts[c] for c in item.about)
        total = item.vector.double() * weight
        for single in known.values():
            share = single.weight if single.weight is not None else facts.counts[next(iter(single.about))]
            total = total - single.vector.double() * share
            weight -= share
        if weight <= 0:
            continue
        residuals.append(
            replace(
                item,
                kind="update" if len(rest) == 1 else "aggregate",
                value=(total / weight).to(item.vector.dtype),
                weight=weight,
                about=rest,
                derived=True,
            )
        )
    return residuals


def _single_updates(items: Sequence[Item], round_index: int, among: frozenset[int]) -> dict[int, Item]:
    return {
        next(iter(item.about)): item
        for item in items
        if item.kind == "update"
        and item.form == "plain"
        and item.round == round_index
        and len(item.about) == 1
        and item.about <= among
        and not item.derived
    }


def _anonymity(item: Item, items: Sequence[Item], corrupted: frozenset[int]) -> int:
    honest = item.about - corrupted
    if item.form != "plain" or item.kind in {"model", "final-model", "announcement", "control"}:
        return len(honest)
    if len(item.about) == 1:
        return len(honest)
    known = frozenset(_single_updates(items, item.round, item.about))
    return len(honest - known)
