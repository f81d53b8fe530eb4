"""What a bound leaves of updates, and whether the layers behind it can work with that."""

from __future__ import annotations

from qflsec.base import IncompatibleStack
from qflsec.federation.layers import AggregatorLayer, BoundLayer, ServerLayer

__all__ = ["check_separate"]


def check_separate(earlier: ServerLayer, layer: ServerLayer) -> None:
    """Refuse a layer behind a bound that leaves it what its guarantee does not hold for.

    Args:
        earlier: A layer of the server.
        layer: One that acts after it.

    Raises:
        IncompatibleStack: It needs single clients behind means of groups, or updates that were treated each for itself.
    """
    if not isinstance(earlier, BoundLayer):
        return
    if earlier.regroups and not layer.over_groups:
        raise IncompatibleStack(
            f"{layer.card.name!r} needs single clients, but {earlier.card.name!r} before it leaves means of groups",
            fix=f"leave out {earlier.card.name!r}",
        )
    if not isinstance(layer, AggregatorLayer):
        return
    if layer.needs_separate and not earlier.separate:
        raise IncompatibleStack(
            f"{layer.card.name!r} has no epsilon behind {earlier.card.name!r}, which treats an update by what the "
            "others are: one client would move the sum by more than the clip norm",
            fix=f"leave out {earlier.card.name!r}, or give it a bound that does not depend on the updates",
        )
