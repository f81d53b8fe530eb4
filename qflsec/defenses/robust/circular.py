"""Circular forms of the mean and the geometric median, for angles themselves rather than their differences.

For clients that share angles: there a mean of numbers is wrong for honest clients at either side of the cut. Distances are
those on the torus: of each coordinate the shorter way round. A parameter without a period is a number as any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, UpdateError, register
from qflsec.defenses.robust.base import UpdateRule
from qflsec.defenses.robust.guarantee import Robustness, minority
from qflsec.defenses.robust.rows import Array, Rows, Updates, like, norms_of
from qflsec.defenses.robust.torus import Periods, period_array, reduce_differences
from qflsec.federation import RoundUpdates

__all__ = ["CircularGeometricMedian", "CircularMean", "circular_geometric_median", "circular_mean"]

_NO_DIRECTION = 1e-9
"""A mean unit vector shorter than this has no direction that rounding did not make."""


def circular_mean(params: Updates, *, periods: Periods, f: int = 0, around: Updates | None = None) -> Updates:
    """The circular mean of each angle: the direction of the mean of the points on the circle.

    Args:
        params: A model for each client, NumPy or torch: angles, not differences.
        periods: The period of each parameter; None where it has none, which gives the mean of numbers.
        f: The declared number of corrupted rows; it changes nothing.
        around: A model near which the result is told, such as the broadcast one: of all angles that are the same rotation
            the nearest. Where the points on a circle cancel there is no mean, and the result is the angle of this model.
            Zeros by default.

    Shapes:
        params: ``(n, d)``; around: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or periods or ``around`` do not fit.
        ConfigError: ``f`` is no number of clients.

    Source:
        Mardia, Jupp: Directional statistics, Wiley 2000, section 2.2.
    """
    rows = Rows.of(params, f)
    period = period_array(periods, rows.values.shape[1])
    centre = _around(around, rows.values)
    turning = np.isfinite(period)
    found = centre.copy()
    if not turning.all():
        found[~turning] = rows.values[:, ~turning].mean(axis=0, dtype=np.float64)
    # angles relative to the centre, so that the mean is told as the rotation nearest to it
    angles = (rows.wide[:, turning] - centre[turning]) * (2 * np.pi / period[turning])
    sines, cosines = np.sin(angles).mean(axis=0), np.cos(angles).mean(axis=0)
    there = np.hypot(sines, cosines) > _NO_DIRECTION
    found[turning] += np.where(there, np.arctan2(sines, cosines), 0.0) * period[turning] / (2 * np.pi)
    return like(params, found)


def circular_geometric_median(
    params: Updates,
    *,
    periods: Periods,
    f: int = 0,
    around: Updates | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> Updates:
    """The point with the smallest sum of distances on the torus, by Weiszfeld steps.

    The sum may have several local minima: steps start from the row with the smallest sum and never raise it. Where all rows
    lie within a quarter of a period of each other in every coordinate, the result is the geometric median of numbers.

    Args:
        params: A model for each client, NumPy or torch: angles, not differences.
        periods: The period of each parameter; None where it has none.
        f: The declared number of corrupted rows; it changes nothing.
        around: A model near which the result is told; zeros by default.
        tolerance: Steps end where the mean of the unit vectors from the result to the rows is no longer than this, or
            where the result is a row from which no step leads down.
        max_iterations: The most steps.

    Shapes:
        params: ``(n, d)``; around: ``(d,)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, the rows are no float32 or float64 matrix, or periods or ``around`` do not fit.
        ConfigError: ``f`` is no number of clients, or a setting is out of range.

    Source:
        Fletcher, Venkatasubramanian, Joshi: The geometric median on Riemannian manifolds, NeuroImage 45 (2009), S143-S152.
    """
    if not 0 < tolerance < 1 or max_iterations < 1:
        raise ConfigError(
            "'tolerance' or 'max_iterations' is out of range",
            got=f"{tolerance} and {max_iterations}",
            expected="between 0 and 1, and 1 or more",
        )
    rows = Rows.of(params, f)
    period_array(periods, rows.values.shape[1])
    centre = _around(around, rows.values)
    points = reduce_differences(rows.wide - centre, periods)
    sums = [float(norms_of(reduce_differences(points - point, periods)).sum()) for point in points]
    middle = _weiszfeld(points, periods, int(np.argmin(sums)), tolerance, max_iterations)
    return like(params, centre + reduce_differences(middle, periods))


def _weiszfeld(points: Array, periods: Periods, start: int, tolerance: float, max_iterations: int) -> Array:
    """Steps from one of the points; at a point itself by the rule of Vardi and Zhang, which leaves it or stays."""
    middle = points[start].copy()
    for _ in range(max_iterations):
        apart = reduce_differences(points - middle, periods)
        lengths = norms_of(apart)
        here = lengths == 0
        inverse = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=~here)
        pull = inverse @ apart
        strength = float(np.linalg.norm(pull))
        if strength <= max(tolerance * len(points), float(here.sum()) * (1 - 1e-12)):
            break
        middle += pull * (1.0 - here.sum() / strength) / inverse.sum()
    return np.asarray(middle)


def _around(around: npt.NDArray[Any] | torch.Tensor | None, values: npt.NDArray[Any]) -> Array:
    if around is None:
        return np.zeros(values.shape[1])
    given = around.detach().cpu().numpy() if isinstance(around, torch.Tensor) else around
    if given.shape != values.shape[1:] or not np.isfinite(given).all():
        raise UpdateError(
            "'around' does not fit the models",
            got=f"shape {given.shape}" if given.shape != values.shape[1:] else "NaN or infinity",
            expected=f"finite numbers of shape {values.shape[1:]}",
        )
    return given.astype(np.float64)


_DIRECTIONS = Source(
    paper="Mardia, Jupp: Directional statistics, Wiley, 2000",
    year=2000,
    where="section 2.2, the mean direction",
)


@register("layer", "circular-mean")
@dataclass(frozen=True, kw_only=True)
class CircularMean(UpdateRule):
    """The circular mean of the clients' models, angle by angle; the mean of parameters without a period."""

    card = DefenseCard(
        name="circular-mean",
        idea="The server takes the circular mean of the clients' angles instead of the mean of numbers.",
        source=_DIRECTIONS,
        claim="Whole periods that a client adds to its angles change nothing, and no client moves an angle by more than "
        "half a period.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not stand a corrupted client within a period.",
            "It does not bound parameters without a period.",
        ),
        cost="a sine and a cosine of each angle; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f = 0", needs=())

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step to the circular mean."""
        start = batch.broadcast.to(batch.updates)
        middle = circular_mean(batch.updates.double() + start, periods=batch.periods, around=start.double())
        return (middle - start).to(batch.updates), None


@register("layer", "circular-geometric-median")
@dataclass(frozen=True, kw_only=True)
class CircularGeometricMedian(UpdateRule):
    """The point with the smallest sum of distances on the torus to the clients' models.

    Attributes:
        tolerance: Where steps end: the length of the mean unit vector from the result to the models.
        max_iterations: The most steps.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="circular-geometric-median",
        idea="The server takes the point with the smallest sum of distances on the torus to the clients' angles.",
        source=Source(
            paper="Fletcher, Venkatasubramanian, Joshi: The geometric median on Riemannian manifolds with application to "
            "robust atlas estimation, NeuroImage 45, S143-S152, 2009",
            year=2009,
            where="section 3, on the flat torus",
        ),
        claim="Where fewer than half of the clients are corrupted and the others lie close together, so does the step.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not find the smallest of several minima where honest angles are spread over the circle.",
            "It does not weight clients by their examples.",
        ),
        cost="all pairs of distances on the torus, and some steps; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2, angles close together", needs=())

    tolerance: float = 1e-6
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        circular_geometric_median(
            np.zeros((1, 1)), periods=[None], tolerance=self.tolerance, max_iterations=self.max_iterations
        )  # its checks

    def act(self, batch: RoundUpdates, state: object) -> tuple[torch.Tensor, object]:
        """The step to the median."""
        start = batch.broadcast.to(batch.updates)
        middle = circular_geometric_median(
            batch.updates.double() + start,
            periods=batch.periods,
            around=start.double(),
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        return (middle - start).to(batch.updates), None

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)
