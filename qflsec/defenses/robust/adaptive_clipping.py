"""Adaptive robust clipping (ARC): the longest updates are scaled down to the norm of the longest that is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qflsec.base import DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustFilter
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Rows, Updates, like, norms_of
from qflsec.federation import RoundUpdates

__all__ = ["AdaptiveClipping", "adaptive_clipping"]


def adaptive_clipping(updates: Updates, *, f: int) -> Updates:
    """Scale the floor(2 (f / n) (n - f)) longest rows down to the norm of the longest other one.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows.

    Returns:
        A row for each finite one; rows that are not scaled stay as they are, bit for bit.

    Shapes:
        updates: ``(n, d)``; returns: ``(n', d)``, n' the number of finite rows

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``2 f >= n`` of the finite rows.

    Source:
        Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan, ICLR 2025, arXiv:2405.14432 (ARC).
    """
    rows = Rows.of(updates, f)
    rows.need("arc", minority(rows.n), "2f < n")
    longest = 2 * rows.f * (rows.n - rows.f) // rows.n
    lengths = norms_of(rows.values)
    limit = float(np.partition(lengths, rows.n - 1 - longest)[rows.n - 1 - longest])
    found = rows.values.copy()
    long = np.flatnonzero(lengths > limit)
    found[long] = rows.values[long] * (limit / lengths[long])[:, None]
    return like(updates, found)


@register("layer", "arc")
@dataclass(frozen=True, kw_only=True)
class AdaptiveClipping(RobustFilter):
    """The longest updates of a round are scaled down to the norm of the longest that is left."""

    card = DefenseCard(
        name="arc",
        idea="The server scales the 2 (f / n) (n - f) longest updates down to the norm of the next one.",
        source=Source(
            paper="Allouah, Guerraoui, Gupta, Jellouli, Rizk, Stephan: Adaptive gradient clipping for robust federated "
            "learning, ICLR 2025, arXiv:2405.14432",
            year=2025,
            where="adaptive robust clipping (ARC)",
        ),
        claim="With 2f < n no corrupted update is longer than the longest honest one that is not clipped.",
        assumption="none",
        hides="nothing",
        does_not=("It does not stop a manipulation of a usual length.",),
        cost="one norm for each update; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("declared f",))

    def act(self, batch: RoundUpdates) -> RoundUpdates:
        """The clipped updates."""
        f = min(batch.f, minority(len(batch.ids)))
        return batch.with_updates(adaptive_clipping(batch.updates, f=f))

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)
