"""The report: complete, self-contained, safe against what users name things, and readable in a browser."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qflsec.base import ConfigError, Score
from qflsec.lab import from_json, to_json
from qflsec.lab.worlds.federation.results import (
    Abort,
    Cell,
    MatrixResult,
    PipelineSummary,
    StackSummary,
    Strongest,
)
from qflsec.report import render_report, write_report
from qflsec.report.accounts import compared, epsilon_note, main_observer, proved_bounds
from qflsec.report.figures import tradeoff_figure
from qflsec.report.html import interval, number
from qflsec.report.states import beyond
from qflsec.report.tradeoff import stack_points


class Collector(HTMLParser):
    """Tags and attributes outside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_one_file_with_everything_in_it(result: MatrixResult) -> None:
    page = render_report(result)
    parser = Collector()
    parser.feed(page)
    for tag, attributes in parser.tags:
        assert tag not in {"link", "iframe", "img"}
        assert "src" not in attributes, tag
    drawn = [
        attributes for tag, attributes in parser.tags if tag == "svg" and attributes.get("role") == "img"
    ]
    assert len(drawn) == page.count('<figure class="figure">') > 4, "drawn without a script"
    assert all(attributes["aria-label"] for attributes in drawn)
    assert "default-src 'none'" in page
    assert len(page) < 150_000


def test_every_state_is_told_in_words_and_signs(result: MatrixResult) -> None:
    page = render_report(result)
    for key, cell in result.cells.items():
        assert f'data-state="{cell.state}"' in page, key
    for word in ("no power", "blocked", "incompatible", "useless", "failed", "aborted"):
        assert word in page
    assert "because it is blocked" in page
    assert "Traceback: boom" in page
    assert "ε = ∞, δ = 1e-05" in page
    assert "helper.py, line 3: exec(x)" in page, "what the ids do not cover"


def test_a_lost_cell_shows_its_advantage_and_counts(result: MatrixResult) -> None:
    trials = tuple(
        replace(
            row,
            status="lost",
            advantage=1.0,
            reason="client:0 sent nothing",
            raw={"dropped": [[0, 3]], "dropped_because": ["client:3: its update did not arrive"]},
        )
        for row in result.cells["flip", "masked"].per_seed
    )
    lost = replace(
        result.cells["flip", "masked"],
        state="lost",
        advantage=replace(result.cells["flip", "none"].advantage, value=1.0),
        per_seed=trials,
        sentence="It is lost.",
    )
    found = replace(result, cells={**result.cells, ("flip", "masked"): lost})
    page = render_report(found)
    assert 'data-state="lost"' in page
    assert "▼ 1.00" in page
    assert "client:0 sent nothing; updates not counted: 1, the first of client:3: its update" in page


def test_aborts_stand_by_their_cause(result: MatrixResult) -> None:
    """A lie that cost no round is no abort; a party is named where it was proved, and nobody elsewhere."""
    key = "flip", "broken <b>& bold</b>"
    causes = (
        (Abort(what="run", caused_by="client:3"),),
        (Abort(what="round", caused_by="client:3"), Abort(what="round", caused_by=None)),
        (Abort(what="lie", caused_by="client:1"),),
    )
    trials = tuple(
        replace(row, aborts=found) for row, found in zip(result.cells[key].per_seed, causes, strict=True)
    )
    cell = replace(result.cells[key], per_seed=trials)
    assert cell.aborts == {"client:3": 2, "cannot be known": 1}
    assert [row["caused_by"] for row in cell.records()] == ["client:3", "client:3, cannot be known", ""]
    made = replace(result, cells={**result.cells, key: cell})
    assert from_json(to_json(made)).cells[key].aborts == cell.aborts
    page = render_report(made)
    assert "by client:3 (2), cannot be known (1)" in page
    assert '<th scope="col">cannot be known</th><th scope="col">client:3</th>' in page
    assert "Aborts by cause" not in render_report(result)


