"""What a robust rule promises: how many corrupted clients it stands, what it needs, and how far its step can be off.

A rule F is (f, kappa)-robust where, for any n updates and any n - f of them with mean m,
``|F - m|^2 <= kappa * (their mean squared distance from m)``: it does not matter which n - f are the honest ones.
No rule has a kappa below f / (n - 2f), and none has one once half of the updates are corrupted (the definition is that of
Allouah et al., AISTATS 2023, arXiv:2302.01772). A rule states a kappa only where ``docs/robust.md`` derives it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Need", "Robustness", "minority", "share"]

Need = Literal["declared f", "server data", "client momentum", "client identities", "randomness"]
"""What a rule needs to keep its promise."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What a rule states of itself, for tables.

    Attributes:
        breakdown: How many of n clients may be corrupted, as a condition.
        needs: What it needs.
        proved: Whether ``docs/robust.md`` derives a kappa; otherwise the condition is that of its paper.
    """

    breakdown: str
    needs: tuple[Need, ...]
    proved: bool = False


def minority(n: int) -> int:
    """The largest number of clients that is fewer than half of ``n``.

    >>> [minority(n) for n in (1, 2, 3, 10)]
    [0, 0, 1, 4]
    """
    return (n - 1) // 2


def share(n: int, f: int) -> float:
    """The ratio r = f / (n - 2f) that bounds of kappa are made of.

    Args:
        n: The number of updates.
        f: The number of corrupted ones, fewer than half.

    >>> share(20, 4)
    0.3333333333333333
    """
    return f / (n - 2 * f)
