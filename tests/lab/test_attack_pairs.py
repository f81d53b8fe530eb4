"""Attacks in pairs: differences by seed against SciPy, in text and CSV; kinds without advantages are refused."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from qflsec.base import ConfigError
from qflsec.lab.attack_pairs import difference, pairs_csv, pairs_markdown
from qflsec.lab.worlds.federation.results import Cell, MatrixResult
from tests.report.conftest import result as result  # noqa: PLC0414 - a fixture
from tests.report.test_channel_report import result as channel_result  # noqa: F401 - a fixture


def cell(like: Cell, advantages: dict[int, float | None]) -> Cell:
    row = like.per_seed[0]
    return replace(
        like,
        per_seed=tuple(replace(row, seed=seed, advantage=value) for seed, value in advantages.items()),
    )


def twins(result: MatrixResult) -> MatrixResult:
    """The matrix with its first attack twice, the second time 0.3 stronger but for what it varies."""
    first = result.attacks[0]
    second = replace(first, label="twin")
    one: dict[int, float | None] = {0: 0.1, 1: 0.5, 2: 0.3, 3: 0.9}
    two: dict[int, float | None] = {0: 0.4, 1: 0.85, 2: 0.55, 4: -1.0}
    like = next(made for made in result.cells.values() if made.per_seed)
    stacks = result.stacks[:1]
    cells = {
        (first.label, stacks[0].name): cell(like, one),
        ("twin", stacks[0].name): cell(like, two),
    }
    return replace(result, attacks=(first, second), stacks=stacks, cells=cells)


def test_only_seeds_in_common_count_and_runs_that_are_easy_fall_out(result: MatrixResult) -> None:
    made = twins(result)
    first, second = made.cells.values()
    found = difference(second, first)
    assert found is not None
    pairs = np.asarray([0.3, 0.35, 0.25])
    half = stats.t.ppf(0.975, 2) * pairs.std(ddof=1) / np.sqrt(3)
    assert (found.value, found.n) == (pytest.approx(0.3), 3)
    assert (found.low, found.high) == (pytest.approx(0.3 - half), pytest.approx(0.3 + half))
    assert difference(second, cell(first, {7: 0.5})) is None


def test_tables(result: MatrixResult, channel_result: object) -> None:  # noqa: F811
    made = twins(result)
    (row,) = csv.DictReader(io.StringIO(pairs_csv(made)))
    assert (row["attack"], row["less"], row["seeds"]) == ("twin", made.attacks[0].label, "3")
    assert float(row["difference"]) == pytest.approx(0.3)
    text = pairs_markdown(made)
    assert "| twin | " in text
    assert text.count("| 0.30 [0.18, 0.42] |") == 1
    assert text.count("| \u2013 |") == 1, "the first attack has nothing to be compared with"
    alone = replace(made, attacks=made.attacks[:1])
    assert "|---|" not in pairs_markdown(alone)
    for table in (pairs_csv, pairs_markdown):
        with pytest.raises(ConfigError, match="no advantages to compare"):
            table(channel_result)  # type: ignore[arg-type]
