"""Two results as a page: what moved by more than noise comes first, and what was asked is told apart."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from qflsec.base import ConfigError, Score
from qflsec.lab.worlds.channel import ChannelMatrixResult
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report.diff import render_diff, verdict
from tests.report.conftest import score
from tests.report.test_channel_report import result as channel  # noqa: F401 - a fixture


def moved(result: MatrixResult, place: tuple[str, str], by: tuple[float, ...]) -> MatrixResult:
    cell = result.cells[place]
    trials = tuple(
        replace(row, advantage=(row.advantage or 0.0) + step)
        for row, step in zip(cell.per_seed, by, strict=True)
    )
    mean = sum(row.advantage or 0.0 for row in trials) / len(trials)
    return replace(
        result, cells={**result.cells, place: replace(cell, per_seed=trials, advantage=score(mean))}
    )


def rows(page: str, section: str) -> list[str]:
    """The rows of a section's table, as text."""
    part = page[page.index(f'<section id="panel-{section}"') :]
    part = part[: part.index("</section>")]
    return [
        html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row))).strip()
        for row in re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)[1:]
    ]


def change(value: float, low: float, high: float) -> Score:
    return Score(name="x", value=value, low=low, high=high, n=3, baseline=0.0, ideal=0.0)


def test_what_is_noise_is_said() -> None:
    nan = float("nan")
    assert verdict(change(0.1, -0.1, 0.3)).startswith("within noise")
    assert verdict(change(0.1, 0.0, 0.2)).startswith("within noise"), "0 is not left out"
    assert verdict(change(0.1, 0.05, 0.2)) == "more than noise"
    assert verdict(change(-0.1, -0.2, -0.05)) == "more than noise"
    assert verdict(change(0.0, 0.0, 0.0)) == "the same in every seed"
    assert "nothing can be told" in verdict(change(0.1, nan, nan))


def test_changed_cells_come_first_paired_by_seed(result: MatrixResult) -> None:
    """The same step in every seed is more than noise, though each side's own interval holds the other's mean."""
    made = moved(result, ("flip", "median"), (0.05, 0.051, 0.049))
    made = moved(made, ("loss", "median"), (0.5, -0.5, 0.1))
    page = render_diff(result, made, names=("a.sqlite", "b.sqlite"))
    found = rows(page, "cells-that-differ")
    assert len(found) == 2
    assert found[0].startswith("flip × median advantage −0.200 [−0.300, −0.100] useless −0.150")
    assert found[0].endswith("+0.050 [0.048, 0.052] 3 more than noise")
    assert found[1].startswith("loss × median")
    assert found[1].endswith("within noise: the interval of the paired difference holds 0")
    assert "2 of 8 cells differ, 0 of them in what they say." in page
    assert "1 of 2 measures that moved did so by more than noise" in page
    assert len(rows(page, "cells-that-are-equal")) == 6


def test_states_and_missing_cells(result: MatrixResult) -> None:
    place = "loss", "masked"
    cells = {key: cell for key, cell in result.cells.items() if key != ("flip", "none")}
    cells[place] = replace(cells[place], state="pending", per_seed=())
    page = render_diff(result, replace(result, cells=cells), names=("a", "b"))
    found = rows(page, "cells-that-differ")
    assert any("blocked pending" in row and row.endswith("another state") for row in found)
    assert any("flip × none" in row and "not in it" in row for row in found)


def test_what_was_asked_is_compared(result: MatrixResult) -> None:
    other = replace(
        result,
        versions={"qflsec": "0.2.0"},
        seeds=(2, 3),
        pipelines={"p": {"data": {"name": "iris<b>"}}},
        attacks=(replace(result.attacks[0], params={"steps": 3}), result.attacks[1]),
    )
    page = render_diff(result, other, names=("a", "b"))
    assert rows(page, "in-what-was-asked") == [
        "seeds 0, 1, 2 2, 3",
        "versions.qflsec 0.1.0 0.2.0",
        "pipelines.p.data.name breast-cancer iris<b>",
        "attacks.loss.steps – 3",
    ]
    assert "iris&lt;b&gt;" in page
    assert "1 seed is in common" in page
    same = render_diff(result, result, names=("a", "a"))
    assert "0 of 8 cells differ" in same
    assert "specification, seeds, code and versions are the same" in same
    assert "first: a" in same


def test_other_kinds_and_different_kinds(result: MatrixResult, channel: ChannelMatrixResult) -> None:  # noqa: F811
    page = render_diff(channel, replace(channel, spec={"pulses": 2}), names=("a", "b"))
    assert "specification.pulses" in page
    assert any("eve information bits per raw bit 0.500" in row for row in rows(page, "cells-that-are-equal"))
    with pytest.raises(ConfigError, match="different kinds"):
        render_diff(result, channel, names=("a", "b"))


def test_names_cannot_break_the_page(result: MatrixResult) -> None:
    page = render_diff(result, result, names=("<script>x</script>", "b"))
    assert "<script>x" not in page
    assert "<script>alert(1)" not in page
