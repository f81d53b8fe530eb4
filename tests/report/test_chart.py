"""Charts: ticks that a reader would choose, places that keep the order, and looks that do not repeat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import qflsec.report
from qflsec.report import Axis, Chart, Series
from qflsec.report.chart import Scale, scale_of
from qflsec.report.marks import COLOURS, MARKERS, look_of, marker
from qflsec.report.svg import draw, keys

CSS = (Path(qflsec.report.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
finite = st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-6)


def test_twenty_stacks_share_neither_colour_nor_marker() -> None:
    looks = [look_of(position) for position in range(20)]
    assert len({colour for colour, _ in looks}) == 20
    assert len({marker(shape, 0.0, 0.0, 100.0) for _, shape in looks}) == 20
    assert len({look_of(position) for position in range(COLOURS * len(MARKERS))}) == COLOURS * len(MARKERS)


def test_the_style_sheet_has_every_colour_in_both_schemes() -> None:
    found = dict(re.findall(r"\.(k\d+) { color: light-dark\((#\w+, #\w+)\); }", CSS))
    assert list(found) == [f"k{index}" for index in range(COLOURS)]
    for side, back in ((0, "#ffffff"), (1, "#12161c")):
        shades = [pair.split(", ")[side] for pair in found.values()]
        assert len(set(shades)) == COLOURS
        assert all(contrast(shade, back) >= 3 for shade in shades), "WCAG 2.2, 1.4.11"


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@given(st.lists(finite, min_size=1, max_size=8))
def test_every_value_has_a_place_inside_and_ticks_are_few(values: list[float]) -> None:
    scale = scale_of(Axis(), values, [], start=10.0, end=110.0)
    places = [scale(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(10 <= place <= 110 for place in places)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 10
    assert len({text for _, text in ticks}) == len(ticks), "no two ticks read the same"
    for value, text in ticks:
        assert float(text.replace("−", "-")) == pytest.approx(value, abs=1e-9, rel=1e-6)


def test_logarithmic_axes_and_categories() -> None:
    scale = scale_of(Axis(log=True, low=0.01, high=1.0), [0.5], [], start=0.0, end=100.0)
    assert [text for _, text in scale.ticks()] == ["0.01", "0.1", "1"]
    assert (scale(0.0), scale(0.1), scale(1.0)) == (0.0, pytest.approx(50.0), 100.0)
    names = Scale(low=0, high=1, start=0.0, end=100.0, names=("a", "b"))
    assert (names("a"), names("b"), names.band) == (25.0, 75.0, 50.0)


def test_what_a_chart_draws() -> None:
    nan = float("nan")
    series = [
        Series(name="one", x=["a", "b"], y=[1.0, 2.0], y_intervals=[(0.5, 1.5), (nan, nan)], hints=["A", "B"]),
        Series(name="two", x=["a", "b"], y=[1.0, -1.0], kind="bars", labels=["one", "minus one"]),
        Series(name="", x=["a", "b"], y=[0.0, 0.0], kind="line", muted=True),
    ]  # fmt: skip
    chart = Chart(title="t", x=Axis(label="across"), y=Axis(label="up"), series=series, levels=(0.0,))
    text = draw(chart, "label")
    assert text.count('class="mark"') == 2
    assert text.count('class="bar"') == 2
    assert re.findall(r'class="whisker" d="([^"]*)"', text)[0].count("M") == 1, "an end that is not finite"
    assert "nan" not in text
    assert "<title>A</title>" in text
    assert "minus one" in text
    assert keys(chart).count("<li>") == 2
    empty = draw(Chart(title="", x=Axis(), y=Axis(), series=[]), "")
    assert empty.startswith("<svg")
