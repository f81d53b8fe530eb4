"""Geometric median: the point with the smallest sum of distances to the updates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from qflsec.base import ConfigError, DefenseCard, Source, register
from qflsec.defenses.robust.base import RobustRule
from qflsec.defenses.robust.distances import CANCELLED, SMALL, squared_distances
from qflsec.defenses.robust.guarantee import Robustness, minority, share
from qflsec.defenses.robust.rows import Array, Rows, Updates, like, norms_of

__all__ = ["GeometricMedian", "geometric_median"]

_FEW = 8
"""So many steps cost about what all distances between a hundred rows do."""
_FAR = 1e6
"""Beyond this ratio of the largest distance to the spread, distances by weights lose too many digits."""


def geometric_median(
    updates: Updates,
    *,
    f: int = 0,
    smoothing: float = 1e-9,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> Updates:
    """The point with the smallest sum of distances, by smoothed Weiszfeld steps.

    A step is the mean of the rows weighted by ``1 / max(nu, distance)``. It needs only the distances between rows: that
    to ``z = sum w_i x_i`` follows from them, so that a step costs n^2 and not n d. A row that is the median itself,
    where plain steps creep, is found first and returned as it is.

    Args:
        updates: A row for each client, NumPy or torch.
        f: The declared number of corrupted rows; it changes nothing.
        smoothing: nu, in units of the spread: the smallest radius around a row that holds more than half of the rows.
        tolerance: Steps end where the mean of the unit vectors from the result to the rows is no longer than this. The
            sum of distances then exceeds the smallest one by a part of at most twice the tolerance.
        max_iterations: The most steps.

    Shapes:
        updates: ``(n, d)``; returns: ``(d,)``

    Raises:
        UpdateError: There is no finite row, or the rows are no float32 or float64 matrix.
        ConfigError: ``f`` is no number of clients, or a setting is out of range.

    Source:
        Pillutla, Kakade, Harchaoui, IEEE TSP 2022, arXiv:1912.13445 (smoothed Weiszfeld), with nu in
        units of the data and a stopping rule; Vardi, Zhang, PNAS 97 (2000), for rows that are the median.
    """
    for name, value in (("smoothing", smoothing), ("tolerance", tolerance)):
        if not 0 < value < 1:
            raise ConfigError(f"{name!r} is out of range", got=value, expected="between 0 and 1")
    if max_iterations < 1:
        raise ConfigError("'max_iterations' is too small", got=max_iterations, expected="1 or more")
    rows = Rows.of(updates, f)
    quick = _directly(rows.values, smoothing, tolerance, max_iterations)
    if quick is not None:
        return like(updates, quick)
    squares = squared_distances(rows.values)
    if not np.isfinite(squares).all():  # numbers beyond 1e153, whose squares overflow
        return like(updates, _by_differences(rows.wide, 0.0, tolerance, max_iterations))
    row = _median_row(squares)
    if row is not None:
        return like(updates, rows.values[row])
    spread = float(np.sqrt(np.partition(squares, rows.n // 2, axis=1)[:, rows.n // 2].min()))
    nu = smoothing * spread
    if np.sqrt(squares.max()) > _FAR * spread:
        return like(updates, _by_differences(rows.wide, nu, tolerance, max_iterations))
    return like(updates, _weights(squares, nu, tolerance, max_iterations) @ rows.wide)


def _directly(
    values: npt.NDArray[Any], smoothing: float, tolerance: float, max_iterations: int
) -> Array | None:
    """The same steps on the centred rows: for many rows a few of them cost less than all distances between rows.

    Returns:
        None where that is not so, no few steps suffice, a row is so near that it may be the median itself or is smoothed,
        or distances lose their digits.
    """
    n, d = values.shape
    if n * n * d <= SMALL:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        centred = values.astype(np.float64)
        centre = np.full(n, 1.0 / n) @ centred
        centred -= centre
        norms = np.vecdot(centred, centred)
        middle, squares, sums = np.zeros(d), norms, norms
        for _ in range(min(_FEW, max_iterations)):
            if not (squares > CANCELLED * sums).all():  # nor where numbers overflow
                return None
            lengths = np.sqrt(squares)
            if lengths.min() <= 2.0 * smoothing * lengths.max():
                return None
            inverse = 1.0 / lengths
            total = inverse.sum()
            moved = (inverse / total) @ centred
            step, middle = moved - middle, moved
            if total * np.sqrt(step @ step) <= tolerance * n:
                return np.asarray(centre + middle)
            sums = norms + middle @ middle
            squares = sums - 2.0 * (centred @ middle)
    return None


def _weights(squares: Array, nu: float, tolerance: float, max_iterations: int) -> Array:
    """The weights of the rows whose mean is the median, from distances alone."""
    n = len(squares)
    weights = np.full(n, 1.0 / n)
    for _ in range(max_iterations):
        towards = squares @ weights
        inverse = 1.0 / np.maximum(np.sqrt(np.maximum(towards - 0.5 * (weights @ towards), 0.0)), nu)
        total = inverse.sum()
        step = inverse / total - weights
        weights += step
        if total * np.sqrt(max(0.0, -0.5 * float(step @ squares @ step))) <= tolerance * n:
            break
    return weights


def _median_row(squares: Array) -> int | None:
    """The first row that is a geometric median: the unit vectors to the others do not outweigh its equals."""
    n = len(squares)
    with np.errstate(divide="ignore"):
        inverse = np.where(squares > 0, 1.0 / np.sqrt(squares), 0.0)
    equal = (squares == 0).sum(axis=1)
    # |sum_i a_i (x_i - x_k)|^2 from distances alone: with a_k = -sum a_i the coefficients add up to 0
    coefficients = inverse - np.diag(inverse.sum(axis=1))
    pulls = -0.5 * np.einsum("ki,ki->k", coefficients @ squares, coefficients)
    found = np.flatnonzero(pulls <= equal.astype(np.float64) ** 2 * (1.0 - 1e-12))
    return int(found[0]) if len(found) else (0 if n == 1 else None)


def _by_differences(values: Array, nu: float, tolerance: float, max_iterations: int) -> Array:
    """The same steps on the rows themselves, where some are so far that their distances drown the others."""
    unit = 4.0 if np.abs(values).max() > 1e307 else 1.0  # no difference overflows
    scaled = values / unit
    middle = np.median(scaled, axis=0)
    for _ in range(max_iterations):
        apart = scaled - middle
        inverse = 1.0 / np.maximum(norms_of(apart), max(nu / unit, 1e-300))
        step = inverse @ apart
        middle = middle + step / inverse.sum()
        if np.linalg.norm(step) <= tolerance * len(values):
            break
    return np.asarray(middle * unit)


@register("layer", "geometric-median")
@dataclass(frozen=True, kw_only=True)
class GeometricMedian(RobustRule):
    """The point with the smallest sum of distances to the updates.

    Attributes:
        tolerance: Where steps end: the length of the mean unit vector from the result to the updates.
        max_iterations: The most steps.

    Raises:
        ConfigError: A value is out of range.
    """

    card = DefenseCard(
        name="geometric-median",
        idea="The server takes the point with the smallest sum of distances to the updates.",
        source=Source(
            paper="Pillutla, Kakade, Harchaoui: Robust aggregation for federated learning, IEEE Transactions on Signal "
            "Processing 70, 2022, arXiv:1912.13445",
            year=2022,
            where="the smoothed Weiszfeld algorithm",
        ),
        claim="While fewer than half of the clients are corrupted, the error is at most 2 (n - f) / (n - 2f) times the "
        "honest clients' mean distance from their mean.",
        assumption="none",
        hides="nothing",
        does_not=(
            "It does not weight clients by their examples.",
            "It does not return the honest mean where honest updates are skewed.",
        ),
        cost="all pairs of distances, and some steps on them; the server needs individual updates",
    )
    robustness = Robustness(breakdown="f < n/2", needs=(), proved=True)

    tolerance: float = 1e-6
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        geometric_median(
            np.zeros((1, 1)), tolerance=self.tolerance, max_iterations=self.max_iterations
        )  # its checks

    def rule(self, updates: torch.Tensor, *, f: int) -> torch.Tensor:
        """The geometric median, whatever ``f`` is."""
        return geometric_median(updates, f=f, tolerance=self.tolerance, max_iterations=self.max_iterations)

    def most(self, n: int) -> int:
        """Fewer than half."""
        return minority(n)

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + r)^2 with r = f / (n - 2f)."""
        return 4.0 * (1.0 + share(n, f)) ** 2
