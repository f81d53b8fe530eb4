"""The presets on who reads a poisoned model, and on leakage against the anonymity set, with few of their cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from qflsec.lab import MatrixResult, MatrixSpec, load_spec, parse_spec, run
from qflsec.report import render_report
from qflsec.report.panels.leakage import Leakage, leakage_chart

SMALL = """
name = "small"
seeds = [0]
[pipelines.p]
data = { name = "breast-cancer", n_features = 2, members = 12, nonmembers = 0, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 2 }
topology = { name = "gossip" }
[stacks]
none = []
[threats.t]
kind = "peer"
active = true
[[attacks]]
name = "feature-trigger"
pipeline = "p"
threat = "t"
"""


def part(name: str, *labels: str, stacks: tuple[str, ...] = ("none",)) -> MatrixSpec:
    """A preset with some of its attacks and stacks, one seed, and six rounds at most."""
    spec = load_spec(name)
    assert isinstance(spec, MatrixSpec)
    document = spec.model_dump(mode="json", exclude_none=True)
    document["attacks"] = [attack for attack in document["attacks"] if attack["label"] in labels]
    document["stacks"] = {stack: document["stacks"][stack] for stack in stacks}
    document["seeds"] = [0]
    for pipeline in document["pipelines"].values():
        pipeline["federation"]["rounds"] = min(6, pipeline["federation"]["rounds"])
    return MatrixSpec.from_document(document)


def made(spec: MatrixSpec, folder: Path) -> MatrixResult:
    result = run(spec, folder / "store.sqlite", jobs=1)
    assert isinstance(result, MatrixResult)
    return result


def test_the_last_writer_of_a_ring_wins_and_the_worst_neighbour_of_gossip_pays(tmp_path: Path) -> None:
    at_once, later, pairs = (
        "label flip, ring, read at once",
        "label flip, ring, two visits later",
        "sign flip, gossip in pairs",
    )
    result = made(part("readers", at_once, later, pairs, stacks=("none", "received-audit")), tmp_path)
    found = {(label, stack): cell.per_seed[0] for (label, stack), cell in result.cells.items()}
    metrics = {key: {name: score.value for name, score in row.metrics.items()} for key, row in found.items()}
    assert metrics[at_once, "none"]["accuracy"] < 0.6
    assert metrics[later, "none"]["accuracy"] > 0.85
    assert metrics[later, "none"]["worst_accuracy"] < 0.6
    # nobody goes on from what the attacker handed on
    assert metrics[later, "received-audit"]["worst_accuracy"] > 0.8
    gossip = metrics[pairs, "none"]
    assert gossip["worst_accuracy"] < gossip["accuracy"] - 0.1
    assert gossip["honest_worst_accuracy"] > 0.85
    assert metrics[pairs, "received-audit"]["worst_accuracy"] > 0.8
    sentence = result.cells[pairs, "none"].sentence
    left = f"{gossip['accuracy']:.2f} is left to honest readers, {gossip['worst_accuracy']:.2f} to the worst of them"
    assert left in sentence
    by_reader = found[pairs, "none"].raw["accuracy_by_reader"]
    assert len(by_reader) == 9, "the attacker reads its own model, and counts for nothing"


def test_leakage_falls_with_the_number_of_updates_in_a_mean_and_the_report_draws_it(tmp_path: Path) -> None:
    result = made(
        part("anonymity", "label-skew, means of 1", "label-skew, means of 5", "label-skew, means of 20"),
        tmp_path,
    )
    advantage = [
        result.cells[label, "none"].per_seed[0].advantage
        for label in ("label-skew, means of 1", "label-skew, means of 5", "label-skew, means of 20")
    ]
    assert advantage[0] == pytest.approx(1.0, abs=0.15)
    assert advantage[2] == pytest.approx(0.0, abs=0.01)
    chart = leakage_chart(result)
    assert chart is not None
    exact, curve = chart.series
    assert list(curve.x) == [1.0, 5.0, 20.0]
    assert exact.y[0] == pytest.approx(1.0)
    assert Leakage.title in render_report(result)
    del result.cells["label-skew, means of 5", "none"]  # type: ignore[attr-defined]
    assert not Leakage().applies(result), "two points are no curve"


def test_a_backdoor_has_no_one_model_to_be_judged_by_where_every_client_has_one(tmp_path: Path) -> None:
    spec = parse_spec(SMALL, base=tmp_path)
    assert isinstance(spec, MatrixSpec)
    row = made(spec, tmp_path).cells["feature-trigger", "none"].per_seed[0]
    assert row.status == "incompatible"
    assert "a gossip network ends with 3 models" in row.reason
