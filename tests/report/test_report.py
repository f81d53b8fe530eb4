"""The report: complete, self-contained, safe against what users name things, and readable in a browser."""

from __future__ import annotations

import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import ConfigError, Score
from qflsec.lab.worlds.federation.results import (
    AttackInfo,
    Cell,
    CellState,
    MatrixResult,
    PipelineUtility,
    RunRow,
    StackInfo,
    StackSummary,
    TrialRow,
)
from qflsec.report import render_report, write_report
from qflsec.report.page import interval, number
from qflsec.report.tradeoff import GOALS, stack_points

STACKS = ("none", "median", "masked", "broken <b>& bold</b>")
STATES: dict[tuple[str, str], CellState] = {
    ("loss", "none"): "ok",
    ("loss", "median"): "no power",
    ("loss", "masked"): "blocked",
    ("loss", "broken <b>& bold</b>"): "incompatible",
    ("flip", "none"): "ok",
    ("flip", "median"): "useless",
    ("flip", "masked"): "failed",
    ("flip", "broken <b>& bold</b>"): "aborted",
}
ADVANTAGES = {("loss", "none"): 0.8, ("loss", "median"): 0.1, ("flip", "none"): 1.4, ("flip", "median"): -0.2}


def score(value: float, name: str = "advantage") -> Score:
    return Score(name=name, value=value, low=value - 0.1, high=value + 0.1, n=3, baseline=0.0, ideal=1.0)


def make_cell(attack: str, stack: str) -> Cell:
    state = STATES[attack, stack]
    value = ADVANTAGES.get((attack, stack))
    status: Any = "ok" if value is not None else state
    raw: dict[str, Any] = {}
    if attack == "loss" and value is not None:
        raw = {"member_scores": [0.9, 0.8, 0.4], "nonmember_scores": [0.5, 0.3, 0.1]}
    if attack == "flip" and value is not None:
        raw = {"accuracy_by_round": [0.5, 0.4], "honest_accuracy_by_round": [0.6, 0.9]}
    trials = tuple(
        TrialRow(
            trial_id=f"t{attack}{stack}{seed}",
            run_id="r",
            seed=seed,
            status=status,
            advantage=value,
            metrics={"auc": score(0.9, "auc")} if value is not None else {},
            raw=raw,
            reason="" if value is not None else f"because it is {state}",
            traceback="Traceback: boom" if state == "failed" else "",
        )
        for seed in (0, 1, 2)
    )
    return Cell(
        attack=attack,
        family="membership" if attack == "loss" else "poisoning",
        stack=stack,
        pipeline="p",
        state=state,
        advantage=None if value is None else score(value),
        per_seed=trials,
        sentence=f"{attack} against {stack} is {state}.",
        threat="server",
    )


@pytest.fixture
def result() -> MatrixResult:
    accuracies = {"none": 0.9, "median": 0.5, "masked": 0.9}
    summaries = {
        name: StackSummary(
            stack=name,
            worst=("flip", score(ADVANTAGES["flip", name])) if ("flip", name) in ADVANTAGES else None,
            utility=score(accuracies[name], "accuracy") if name in accuracies else None,
            utility_loss=score(0.9 - accuracies[name], "loss") if name in accuracies else None,
            useless=name == "median",
            by_pipeline={
                "p": PipelineUtility(
                    pipeline="p", accuracy=score(accuracies[name]), loss=None, useless=name == "median"
                )
            }
            if name in accuracies
            else {},
            costs={"network_bytes": score(58500.0, "network_bytes")} if name in accuracies else {},
        )
        for name in STACKS
    }
    attacks = tuple(
        AttackInfo(
            label=label,
            name=label,
            family="membership" if label == "loss" else "poisoning",
            goal="confidentiality" if label == "loss" else "availability",
            idea="An idea.",
            source="A paper (2020)",
            pipeline="p",
            threat="server",
            threat_sentence="The server follows the protocol and looks.",
        )
        for label in ("loss", "flip")
    )
    row = {
        "guarantee": "differential privacy",
        "layer": "dp-sgd",
        "statement": "A statement.",
        "note": "",
        "epsilon": "infinity",
        "delta": 1e-5,
        "bound": "upper bound",
        "unit": "example",
        "adjacency": "add/remove",
        "accountant": "Opacus RDP",
        "assumption": "information-theoretic",
        "trusted": "nobody",
        "pipeline": "p",
    }
    return MatrixResult(
        name="example </script><script>alert(1)</script>",
        description="A description.",
        command="qflsec matrix run example",
        versions={"qflsec": "0.1.0"},
        created="2026-01-01T00:00:00+00:00",
        seeds=(0, 1, 2),
        attacks=attacks,
        stacks=tuple(StackInfo(name=name) for name in STACKS),
        cells={key: make_cell(*key) for key in STATES},
        summaries=summaries,
        ledgers={("none", "server"): (row,)},
        observers={"server": "The server follows the protocol and looks."},
        pipelines={"p": {"data": {"name": "breast-cancer"}}},
        utility_pipeline="p",
        runs=(
            RunRow(run_id="r", pipeline="p", stack="none", seed=0, accuracy=(0.5, 0.9)),
            RunRow(run_id="r2", pipeline="p", stack="none", seed=1, accuracy=(0.6, 0.8)),
        ),
        failures=("flip against masked, seed 0: boom",),
    )


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
    assert page.count("Plotly.newPlot") >= 1
    assert len([1 for tag, _ in parser.tags if tag == "script"]) == 3