def test_a_rate_that_the_records_cannot_resolve_says_so(result: MatrixResult) -> None:
    """Three non-members: one of them is 33 %, more than a budget of 10 %."""
    row = result.cells["loss", "none"].per_seed[0]
    rate = replace(row.metrics["auc"], name="tpr_at_10_percent_fpr")
    raw = {**row.raw, "resolved_at_10_percent": 0.0}
    trial = replace(row, metrics={"tpr_at_10_percent_fpr": rate}, raw=raw)
    cell = replace(result.cells["loss", "none"], per_seed=(trial,))
    words = "not resolved: one of 3 non-members is already 33.3 %"
    made = replace(result, cells={**result.cells, ("loss", "none"): cell})
    assert words in render_report(made)
    assert cell.records()[0]["resolved_at_10_percent"] is False
    resolved = replace(trial, raw={**raw, "resolved_at_10_percent": 1.0})
    shown = replace(result, cells={**result.cells, ("loss", "none"): replace(cell, per_seed=(resolved,))})
    assert words not in render_report(shown)


def test_advantages_beyond_0_and_1_are_told_apart(result: MatrixResult) -> None:
    page = render_report(result)
    over = page[page.index('href="#cell-flip--none"') - 60 :][:400]
    assert "1.40 ▲" in over
    assert "above 1" in over
    assert 's10 over"' in over
    assert [beyond(value) for value in (1.004, 1.01, -0.004, -0.01, 0.5)] == ["", "over", "", "under", ""]


def test_epsilons_stand_beside_the_stacks_against_a_named_observer(result: MatrixResult) -> None:
    (row,) = result.ledgers["none", "server"]
    rows = [
        {**row, "epsilon": 3.0, "pipeline": "p"},
        {**row, "epsilon": 2.0, "pipeline": "p", "accountant": "another"},
        {**row, "epsilon": 5.0, "pipeline": "q"},
        {**row, "epsilon": 0.1, "pipeline": "q", "bound": "audited lower bound"},
    ]
    made = replace(result, pipelines={"p": {}, "q": {}}, ledgers={("median", "server"): tuple(rows)})
    assert main_observer(made) == "server"
    assert epsilon_note(made, "median", "server") == "ε ≤ 5 per example", "smallest proof, largest pipeline"
    assert epsilon_note(made, "none", "server") == "no epsilon"
    (bound,) = proved_bounds(made, "median", "server", "p")
    assert bound.epsilon == 2.0
    alone = replace(made, ledgers={("median", "server"): tuple(rows[:2])})
    assert epsilon_note(alone, "median", "server") == "ε ≤ 2 per example on p alone"
    assert "<small>ε ≤ 5 per example</small>" in render_report(made)
    assert "no epsilon" in render_report(result), "an infinite one is none"


def test_equal_accounts_are_read_once(result: MatrixResult) -> None:
    (row,) = result.ledgers["none", "server"]
    other = {
        **row,
        "guarantee": "secrecy",
        "layer": "masked",
        "statement": "Another statement.",
        "epsilon": None,
    }
    made = replace(
        result,
        ledgers={
            ("none", "server"): (row,),
            ("median", "server"): (row,),
            ("masked", "server"): (row, other),
        },
    )
    lines = compared(made)
    assert [line.stacks for line in lines] == [("none", "median"), ("masked",)]
    assert lines[1].proof == "differential privacy (dp-sgd); secrecy (masked)"
    page = render_report(made)
    assert page.count("<td>Another statement.</td>") == 1
    assert page.count("<td>A statement.</td>") == 2, "two of three stacks share an account"
    for stack in ("none", "median", "masked"):
        assert f'id="ledger-server--{stack}"' in page


def test_names_cannot_break_the_page(result: MatrixResult) -> None:
    page = render_report(result)
    assert "<script>alert(1)" not in page
    assert "<b>& bold</b>" not in page
    assert "broken &lt;b&gt;&amp; bold&lt;/b&gt;" in page


