"""Angles as integers modulo 2^b, so that a uniform integer is an exact one-time pad.

A pad from eight angles under real-valued angles would leave every angle modulo pi / 4 in the clear: the pad
and what it hides must be of one group.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qflsec.base import finite
from qflsec.protocols.blind.errors import BlindError
from qflsec.protocols.blind.pattern import Pattern

__all__ = ["AngleGrid", "Angles", "Floats", "angle_jacobian", "node_angles"]

Angles = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]

_ON_GRID = 1e-3
"""How far from a grid point, in steps, rounding errors may put an angle that lies on it."""


@finite
@dataclass(frozen=True, kw_only=True)
class AngleGrid:
    """The group of angles 2 pi k / 2^b.

    Attributes:
        bits: The number b, from 3 (the eight angles of the textbook) to 48.
        off_grid: ``"round"`` takes the next angle of the grid; ``"refuse"`` raises.
    """

    bits: int = 32
    off_grid: Literal["round", "refuse"] = "round"

    def __post_init__(self) -> None:
        """Refuse grids without pi / 4, and finer ones than double precision."""
        if not 3 <= self.bits <= 48:
            raise BlindError("bad number of angle bits", got=self.bits, expected="3 to 48")
        if self.off_grid not in ("round", "refuse"):
            raise BlindError("unknown off_grid", got=repr(self.off_grid), expected="round or refuse")

    @property
    def size(self) -> float:
        """The number of angles."""
        return math.ldexp(1.0, self.bits)

    @property
    def mask(self) -> np.uint64:
        """The largest angle."""
        return np.uint64(2**self.bits - 1)

    @property
    def half(self) -> np.uint64:
        """The angle pi."""
        return np.uint64(2 ** (self.bits - 1))

    def to_grid(self, radians: Floats) -> Angles:
        """The grid's angle next to each.

        Raises:
            BlindError: An angle that is not finite, or is off the grid where the grid refuses such.
        """
        steps = np.asarray(radians, dtype=np.float64) * (self.size / (2 * math.pi))
        if not np.isfinite(steps).all():
            raise BlindError("an angle that is not finite")
        nearest = np.rint(steps)
        worst = float(np.abs(steps - nearest).max(initial=0.0))
        if self.off_grid == "refuse" and worst > _ON_GRID:
            raise BlindError(
                f"an angle off the grid of 2^{self.bits} angles",
                got=f"{worst:.3g} steps away",
                fix='choose more bits, or off_grid="round" to take the next angle',
            )
        found: Angles = np.mod(nearest, self.size).astype(np.uint64) & self.mask
        return found

    def to_radians(self, angles: Angles) -> Floats:
        """The angles in radians."""
        return np.multiply(angles.astype(np.float64), 2 * math.pi / self.size)

    def error_bound(self, n_nodes: int) -> float:
        """How far rounding can move the expectation value of a Pauli word.

        Each of the measured nodes' angles moves by at most pi / 2^b, and a rotation by that much moves the
        expectation value by at most as much.
        """
        return n_nodes * math.pi / self.size


def node_angles(pattern: Pattern, weights: Floats, features: Floats) -> Floats:
    """The angle of each node's J for each row of weights and features.

    Shapes:
        weights ``(R, P)``, features ``(R, F)`` -> ``(R, nodes)``.

    Units:
        Radians.
    """
    values = np.zeros((len(weights), pattern.graph.n_nodes))
    for node, angle in enumerate(pattern.angles):
        values[:, node] = angle.eighths * math.pi / 4
        for term in angle.terms:
            if term.kind == "constant":
                values[:, node] += term.offset
            else:
                source = weights if term.kind == "weight" else features
                values[:, node] += term.scale * source[:, term.index] + term.offset
    return values


def angle_jacobian(
    pattern: Pattern, n_parameters: int, kind: Literal["weight", "feature"] = "weight"
) -> Floats:
    """The derivative of every node's angle in every weight, or feature: ``(nodes, P)``."""
    jacobian = np.zeros((pattern.graph.n_nodes, n_parameters))
    for node, angle in enumerate(pattern.angles):
        for term in angle.terms:
            if term.kind == kind:
                jacobian[node, term.index] += term.scale
    return jacobian