def test_every_state_is_told_in_words_and_signs(result: MatrixResult) -> None:
    page = render_report(result)
    for key, cell in result.cells.items():
        assert f'data-state="{cell.state}"' in page, key
    for word in ("no power", "blocked", "incompatible", "useless", "failed", "aborted"):
        assert word in page
    assert "because it is blocked" in page
    assert "Traceback: boom" in page
    assert "ε = ∞, δ = 1e-05" in page


def test_names_cannot_break_the_page(result: MatrixResult) -> None:
    page = render_report(result)
    assert "<script>alert(1)" not in page
    assert "<b>& bold</b>" not in page
    assert "broken &lt;b&gt;&amp; bold&lt;/b&gt;" in page


def test_ids_are_unique_and_every_button_has_its_article(result: MatrixResult) -> None:
    parser = Collector()
    parser.feed(render_report(result))
    ids = [attributes["id"] for _, attributes in parser.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    controls = {attributes["aria-controls"] for tag, attributes in parser.tags if tag == "button"}
    assert len(controls) == len(STATES)
    assert controls <= set(ids)


def test_a_stack_that_is_beaten_in_everything_is_not_marked(result: MatrixResult) -> None:
    points = {point.stack: point for point in stack_points(result, GOALS["robustness"])}
    assert set(points) == {"none", "median"}
    assert points["none"].non_dominated
    assert points["median"].useless
    assert not points["median"].non_dominated
    privacy = {point.stack for point in stack_points(result, GOALS["privacy"])}
    assert privacy == {"none"}, "cells without power, blocked or incompatible cells do not count"


def test_an_empty_matrix_still_makes_a_page(result: MatrixResult) -> None:
    cells = {
        key: Cell(**{**vars(cell), "state": "pending", "advantage": None, "per_seed": ()})
        for key, cell in result.cells.items()
    }
    bare = MatrixResult(**{**vars(result), "cells": cells, "runs": (), "ledgers": {}, "failures": ()})
    assert "Nothing was scored yet." in render_report(bare)


def test_numbers_for_people() -> None:
    assert number(-0.126) == "−0.13"
    assert number(-0.001) == "0.00"
    assert number(3e-15, 3) == "3.0e−15"
    assert number(float("nan")) == "–"
    assert number(None) == "–"
    single = Score(name="x", value=1.0, low=float("nan"), high=float("nan"), n=1, baseline=0.0, ideal=1.0)
    assert interval(single) == ""
    assert interval(score(0.5)) == "[0.40, 0.60]"


def test_a_report_that_cannot_be_written_is_told_plainly(result: MatrixResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot write the report; got .*; name another file"):
        write_report(result, tmp_path / "file" / "report.html")


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("QFLSEC_REQUIRE_BROWSER"):
            pytest.fail("Chromium is required here, but is not installed")
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium) to run the browser test")
    return found


def test_a_browser_opens_the_page_and_reads_a_drill_down(result: MatrixResult, tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = write_report(result, tmp_path / "report.html")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = chromium.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: problems.extend([request.url] if request.url.startswith("http") else []),
        )
        page.goto(path.as_uri())
        article = page.locator("#cell-loss--none")
        assert not article.is_visible()
        page.locator('button[aria-controls="cell-loss--none"]').click()
        assert article.is_visible()
        assert "loss against none is ok." in article.inner_text()
        page.wait_for_selector("#cell-loss--none .js-plotly-plot .main-svg")
        assert article.locator(".js-plotly-plot").count() == 2
        page.keyboard.press("Tab")
        page.locator('button[aria-controls="cell-flip--masked"]').focus()
        page.keyboard.press("Enter")
        assert not article.is_visible()
        assert "boom" in page.locator("#cell-flip--masked").inner_text() + page.content()
        assert (
            page.locator('button[aria-controls="cell-flip--masked"]').get_attribute("aria-expanded") == "true"
        )
        page.goto(path.as_uri() + "#cell-flip--median")
        page.reload()
        assert page.locator("#cell-flip--median").is_visible()
        colours = {
            re.sub(
                r"\s",
                "",
                page.locator(f'button[data-state="{state}"]').first.evaluate(
                    "e => getComputedStyle(e).border + getComputedStyle(e).background"
                ),
            )
            for state in ("ok", "no power", "blocked", "incompatible", "useless", "failed", "aborted")
        }
        assert len(colours) == 7
        assert not problems
        chromium.close()
