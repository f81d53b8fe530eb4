"""What accountants give for steps of DP-SGD, and what that says of a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache

from qflsec.audit.claim import Ruling

__all__ = ["ROUNDING", "SLACK", "above", "epsilons"]

SLACK = 1.02
"""Accountants differ by rounding; what is above this is no rounding, and what is below is not thereby proved."""
ROUNDING = 1e-9
"""An accountant's last digits differ between machines; a claim of what one gives may be so far below it, relatively."""


def epsilons(history: Sequence[tuple[float, float, int]], delta: float) -> dict[str, float]:
    """What each accountant of Opacus gives; infinity where a step has no noise.

    Args:
        history: Noise multiplier, rate of sampling and number of steps.
        delta: The delta.
    """
    return dict(_epsilons(tuple(history), delta))


@cache
def _epsilons(history: tuple[tuple[float, float, int], ...], delta: float) -> tuple[tuple[str, float], ...]:
    """Clients often make the same steps."""
    from opacus.accountants import PRVAccountant, RDPAccountant

    if any(sigma <= 0 for sigma, _, _ in history):
        return (("RDP", math.inf), ("PRV", math.inf))
    found = []
    for name, kind in (("RDP", RDPAccountant), ("PRV", PRVAccountant)):
        accountant = kind()
        accountant.history = list(history)
        found.append((name, float(accountant.get_epsilon(delta=delta))))
    return tuple(found)


def above(best: float, claimed: float, done: str, evidence: Mapping[str, float]) -> Ruling | None:
    """What is said of a claimed epsilon that is below all that accountants give; None where one proves it.

    The claim is refuted where it is more than the rounding of accountants below them, and not refuted otherwise.

    Args:
        best: The least that an accountant gives.
        claimed: The claimed epsilon.
        done: What was done, in words.
        evidence: The numbers behind it.
    """
    if best <= claimed * (1 + ROUNDING):
        return None
    if best <= claimed * SLACK:
        return Ruling(
            judgement="not refuted",
            why=f"accountants give {best:.5g} or more for what is done, which is above the claim by as little as they differ: {done}",
            ceiling="no accountant proves the claimed epsilon; a tighter one may",
            evidence=evidence,
        )
    return Ruling(
        judgement="refuted",
        why=f"accountants give {best:.4g} or more for what is done: {done}",
        ceiling="an accountant's epsilon is an upper bound: that the claim is false is not proved, that nothing proves it is",
        evidence=evidence,
    )
