"""Angles live on a torus: a rotation by ``theta`` and one by ``theta`` and a period are the same circuit.

A client may add whole periods to its angles. Its model is the same, and the mean of all models another one. *Differences*
from the broadcast model are therefore reduced to half a period either way, by each weight's own period, before a rule
compares them. Reducing the *absolute* angles instead does harm without an attacker: honest clients at either side of the
cut, at ``pi - 0.1`` and ``-pi + 0.1``, have the mean 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qflsec.base import DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.rows import Array, Updates, like
from qflsec.federation import BoundLayer, RoundUpdates

__all__ = ["WrapAngles", "period_array", "reduce_differences", "reduced"]

Periods = Sequence[float | None]
"""The period of each parameter; None where it has none."""


def period_array(periods: Periods, d: int) -> Array:
    """The periods as numbers; infinity where a parameter has none.

    Args:
        periods: The period of each parameter.
        d: The number of parameters.

    Raises:
        UpdateError: There is not one period for each, or one is not positive.
    """
    if len(periods) != d:
        raise UpdateError("there is not one period for each parameter", got=len(periods), expected=d)
    found = np.array([np.inf if period is None else period for period in periods], dtype=np.float64)
    if not (found > 0).all():
        raise UpdateError(
            "a period is not positive", got=float(found[~(found > 0)][0]), expected="positive, or None"
        )
    return found


def reduce_differences(updates: Updates, periods: Periods) -> Updates:
    """Reduce each coordinate to ``(-T/2, T/2]`` by its own period T; what lies inside stays as it is, bit for bit.

    Args:
        updates: Differences from the broadcast model, a row for each client.
        periods: The period T of each parameter; None where it has none.

    Shapes:
        updates: ``(..., d)``; periods: ``(d,)``; returns: ``(..., d)``

    Raises:
        UpdateError: There is not one positive period for each parameter.
    """
    values = updates.detach().cpu().numpy() if isinstance(updates, torch.Tensor) else updates
    period = period_array(periods, values.shape[-1])
    half = (period / 2).astype(values.dtype)  # the cut in the rows' own precision: pi is not a float32
    outside = np.isfinite(values) & ((values > half) | (values <= -half))
    if not outside.any():
        return updates
    turns = np.broadcast_to(period, values.shape)[outside]
    rest = np.fmod(values[outside].astype(np.float64), turns)  # exact, for any number of turns
    rest = np.where(rest > turns / 2, rest - turns, np.where(rest <= -turns / 2, rest + turns, rest))
    rest = rest.astype(values.dtype)
    most = np.broadcast_to(half, values.shape)[outside]
    found = values.copy()
    found[outside] = np.where(rest <= -most, most, np.minimum(rest, most))  # what rounding put on the cut
    return like(updates, found)


def reduced(batch: RoundUpdates) -> RoundUpdates:
    """The round with reduced differences; the same object where every one lies within half a period."""
    updates = reduce_differences(batch.updates, batch.periods)
    return batch if updates is batch.updates else batch.with_updates(updates)


@register("layer", "wrap-angles")
@dataclass(frozen=True, kw_only=True)
class WrapAngles(BoundLayer):
    """The server reduces updates of rotation angles to half a period, in front of a rule that does not."""

    card = DefenseCard(
        name="wrap-angles",
        idea="The server takes whole periods off the updates of rotation angles.",
        source=Source(
            paper="Mardia, Jupp: Directional statistics, Wiley, 2000",
            year=2000,
            where="chapter 2, angles modulo 2 pi",
        ),
        claim="Whole periods that a client adds to its angles change nothing.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not bound an update by less than half a period in each coordinate.",
            "It does not touch parameters without a period.",
        ),
        cost="one pass over the updates; the server needs individual updates",
    )

    @property
    def separate(self) -> bool:
        """What happens to an update depends on that update alone."""
        return True

    def bound(self, batch: RoundUpdates) -> RoundUpdates:
        """The round with reduced differences."""
        return reduced(batch)
