"""The looks of series: twenty colours, and a marker of its own for each."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["COLOURS", "MARKERS", "look_of", "marker"]

Point = tuple[float, float]

COLOURS = 20
"""How many colours the style sheet has, as classes ``k0`` to ``k19``: light ones and dark ones for each colour scheme."""


def _turned(corners: int, turn: float, inner: float | None = None) -> tuple[Point, ...]:
    """A regular polygon, or a star whose inner corners lie at ``inner`` of the radius."""
    radii = [1.0] * corners if inner is None else [1.0, inner] * corners
    step = 2 * math.pi / len(radii)
    return tuple(
        (radius * math.sin(turn + index * step), -radius * math.cos(turn + index * step))
        for index, radius in enumerate(radii)
    )


def _rectangle(width: float, height: float) -> tuple[Point, ...]:
    return ((-width, -height), (width, -height), (width, height), (-width, height))


_W = 0.34
_PLUS: tuple[Point, ...] = (
    (-_W, -1), (_W, -1), (_W, -_W), (1, -_W), (1, _W), (_W, _W), (_W, 1), (-_W, 1), (-_W, _W), (-1, _W), (-1, -_W), (-_W, -_W),
)  # fmt: skip
_EIGHTH = math.sqrt(0.5)

MARKERS: tuple[tuple[Point, ...], ...] = (
    _turned(32, 0.0),  # a circle
    _rectangle(0.85, 0.85),
    _turned(4, 0.0),
    _turned(3, 0.0),
    _PLUS,
    tuple(((x - y) * _EIGHTH, (x + y) * _EIGHTH) for x, y in _PLUS),
    _turned(5, 0.0, 0.42),
    _turned(3, math.pi),
    _turned(6, 0.0),
    _turned(3, math.pi / 2),
    _turned(3, -math.pi / 2),
    _turned(4, 0.0, 0.35),
    _rectangle(1.0, 0.4),
    _rectangle(0.4, 1.0),
    ((-0.9, -1), (0.9, -1), (0, 0), (0.9, 1), (-0.9, 1), (0, 0)),
    ((-1, -0.9), (0, 0), (1, -0.9), (1, 0.9), (0, 0), (-1, 0.9)),
    _turned(6, 0.0, 0.45),
    ((-1, 0.5), (0, -0.9), (1, 0.5), (1, 1.0), (0, 0.1), (-1, 1.0)),
    ((-1, -0.5), (0, 0.9), (1, -0.5), (1, -1.0), (0, -0.1), (-1, -1.0)),
    ((-0.9, 0.9), (-0.9, -0.9), (0.9, 0.9)),
)


def look_of(position: int) -> tuple[str, int]:
    """The class of the colour and the number of the marker; after 20, the markers are shifted against the colours."""
    return f"k{position % COLOURS}", (position + position // COLOURS) % len(MARKERS)


def marker(number: int, x: float, y: float, size: float) -> str:
    """The path of a marker around a place."""
    return path([(x + size / 2 * dx, y + size / 2 * dy) for dx, dy in MARKERS[number]]) + "Z"


def path(points: Sequence[Point]) -> str:
    """A path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
