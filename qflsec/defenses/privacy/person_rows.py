"""Rows of Gaussian noise for people with several records, or at several clients, by the mechanism itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from qflsec.accounting import LedgerRow, People
from qflsec.accounting.accountants import DpBound
from qflsec.accounting.group_privacy import GroupShare, epsilon_of_group
from qflsec.accounting.rows import joined
from qflsec.defenses.privacy.bounds import gaussian_bounds

__all__ = ["group_bound", "person_row"]


def group_bound(noise_multiplier: float, shares: Sequence[GroupShare], delta: float) -> DpBound:
    """The lowest proved epsilon of a group.

    Without sampling, and with as many steps everywhere, a step of all clients is one Gaussian mechanism whose
    sensitivity is the root of the sum of squared numbers of units, for which tighter accountants hold.

    Args:
        noise_multiplier: Noise standard deviation over the sensitivity of one unit.
        shares: The group's parts in the releases of each client.
        delta: The delta at which epsilon is stated.
    """
    found = [epsilon_of_group(noise_multiplier=noise_multiplier, shares=shares, delta=delta)]
    steps = {share.steps for share in shares}
    if len(steps) == 1 and all(share.rate == 1 for share in shares):
        length = math.sqrt(sum(share.records**2 for share in shares))
        found += gaussian_bounds(noise_multiplier / length, 1.0, steps.pop(), delta)
    return min(found, key=lambda bound: bound.epsilon)


def person_row(
    alike: LedgerRow,
    noise_multiplier: float,
    people: People,
    kinds: Sequence[tuple[int, ...]],
    shares: Callable[[tuple[int, ...]], Sequence[GroupShare]],
) -> LedgerRow:
    """The row for people, of the kind with the largest epsilon.

    Args:
        alike: A row for single units of the same mechanism, from which all conditions are taken.
        noise_multiplier: Noise standard deviation over the sensitivity of one unit.
        people: Who stands behind the records.
        kinds: What people have; one or more.
        shares: A kind's parts in the releases.
    """
    delta = alike.delta or 0.0
    bounds = {kind: group_bound(noise_multiplier, shares(kind), delta) for kind in kinds}
    kind, bound = max(bounds.items(), key=lambda found: found[1].epsilon)
    unsampled = None
    if bound.sampling == "Poisson":
        unsampled = max(
            group_bound(noise_multiplier, [replace(share, rate=1.0) for share in shares(each)], delta).epsilon
            for each in kinds
        )
    return replace(
        alike,
        statement=f"epsilon {bound.epsilon:.4g} at delta {delta:g} for each person, who has up to "
        f"{people.words(kind)}, by {bound.accountant}",
        epsilon=bound.epsilon,
        epsilon_unsampled=unsampled,
        unit="person",
        accountant=f"{bound.accountant} ({bound.version})",
        note=joined(
            alike.note,
            "take away all records of one person" if people.named else "equal records are one person's",
        ),
    )
