"""Centred clipping: each update moves a centre by at most a radius; the centre lives over the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, Rows, Updates, like, norms_of
from qflsec.federation import RoundUpdates

__all__ = ["CentredClipping", "centred_clipping"]


def centred_clipping(
    updates: Updates,
    *,
    f: int = 0,
    centre: Updates | None = None,
    radius: float | None = None,
    iterations: int = 1,
) -> Updates:
    """Move a centre by the mean of the differences to it, each clipped to a radius.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        centre: Where to start, in the paper the result of the last round; zeros by default.
        radius: The largest difference that counts in full. The paper takes a number, for which it gives a formula in
            variances that nobody knows, and 10 in its experiments. None takes the median distance from the centre, in
            each iteration anew: then the result scales with the rows.
        iterations: How often the centre moves; 1 in the paper, where the last round's result is a good start.

    Shapes:
        updates: ``(n, d)``; centre: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or the centre does not fit.
        ConfigError: ``f`` is no number of clients, or a setting is out of range.

    Source:
        Karimireddy, He, Jaggi, ICML 2021, arXiv:2012.10333 (centered clipping).
    """
    _check(radius, iterations)
    rows = Rows.of(updates, f)
    middle = np.zeros(rows.values.shape[1]) if centre is None else _centre(centre, rows.values)
    wide = rows.wide
    apart = np.empty(wide.shape)
    for _ in range(iterations):
        np.subtract(wide, middle, out=apart)
        lengths = norms_of(apart)
        limit = float(np.median(lengths)) if radius is None else radius
        scale = np.where(lengths > limit, limit / np.where(lengths > 0, lengths, 1.0), 1.0)
        middle = middle + (scale @ apart) / rows.n
    return like(updates, middle)


def _check(radius: float | None, iterations: int) -> None:
    if radius is not None and not 0 < radius < np.inf:
        raise ConfigError("'radius' is out of range", got=radius, expected="positive and finite, or none")
    if iterations < 1:
        raise ConfigError("'iterations' is too small", got=iterations, expected="1 or more")


def _centre(centre: npt.NDArray[Any] | torch.Tensor, values: npt.NDArray[Any]) -> Array:
    given = centre.detach().cpu().numpy() if isinstance(centre, torch.Tensor) else centre
    if given.shape != values.shape[1:] or not np.isfinite(given).all():
        raise UpdateError(
            "the centre does not fit the updates",
            got=f"shape {given.shape}" if given.shape != values.shape[1:] else "NaN or infinity",
            expected=f"finite numbers of shape {values.shape[1:]}",
        )
    return given.astype(np.float64)


@register("layer", "centred-clipping")
@dataclass(frozen=True, kw_only=True)
class CentredClipping(UpdateRule):
    """Each update moves the last round's step by at most a radius.

    Attributes:
        radius: The largest difference that counts in full; None for the median distance of the round's updates.
        iterations: How often the centre moves in a round.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="centred-clipping",
        idea="The server moves its last step by the mean of the updates' differences to it, each clipped to a radius.",
        source=Source(
            paper="Karimireddy, He, Jaggi: Learning from history for Byzantine robust optimization, ICML 2021, "
            "arXiv:2012.10333",
            year=2021,
            where="centered clipping",
        ),
        claim="No client moves the step by more than the radius over the number of clients.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not keep its convergence guarantee unless clients send momentum.",
            "It does not bound a radius that is a median once half of the clients are corrupted.",
            "It does not detect a bias that is shorter than the radius.",
        ),
        cost="one norm for each update and iteration; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=("client momentum",))

    radius: float | None = None
    iterations: int = 1

    def __post_init__(self) -> None:
        _check(self.radius, self.iterations)

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step, which is the next round's centre."""
        step = centred_clipping(
            batch.updates,
            f=self.f(batch),
            centre=cast("torch.Tensor | None", state),
            radius=self.radius,
            iterations=self.iterations,
        )
        return step, step.clone()

    def most(self, n: int) -> int:
        """Fewer than half, where the radius is a median."""
        return minority(n)
