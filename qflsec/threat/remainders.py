"""Sums of one round that a coalition subtracts from each other.

Sums over overlapping sets of clients give smaller ones: where three sums over pairs of three clients are read, every
update is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from qflsec.threat.facts import LaneFacts
from qflsec.threat.sums import eliminate
from qflsec.threat.view import Item

__all__ = ["remainders"]

_ROUNDING = 1e-9
"""Coefficients are small fractions: two that differ do so by far more."""


def remainders(items: Sequence[Item], facts: LaneFacts) -> list[Item]:
    """What sums over different clients give by elimination: a sum less the sum of some of its clients, and so on.

    Args:
        items: What is read.
        facts: What is known of the run.

    Returns:
        Sums in which some client hides among fewer than in any that is read.
    """
    # a client trains once in a round, so its update of that round is one unknown, whatever it started from
    groups: dict[int, list[Item]] = {}
    for item in items:
        if item.kind in {"update", "aggregate"} and item.form == "plain":
            groups.setdefault(item.round, []).append(item)
    found: list[Item] = []
    for group in groups.values():
        singles = {next(iter(item.named)): item for item in group if item.is_single and not item.derived}
        # what contains a known update stands there a second time, without it
        unknown = {item.named: item for item in group if item.named and not item.named & frozenset(singles)}
        if len(unknown) > 1:
            found += _eliminated(list(unknown.values()), facts)
    return found


def _eliminated(sums: Sequence[Item], facts: LaneFacts) -> list[Item]:
    """Smaller sums than any that is held, by elimination among the sums of one round."""
    # a sum that counts otherwise than the examples say holds a client that lied: no equation of this system
    sums = [item for item in sums if facts.weight(item) == sum(facts.counts[c] for c in item.named)]
    if len(sums) < 2:
        return []
    everybody = sorted({client for item in sums for client in item.named})
    # the unknowns are the updates times their weights, so every coefficient is 0 or 1
    rows = np.array([[float(client in item.named) for client in everybody] for item in sums])
    reduced, makes = eliminate(rows)
    totals = torch.stack([item.vector.double() * facts.weight(item) for item in sums])
    bases = {item.base for item in sums}
    common = next(iter(bases)) if len(bases) == 1 else None
    found = []
    for row, combination in zip(reduced, makes, strict=True):
        about = frozenset(everybody[place] for place in np.flatnonzero(row))
        if not np.allclose(row[row != 0], 1.0, rtol=0, atol=_ROUNDING) or not _smaller(
            about, [item.named for item in sums]
        ):
            continue
        weight = sum(facts.counts[client] for client in about)
        value = (torch.from_numpy(combination)[:, None] * totals).sum(dim=0) / weight
        found.append(
            replace(
                sums[-1],
                kind="update" if len(about) == 1 else "aggregate",
                value=value.to(sums[-1].vector.dtype),
                weight=weight,
                about=about,
                base=facts.base(common, sums[-1].round, about),
                derived=True,
            )
        )
    return found


def _smaller(about: frozenset[int], held: Sequence[frozenset[int]]) -> bool:
    """Whether a sum hides some client among fewer than every sum that is held does."""
    return any(all(len(about) < len(other) for other in held if client in other) for client in about)
