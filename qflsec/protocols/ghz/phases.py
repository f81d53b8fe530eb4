"""Phases: how the coordinates of updates become angles whose sum cannot wrap, and how parities become the sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qflsec.base import ConfigError, UpdateError, finite

__all__ = ["Phases"]

Floats = npt.NDArray[np.float64]


@finite
@dataclass(frozen=True, kw_only=True)
class Phases:
    """Each of ``n`` clients turns its qubit by ``x / max_abs * span / n``, so that the sum stays within ``span``.

    Attributes:
        n: The number of clients.
        max_abs: The largest absolute value of a coordinate; honest clients clip to it.
        span: The largest absolute value of the sum of the angles, below pi: what is left to pi is room for the
            error of the estimate, which would otherwise jump to the other end.
        shots: GHZ states for each coordinate and quadrature.

    Units:
        span: radians.

    Raises:
        ConfigError: A value is out of range.
    """

    n: int
    max_abs: float
    span: float
    shots: int

    def __post_init__(self) -> None:
        if not (self.max_abs > 0 and math.isfinite(self.max_abs)):
            raise ConfigError("'max_abs' is out of range", got=self.max_abs, expected="positive and finite")
        if not 0 < self.span < math.pi:
            raise ConfigError(
                "'span' is out of range", got=self.span, expected="above 0, below pi: sums would wrap"
            )
        if self.shots < 1:
            raise ConfigError("'shots' is too small", got=self.shots, expected="at least 1")

    def copies(self, n_params: int) -> int:
        """How many GHZ states carry an update."""
        return 2 * self.shots * n_params

    def clip(self, update: Floats) -> Floats:
        """The coordinates within their range.

        Raises:
            UpdateError: A number is not finite.
        """
        if not np.isfinite(update).all():
            raise UpdateError(
                "an update cannot become phases", got="NaN or infinity", expected="finite numbers"
            )
        return np.clip(update, -self.max_abs, self.max_abs)

    def nearest(self, update: Floats) -> Floats:
        """The coordinates as a client turns its qubits by them that clips nothing: half a circle at most.

        A turn by more is a smaller one the other way. NaN takes the smallest.
        """
        half = self.n * self.max_abs * math.pi / self.span
        return np.clip(np.nan_to_num(update, nan=-half, posinf=half, neginf=-half), -half, half)

    def angles(self, update: Floats, *, checked: bool = True) -> Floats:
        """A client's angle in each copy: all shots of one quadrature, then of the other, coordinate by coordinate.

        Args:
            update: The update.
            checked: Whether the client keeps its coordinates within their range.

        Shapes:
            update: ``(P,)``; returns: ``(2 * shots * P,)``
        """
        kept = self.clip(update) if checked else self.nearest(update)
        return np.repeat(kept * (self.span / (self.n * self.max_abs)), 2 * self.shots)

    def bases(self, n_params: int, *, first: bool) -> Floats:
        """A client's measurement angle in each copy: X, but Y in the second quadrature for the first client.

        Shapes:
            returns: ``(2 * shots * P,)``
        """
        turned = np.repeat([0.0, math.pi / 2 if first else 0.0], self.shots)
        return np.tile(turned, n_params)

    def total(self, parities: npt.NDArray[np.uint8]) -> Floats:
        """The sum of the angles for each coordinate: the phase of both quadratures, whatever the visibility.

        Args:
            parities: The parity of all clients' outcomes in each copy.

        Shapes:
            parities: ``(2 * shots * P,)``; returns: ``(P,)``
        """
        cosine, sine = (1 - 2 * parities.reshape(-1, 2, self.shots).mean(axis=2)).T
        angle: Floats = np.arctan2(sine, cosine)
        return angle

    def mean(self, total: Floats) -> Floats:
        """The mean of the updates whose angles add up to ``total``."""
        return total * (self.max_abs / self.span)
