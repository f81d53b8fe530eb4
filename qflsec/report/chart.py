"""Figures as data: series of points, lines, steps or bars over two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Axis", "Chart", "Interval", "Series"]

Interval = tuple[float, float]

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS = 6


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis.

    Attributes:
        label: What it shows, with its unit.
        log: Whether it is logarithmic.
        low: Where it begins; None for what the series need.
        high: Where it ends; None for what the series need.
    """

    label: str = ""
    log: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values that belong together: they share a name, a colour and a marker.

    Attributes:
        name: What the key says; empty for a series without a key.
        x: Numbers, or names of categories.
        y: Numbers.
        kind: How they are drawn.
        x_intervals: The interval of each x; where an end is not finite nothing is drawn.
        y_intervals: The interval of each y.
        look: Which colour and marker; None for the position among the series. No two of twenty look alike.
        dashed: Whether a line is dashed.
        muted: Whether it is drawn in the colour of the axes, as what others are compared with.
        hollow: Whether markers are outlines.
        rim: Whether markers have a strong rim.
        size: The markers' diameter.
        labels: What stands above each value.
        hints: What the page shows for each value under the pointer.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    kind: Literal["points", "line", "marked line", "steps", "bars"] = "points"
    x_intervals: Sequence[Interval] = ()
    y_intervals: Sequence[Interval] = ()
    look: int | None = None
    dashed: bool = False
    muted: bool = False
    hollow: bool = False
    rim: bool = False
    size: float = 9.0
    labels: Sequence[str] = ()
    hints: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure.

    Attributes:
        title: What it shows.
        x: The horizontal axis.
        y: The vertical axis.
        series: What is drawn, the first at the bottom.
        levels: Heights at which a dotted line runs through the figure.
        height: In units of which the width has 560.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    levels: Sequence[float] = ()
    height: int = 320


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Values of an axis as places in the figure.

    Attributes:
        low: The value at ``start``.
        high: The value at ``end``.
        start: A place.
        end: Another place.
        log: Whether the axis is logarithmic.
        names: The categories, each at the middle of its band; none on an axis of numbers.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    names: tuple[str, ...] = ()

    def __call__(self, value: float | str) -> float:
        """The place of a value."""
        if isinstance(value, str):
            share = (self.names.index(value) + 0.5) / len(self.names)
        elif self.log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    @property
    def band(self) -> float:
        """The width of a category."""
        return abs(self.end - self.start) / max(len(self.names), 1)

    def ticks(self) -> list[tuple[float | str, str]]:
        """Values at which the axis is labelled, with the labels."""
        if self.names:
            return [(name, name) for name in self.names]
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            every = max(1, math.ceil((last - first) / _TICKS))
            return [(10.0**power, _power(power)) for power in range(first, last + 1, every)]
        step = _step(self.high - self.low)
        digits = max(
            0,
            -math.floor(math.log10(step) + 1e-9)
            + (1 if step / 10 ** math.floor(math.log10(step)) == 2.5 else 0),
        )
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [(n * step, f"{n * step + 0.0:.{digits}f}".replace("-", "−")) for n in range(first, last + 1)]


def scale_of(
    axis: Axis, values: Sequence[float | str], intervals: Sequence[Interval], *, start: float, end: float
) -> Scale:
    """The scale that shows all values and intervals, with some room around them."""
    names = tuple(dict.fromkeys(value for value in values if isinstance(value, str)))
    numbers = [value for value in values if not isinstance(value, str) and math.isfinite(value)]
    numbers += [end for pair in intervals for end in pair if math.isfinite(end)]
    if names or not numbers:
        return Scale(low=0.0, high=1.0, start=start, end=end, names=names or ("",))
    low, high = min(numbers), max(numbers)
    if axis.log:
        low = axis.low or min(value for value in numbers if value > 0)
        return Scale(low=low, high=axis.high or max(high, 10 * low), start=start, end=end, log=True)
    room = 0.06 * (high - low) or 0.5
    low = low - room if axis.low is None else axis.low
    high = high + room if axis.high is None else axis.high
    return Scale(low=low, high=high, start=start, end=end)


def _step(span: float) -> float:
    rough = span / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))


def _power(power: int) -> str:
    return f"{10.0**power:g}" if -4 < power < 6 else f"1e{power}"
