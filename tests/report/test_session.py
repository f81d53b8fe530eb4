"""The session on the page: composed once per data set, and whose data it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qflsec.lab import MatrixResult
from qflsec.lab.worlds.federation.results import RunRow
from qflsec.report.panels.session import Session


def bounded(result: MatrixResult, **data: Any) -> MatrixResult:
    (row,) = result.ledgers["none", "server"]
    stated = {**row, "epsilon": 2.0, "seeds": [0, 1]}
    pipelines = {"p": {"data": {"name": "csv", "path": None, **data}}}
    return replace(result, ledgers={("none", "server"): (stated,)}, pipelines=pipelines)


def test_own_data_are_spent_and_public_ones_are_not(result: MatrixResult) -> None:
    own = Session().render(bounded(result, path="my <b>records</b>.csv"))
    assert "This is your own data: the composed figure is what this matrix has spent on it" in own
    assert "my &lt;b&gt;records&lt;/b&gt;.csv" in own
    assert "This data set is public" not in own
    public = Session().render(bounded(result, name="breast-cancer"))
    assert "This data set is public" in public
    assert "your own data: the composed" not in public
    plugin = Session().render(bounded(result, name="my-plugin"))
    assert "This is your own data" in plugin, "a data set of a plugin is nobody else's"


def test_two_runs_of_epsilon_two_are_four(result: MatrixResult) -> None:
    page = Session().render(bounded(result, name="breast-cancer"))
    assert "ε = 4, δ = 2e-05, basic composition" in page
    attacked = RunRow(run_id="r3", pipeline="p", stack="none", seed=0, attack="flip")
    page = Session().render(replace(bounded(result, name="iris"), runs=(*result.runs, attacked)))
    assert "∞" in page
    assert "none under attack" in page


def test_without_an_epsilon_it_says_that_nothing_bounds(result: MatrixResult) -> None:
    assert "2 runs, and no ledger states an epsilon for any of them" in Session().render(result)
    assert not Session().applies(replace(result, runs=()))
