"""What stored runs say of single clients, and the page that shows it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
        assert [len(row) for row in facts["norms"]] == [4] * 3
        assert all(value == float(f"{value:.4g}") > 0 for row in facts["norms"] for value in row)
    (liar,) = attacked["corrupted"]
    for index, (before, after) in enumerate(zip(honest["norms"][0], attacked["norms"][0], strict=True)):
        assert after == pytest.approx((5.0 if index == liar else 1.0) * before, rel=1e-3)
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
    assert part.count("(corrupted)</th><td><b>") == 1
    assert "rejected 2 times: not &lt;finite&gt;" in part
    attacked = next(run.clients for run in runs if run.attack and run.clients)
    honest = next(run.clients for run in runs if not run.attack and run.clients)
    change = attacked["accuracy"][0] - honest["accuracy"][0]
    shown = re.findall(r"<b>([\d.]+)</b> \(([−+][\d.]+)\)", part)
    assert len(shown) == 4
    assert float(shown[0][1].replace("−", "-")) == pytest.approx(change, abs=0.006)
    bare = replace(result, runs=tuple(replace(run, clients={}) for run in result.runs))
    assert "panel-clients" not in render_report(bare)


def panel(result: MatrixResult) -> str:
    return render_report(result).split('<section id="panel-clients"')[1].split("</section>")[0]


def told(result: MatrixResult, **facts: Any) -> MatrixResult:
    """The result with other facts of its clients."""
    runs = [replace(run, clients={**run.clients, **facts}) if run.clients else run for run in result.runs]
    return replace(result, runs=tuple(runs))


def test_the_page_draws_norms_and_says_who_does_not_see_them(result: MatrixResult) -> None:
    part = panel(result)
    assert "A server may not see it" in part
    assert part.count('<figure class="figure">') == 2  # without an attack, and under it
    assert part.count("honest clients</li>") == 2
    assert re.findall(r"client (\d) \(corrupted\)</li>", part) == [
        str(index) for run in result.runs if run.clients for index in run.clients["corrupted"]
    ]
    facts = next(run.clients for run in result.runs if run.clients and run.attack)
    table = part[part.rindex("Norms of updates") :]
    shown = re.findall(r'<td class="num">([\d.]+)</td>', table)
    (liar,) = facts["corrupted"]
    order = [liar, *(index for index in range(4) if index != liar)]
    assert [float(text) for text in shown] == pytest.approx(
        [row[index] for row in facts["norms"] for index in order], abs=6e-4
    )


def test_a_large_lie_gets_a_logarithmic_axis_and_a_gap_no_mark(result: MatrixResult) -> None:
    small = [[0.1, 0.2, 0.3, 0.4]] * 3
    gaps = [[0.1, None, 0.3, 40.0], [0.1, 0.2, 0.3, 40.0], [0.1, 0.2, 0.3, 40.0]]
    assert "L2 norm (logarithmic)" not in panel(told(result, norms=small))
    part = panel(told(result, norms=gaps))
    assert part.count(">L2 norm (logarithmic)</text>") == 2
    assert part.count('<td class="num">–</td>') == 2
    marks = part.split('<figure class="figure">')[1].split("</svg>")[0].count('<path class="mark')
    assert marks == 2  # those of the one client that has a gap
    assert "L2 norm (logarithmic)" not in panel(told(result, norms=[[0.0, 0.1, 0.2, 40.0]] * 3))


def test_many_clients_are_drawn_as_smallest_median_and_largest(result: MatrixResult) -> None:
    norms = [[*(float(index) for index in range(1, 41)), None]] * 2
    part = panel(told(result, norms=norms, corrupted=[0, 40], accuracy=[0.5] * 41))
    assert "honest clients: smallest, median, largest" in part
    table = part[part.rindex("Norms of updates") :]
    assert (
        re.findall(r'<td class="num">([\d.–]+)</td>', table)
        == ["1.000", "–", "2.000", "21.000", "40.000"] * 2
    )


@pytest.mark.parametrize("norms", [[], [[None] * 4] * 3])
def test_stores_without_norms_have_their_page(result: MatrixResult, norms: list[list[None]]) -> None:
    part = panel(told(result, norms=norms))
    assert "<figure" not in part
    old = [
        replace(run, clients={name: value for name, value in run.clients.items() if name != "norms"})
        for run in result.runs
    ]
    part = panel(replace(result, runs=tuple(old)))
    assert "<figure" not in part
    assert "A server may not see it" not in part
    assert part.count("(corrupted)") == 1
