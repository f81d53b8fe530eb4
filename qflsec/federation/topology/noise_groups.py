"""Groups of clients whose devices are about as noisy, for a hierarchy with an edge server for each."""

from __future__ import annotations

from collections.abc import Sequence

from qflsec.base import ConfigError

__all__ = ["groups_by_error"]


def groups_by_error(errors: Sequence[float], groups: int) -> tuple[int, ...]:
    """The group of each client: clients in the order of their errors, cut at the largest steps between neighbours.

    For numbers on a line these are the groups of single linkage. Group 0 has the best devices. The result is what ``members`` of a
    hierarchy takes; whoever knows it knows which clients have a device of the same kind.

    Args:
        errors: The error of each client's device, reported or estimated, such as :func:`~qflsec.models.device_error` gives.
        groups: How many groups.

    Raises:
        ConfigError: There are fewer different errors than groups, or no group.

    >>> groups_by_error([0.1, 0.5, 0.12, 0.48], 2)
    (0, 1, 0, 1)
    """
    known = sorted(set(errors))
    if not 1 <= groups <= len(known):
        raise ConfigError(
            "clients cannot be grouped by their devices",
            got=f"{groups} groups of {len(known)} different errors",
            expected="at least one group, and no more than there are different errors",
        )
    steps = sorted(range(1, len(known)), key=lambda k: known[k] - known[k - 1], reverse=True)
    cuts = sorted(known[k] for k in steps[: groups - 1])
    return tuple(sum(error >= cut for cut in cuts) for error in errors)
