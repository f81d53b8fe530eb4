"""What stored runs say of single clients, and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from qflsec.lab import assemble, build, from_json, parse_spec, run_matrix, to_json
from qflsec.lab.worlds.federation.clients import client_facts
from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report import render_report

SPEC = """
kind = "federation"
name = "clients"
seeds = [3, 4]
[pipelines.main]
data = { name = "breast-cancer", n_features = 2, members = 24, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 4, rounds = 3, learning_rate = 0.3 }
[stacks]
none = []
[threats.clients]
kind = "corrupted-clients"
n = 1
[[attacks]]
name = "scaled-sign-flip"
pipeline = "main"
threat = "clients"
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> MatrixResult:
    folder: Path = tmp_path_factory.mktemp("clients")
    world = build(parse_spec(SPEC, base=folder))
    list(run_matrix(world, folder / "s.sqlite", jobs=1))
    found = assemble(world, folder / "s.sqlite")
    assert isinstance(found, MatrixResult)
    return found


def test_runs_of_the_first_seed_say_who_took_part_and_what_the_model_is_to_each(result: MatrixResult) -> None:
    told = {(run.attack, run.seed): run.clients for run in result.runs}
    assert {key for key, facts in told.items() if facts} == {("", 3), ("scaled-sign-flip", 3)}
    honest, attacked = told["", 3], told["scaled-sign-flip", 3]
    assert honest["corrupted"] == []
    assert len(attacked["corrupted"]) == 1
    for facts in (honest, attacked):
        assert facts["counted"] == [[0, 1, 2, 3]] * 3
        assert facts["dropped"] == []
        assert len(facts["accuracy"]) == 4
        assert all(0 <= one <= 1 for one in facts["accuracy"])
    assert honest["accuracy"] != attacked["accuracy"]
    assert from_json(to_json(result)) == result


def test_too_many_clients_are_not_stored() -> None:
    run = SimpleNamespace(clients=(None,) * 101, training=SimpleNamespace(rounds=1))
    assert client_facts(run) == {}  # type: ignore[arg-type]


def test_the_page_shows_them(result: MatrixResult) -> None:
    runs = tuple(
        replace(run, clients={**run.clients, "dropped": [[0, 2, "not <finite>"], [1, 2, "not <finite>"]]})
        if run.attack and run.clients
        else run
        for run in result.runs
    )
    page = render_report(replace(result, runs=runs))
    part = page[page.index('<section id="panel-clients"') :].split("</section>")[0]
    assert "seed 3: an observation" in part
    assert "scaled-sign-flip, on pipeline “main”" in part
    assert part.count("(corrupted)") == 1
    assert "rejected 2 times: not &lt;finite&gt;" in part
    attacked = next(run.clients for run in runs if run.attack and run.clients)
    honest = next(run.clients for run in runs if not run.attack and run.clients)
    change = attacked["accuracy"][0] - honest["accuracy"][0]
    shown = re.findall(r"<b>([\d.]+)</b> \(([−+][\d.]+)\)", part)
    assert len(shown) == 4
    assert float(shown[0][1].replace("−", "-")) == pytest.approx(change, abs=0.006)
    bare = replace(result, runs=tuple(replace(run, clients={}) for run in result.runs))
    assert "panel-clients" not in render_report(bare)
