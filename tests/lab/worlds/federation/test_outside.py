"""Cells outside a guarantee: which they are, and that table, sentence, document and report say so."""

from __future__ import annotations

import tomllib
from dataclasses import replace

from qflsec.cli.remarks import remarks
from qflsec.lab.worlds.federation.document import from_document, to_document
from qflsec.lab.worlds.federation.matrix import build_matrix
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.lab.worlds.federation.spec import MatrixSpec
from qflsec.report.panels.matrix import HeatMap
from tests.report.conftest import result as result  # noqa: PLC0414 - a fixture

SPEC = """
name = "outside"
seeds = [0]
[pipelines.p]
data = { name = "breast-cancer", n_features = 2, members = 40, nonmembers = 10, auxiliary = 20, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 11, declared_corrupted = 2 }
[pipelines.few]
data = { name = "breast-cancer", n_features = 2, members = 40, nonmembers = 10, auxiliary = 20, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 11, declared_corrupted = 1, participation = 0.5 }
[stacks]
none = []
median = [{ name = "median" }]
bulyan = [{ name = "bulyan" }]
buckets = [{ name = "bucketing", size = 3 }, { name = "median" }]
masked = [{ name = "masked" }]
[threats.two]
kind = "corrupted-clients"
n = 2
[threats.three]
kind = "drawn-clients"
n = 3
among = 11
[threats.server]
kind = "honest-but-curious-server"
[[attacks]]
name = "sign-flip"
label = "two"
pipeline = "p"
threat = "two"
[[attacks]]
name = "sign-flip"
label = "three"
pipeline = "p"
threat = "three"
[[attacks]]
name = "sign-flip"
label = "few"
pipeline = "few"
threat = "three"
[[attacks]]
name = "dlg"
pipeline = "p"
threat = "server"
"""


def test_which_cells_lie_outside() -> None:
    """The real number of corrupted clients, the declared one, and that of the worst round."""
    matrix = build_matrix(MatrixSpec.from_document(tomllib.loads(SPEC)))
    found = {
        (entry.label, stack): why
        for entry in matrix.attacks
        for stack in matrix.stacks
        if (why := matrix.outside(entry, stack))
    }
    assert found == {
        (
            "two",
            "buckets",
        ): "'bucketing' needs f < n / (2 size), and n = 11, f = 2; 'median' needs f < n/2, and n = 4, f = 2",
        ("three", "bulyan"): "'bulyan' reckons with f = 2 corrupted clients of 11, and 3 are",
        (
            "three",
            "buckets",
        ): "'bucketing' needs f < n / (2 size), and n = 11, f = 3; 'median' needs f < n/2, and n = 4, f = 3",
        ("few", "median"): "'median' needs f < n/2, and n = 6, f = 3",
        ("few", "bulyan"): "'bulyan' reckons with f = 1 corrupted clients of 6, and 3 are",
        (
            "few",
            "buckets",
        ): "'bucketing' needs f < n / (2 size), and n = 6, f = 3; 'median' needs f < n/2, and n = 2, f = 3",
    }


def test_a_pool_for_each_seed_is_drawn_by_the_run() -> None:
    text = SPEC.replace("among = 11", "among = 11\neach_seed = true")
    matrix = build_matrix(MatrixSpec.from_document(tomllib.loads(text)))
    entry = matrix.entry("three")
    pools = [entry.run_spec(seed).threat for seed in range(4)]
    assert [None if pool is None else pool.clients for pool in pools] == [
        entry.threat.at(seed).clients for seed in range(4)
    ]
    assert len({pool.clients for pool in pools if pool is not None}) > 1
    assert "3 are" in matrix.outside(entry, "bulyan")


def test_it_is_said_wherever_a_cell_is_shown(result: MatrixResult) -> None:
    reason = "'krum' needs 2f + 2 < n, and n = 6, f = 2"
    key = ("flip", "none")
    marked = replace(result, cells={**result.cells, key: replace(result.cells[key], outside=reason)})
    assert from_document(to_document(marked)).cells[key].outside == reason
    assert f"outside: flip x none: {reason}." in list(remarks(marked))
    assert HeatMap().render(marked).count("‡ outside its guarantee") == 2, "the cell and the legend"
    assert "‡" not in HeatMap().render(result)
    assert marked.cells[key].records()[0]["outside_guarantee"] == reason
