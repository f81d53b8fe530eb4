"""What a step says of each part of a model, where parts are means over different clients.

A step is then no mean of whole updates, but every part of it is one: over the clients that sent the part, known to all.
Whoever knows some of these clients' updates takes them off. Only steps of one round are taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from qflsec.threat.facts import LaneFacts
from qflsec.threat.versions import Origin, Part, Version
from qflsec.threat.view import Item

__all__ = ["part_sums"]


def part_sums(
    models: Mapping[Version, Item], singles: Mapping[int, Sequence[Item]], facts: LaneFacts
) -> list[Item]:
    """The means of single parts, each without the updates that are known.

    Args:
        models: The models that are read.
        singles: The updates of single clients that are read, by round.
        facts: What is known of the run.

    Returns:
        Items that are zero outside their part; nothing of a part whose updates are all known.
    """
    found: list[Item] = []
    vectors = {version: item.vector for version, item in models.items()}
    for version, after in models.items():
        origin = facts.versions[version]
        path = facts.versions.path(version, models) if origin.parts else None
        if path is None or len(path.origins) != 1:
            continue
        step = path.difference(after.vector, vectors) / path.factor
        known = {min(item.named): item for item in singles.get(origin.round, ())}
        for part in origin.parts:
            item = _rest(part, origin, step, known, after)
            found += [] if item is None else [item]
    return found


def _rest(
    part: Part, origin: Origin, step: torch.Tensor, known: Mapping[int, Item], after: Item
) -> Item | None:
    """The mean of a part over the clients in it whose updates are not known."""
    weights = {one.client: one.weight for one in origin.trained}
    scaled = {one.client: one.weight * one.scale for one in origin.trained}
    rest = part.clients - frozenset(known)
    if not rest:
        return None
    places = list(part.places)
    total = step[places].double() * sum(weights[index] for index in part.clients)
    for index in sorted(part.clients - rest):
        total = total - known[index].vector[places].double() * scaled[index]
    weight = sum(scaled[index] for index in rest)
    value = torch.zeros_like(step)
    value[places] = (total / weight).to(step.dtype)
    return replace(
        after,
        round=origin.round,
        kind="update" if len(rest) == 1 else "aggregate",
        value=value,
        weight=weight,
        about=rest,
        places=part.places,
        version=None,
        base=_base(origin, rest),
        derived=True,
    )


def _base(origin: Origin, clients: Iterable[int]) -> Version | None:
    found = {one.base for one in origin.trained if one.client in set(clients)}
    return next(iter(found)) if len(found) == 1 else None