def test_ids_are_unique_and_every_link_has_its_place(result: MatrixResult) -> None:
    parser = Collector()
    parser.feed(render_report(result))
    ids = [attributes["id"] for _, attributes in parser.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    links = {str(attributes["href"]) for tag, attributes in parser.tags if tag == "a"}
    links -= {link for link in links if link.startswith("data:text/")}  # files that the page itself holds
    assert {link.removeprefix("#") for link in links} <= set(ids), (
        "nothing elsewhere, and nothing that is not there"
    )
    assert sum(link.startswith("#cell-") for link in links) == len(result.cells)
    sections = [attributes["id"] for tag, attributes in parser.tags if tag == "section"]
    assert {f"#{name}" for name in sections} <= links, "the table of contents"


def test_a_stack_that_is_beaten_in_everything_is_not_marked(result: MatrixResult) -> None:
    points = {point.stack: point for point in stack_points(result, "robustness", "p")}
    assert set(points) == {"none", "median"}
    assert points["none"].non_dominated
    assert points["median"].worst.unranked == "useless"
    assert not points["median"].non_dominated
    privacy = {point.stack for point in stack_points(result, "privacy", "p")}
    assert privacy == {"none"}, "cells without power, blocked or incompatible cells do not count"


def number_of(value: float, name: str = "advantage") -> Score:
    return Score(name=name, value=value, low=value, high=value, n=3, baseline=0.0, ideal=1.0)


def mixed(result: MatrixResult, *, unranked: str = "") -> MatrixResult:
    """Two pipelines on which two stacks change places, and a cheap stack that may not be ranked."""
    stacks: dict[str, dict[str, tuple[float, float]]] = {
        "none": {"p": (0.9, 0.9), "q": (0.2, 0.6)},
        "median": {"p": (0.1, 0.8), "q": (0.5, 0.5)},
        "masked": {"p": (0.0, 0.95), "q": (0.0, 0.95)},
    }
    summaries = {
        name: StackSummary(
            stack=name,
            by_pipeline={
                pipeline: PipelineSummary(
                    pipeline=pipeline,
                    accuracy=number_of(accuracy, "accuracy"),
                    worst={
                        "privacy": Strongest(
                            attack="loss",
                            advantage=number_of(advantage),
                            unranked=unranked if name == "masked" else "",
                        )
                    },
                )
                for pipeline, (advantage, accuracy) in parts.items()
            },
        )
        for name, parts in stacks.items()
    }
    return replace(result, summaries={**result.summaries, **summaries}, pipelines={"p": {}, "q": {}})


@pytest.mark.parametrize("unranked", ["useless", "too few seeds", "failed"])
def test_stars_and_points_are_of_one_pipeline_and_of_ranked_stacks_alone(
    result: MatrixResult, unranked: str
) -> None:
    made = mixed(result, unranked=unranked)
    stars = {
        pipeline: {p.stack for p in stack_points(made, "privacy", pipeline) if p.non_dominated}
        for pipeline in ("p", "q")
    }
    assert stars == {"p": {"none", "median"}, "q": {"none"}}, "it beats both, and is not ranked"
    point = {p.stack: p for p in stack_points(made, "privacy", "q")}["median"]
    assert (point.worst.advantage.value, point.utility.value) == (0.5, 0.5), "both of pipeline q"
    looks = {"none": 0, "median": 1, "masked": 2}
    drawn = tradeoff_figure(stack_points(made, "privacy", "q"), "privacy", "q", looks).series
    hollow = {one.name for one in drawn if one.hollow}
    assert hollow == {f"masked ({unranked})"}
    ranked = {p.stack for p in stack_points(mixed(result), "privacy", "q") if p.non_dominated}
    assert ranked == {"masked"}, "the control: ranked, it is the only star"


def test_the_page_shows_every_pipeline_by_itself(result: MatrixResult) -> None:
    page = render_report(mixed(result, unranked="useless"))
    for pipeline in ("p", "q"):
        assert f'scope="rowgroup"><span>pipeline {pipeline}</span></th>' in page
        assert f"Privacy on pipeline “{pipeline}”" in page
    assert "† useless: not ranked" in page


def test_an_empty_matrix_still_makes_a_page(result: MatrixResult) -> None:
    cells = {
        key: Cell(**{**vars(cell), "state": "pending", "advantage": None, "per_seed": ()})
        for key, cell in result.cells.items()
    }
    summaries = {name: StackSummary(stack=name, by_pipeline={}) for name in result.summaries}
    bare = replace(result, cells=cells, summaries=summaries, runs=(), ledgers={}, failures=())
    assert "Nothing was scored yet." in render_report(bare)


def test_numbers_for_people() -> None:
    assert number(-0.126) == "−0.13"
    assert number(-0.001) == "0.00"
    assert number(3e-15, 3) == "3.0e−15"
    assert number(float("nan")) == "–"
    assert number(None) == "–"
    single = Score(name="x", value=1.0, low=float("nan"), high=float("nan"), n=1, baseline=0.0, ideal=1.0)
    assert interval(single) == ""
    known = Score(name="x", value=0.5, low=0.4, high=0.6, n=3, baseline=0.0, ideal=1.0)
    assert interval(known) == "[0.40, 0.60]"


def test_a_report_that_cannot_be_written_is_told_plainly(result: MatrixResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the report; got .*; name another file"):
        write_report(result, tmp_path / "file" / "report.html")
