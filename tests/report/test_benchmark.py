"""A benchmark's document keeps its rows, its page says what the rows say, and what ships agrees with itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qflsec.base import ConfigError, StoreError
from qflsec.cli.app import app
from qflsec.lab import parse_spec, run
from qflsec.lab.benchmark import Benchmark, federated, pack, read_benchmark, to_text
from qflsec.lab.grid.compare import compare
from qflsec.lab.platforms import PlatformRow
from qflsec.report.benchmark import benchmark_page

SPEC = """
name = "small"
seeds = [0, 1]
secrets = "seeded"
attacks = [
  { name = "sign-flip", label = "sign flip, star", pipeline = "star", threat = "client" },
  { name = "sign-flip", label = "sign flip, softmin", pipeline = "softmin", threat = "client" },
]
[pipelines.star]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 24, nonmembers = 0, auxiliary = 8, test = 40 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 12, learning_rate = 0.5 }
[pipelines.softmin]
data = { name = "breast-cancer", n_features = 2, balanced = true, members = 24, nonmembers = 0, auxiliary = 8, test = 40 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 12, learning_rate = 0.5 }
layers = [{ name = "softmin" }]
[stacks]
none = []
median = [{ name = "median" }]
[threats.client]
kind = "corrupted-clients"
n = 1
"""
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    store = tmp_path_factory.mktemp("small") / "small.sqlite"
    result = federated(run(parse_spec(SPEC, base=Path()), store, jobs=1, command="qflsec matrix run small"))
    row = PlatformRow(
        platform="a kernel", seed=0, tolerance=1e-4, moved=2e-4, answers=1.0, seconds=0.1, ratio=2.0
    )
    return Benchmark(result=result, platforms=(row, replace(row, seed=1)))


def test_the_document_keeps_every_row(small: Benchmark, tmp_path: Path) -> None:
    place = tmp_path / "small.json"
    place.write_text(to_text(pack(small)), encoding="utf-8")
    found = read_benchmark(place)
    assert found.platforms == small.platforms
    assert all(part.same for part in compare(small.result, found.result))
    for key, cell in small.result.cells.items():
        again = found.result.cells[key]
        assert (again.state, again.sentence, again.statuses) == (cell.state, cell.sentence, cell.statuses)
        assert [row.reason for row in again.per_seed] == [row.reason for row in cell.per_seed]
    assert benchmark_page(found, source="small.json") == benchmark_page(small, source="small.json")
    assert to_text(pack(found)) == place.read_text(encoding="utf-8")


def test_a_changed_row_changes_the_page(small: Benchmark, tmp_path: Path) -> None:
    document = pack(small)
    cell = next(one for one in document["cells"] if one["advantage"] is not None)
    cell["advantage"]["value"] += 0.5
    place = tmp_path / "small.json"
    place.write_text(to_text(document), encoding="utf-8")
    assert benchmark_page(read_benchmark(place), source="x") != benchmark_page(small, source="x")


def test_every_cell_and_its_reason_stand_on_the_page(small: Benchmark) -> None:
    page = benchmark_page(small, source="small.json")
    assert "| `softmin` |" in page
    told = re.search(
        r"^(\d+)\. a stack can hold one rule, but has 'median' and 'softmin'$", page, flags=re.MULTILINE
    )
    assert told is not None
    assert f"*incompatible* ({told[1]})" in page
    assert "layers: softmin, beta 1.0" in page
    assert "| a kernel | 2.0e\u221204 |".replace("\u2212", "-") in page
    assert "**no**" in page, "beyond its tolerance"


def test_holes_other_kinds_and_other_versions_are_refused(small: Benchmark, tmp_path: Path) -> None:
    cells = dict(small.result.cells)
    place, cell = next(iter(cells.items()))
    holes = replace(small.result, cells={**cells, place: replace(cell, state="pending")})
    with pytest.raises(ConfigError, match="no holes"):
        pack(Benchmark(result=holes))
    document = pack(small)
    document["benchmark"]["schema"] = "qflsec-benchmark/0"
    other = tmp_path / "other.json"
    other.write_text(to_text(document), encoding="utf-8")
    with pytest.raises(StoreError, match="of this version"):
        read_benchmark(other)


def test_the_page_that_ships_is_made_from_the_document_that_ships() -> None:
    found = read_benchmark(DOCS / "benchmark.json")
    text = (DOCS / "benchmark.md").read_text(encoding="utf-8")
    assert benchmark_page(found, source="docs/benchmark.json") == text
    assert len(found.result.seeds) >= 3
    assert not [cell for cell in found.result.cells.values() if cell.state in {"pending", "failed"}]
    assert all(row.tolerance is None or row.moved <= row.tolerance for row in found.platforms)


def test_results_of_others_are_compared_with_the_document(small: Benchmark, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.json", tmp_path / "other.json"
    mine.write_text(to_text(pack(small)), encoding="utf-8")
    document = pack(small)
    for cell in document["cells"]:
        for row in cell["per_seed"]:
            if row["advantage"] is not None:
                row["advantage"] += 3.0
    other.write_text(to_text(document), encoding="utf-8")
    same = CliRunner().invoke(app, ["matrix", "diff", str(mine), str(mine)])
    moved = CliRunner().invoke(app, ["matrix", "diff", str(mine), str(other)])
    assert same.exit_code == 0
    assert same.output != moved.output
    assert "3.00" in moved.output
