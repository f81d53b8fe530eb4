"""Whether a stack's robust layers promise anything against so many corrupted clients, and what is proved of them together."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.defenses.robust.base import RobustFilter, UpdateRule
from qflsec.federation import Layer

__all__ = ["outside_guarantee", "proved_kappa"]


def outside_guarantee(layers: Sequence[Layer], *, n: int, declared: int, corrupted: int) -> str:
    """Why the claims of a stack's robust layers do not hold, as a sentence; empty where they do, or there are none.

    Args:
        layers: The layers of a stack, in order.
        n: The number of clients in a round.
        declared: How many of them the server reckons to be corrupted.
        corrupted: How many really are.
    """
    reasons = []
    for layer in layers:
        if not isinstance(layer, RobustFilter | UpdateRule) or layer.robustness is None:
            continue
        name, needs_f = repr(layer.card.name), "declared f" in layer.robustness.needs
        if needs_f and corrupted > declared:
            reasons.append(
                f"{name} reckons with f = {declared} corrupted clients of {n}, and {corrupted} are"
            )
        elif (f := max(corrupted, declared) if needs_f else corrupted) > layer.most(n):
            reasons.append(f"{name} needs {layer.robustness.breakdown}, and n = {n}, f = {f}")
        if isinstance(layer, RobustFilter):
            n = layer.rows(n)
    return "; ".join(reasons)


def proved_kappa(layers: Sequence[Layer], *, n: int, f: int) -> float | None:
    """The kappa that is proved of a stack's filters and rule together; None where none is.

    Args:
        layers: The layers of a stack, in order.
        n: The number of clients in a round.
        f: How many of them are corrupted, and declared to be.
    """
    if outside_guarantee(layers, n=n, declared=f, corrupted=f):
        return None
    rule = next((layer for layer in layers if isinstance(layer, UpdateRule)), None)
    found = None if rule is None else rule.kappa(n, f)
    for layer in reversed(layers):
        if isinstance(layer, RobustFilter):
            found = layer.kappa(n, f, found)
    return found
