"""The page in headless Chromium: what is read, chosen, printed, and reached without eyes, mouse or JavaScript."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qflsec.lab.worlds.federation.results import MatrixResult
from qflsec.report import write_report
from qflsec.report.html import number

SIZES = {"wide": (1280, 900), "narrow": (390, 844)}

LINES_BEYOND_WORDS = """parts => parts.map((part) => {
  const range = document.createRange();
  range.selectNodeContents(part);
  const lines = new Set([...range.getClientRects()].map((line) => Math.round(line.top)));
  return lines.size - part.textContent.trim().split(/\\s+/).length;
})"""


@pytest.fixture
def path(result: MatrixResult, tmp_path: Path) -> Path:
    """The page; its first stack has an account against the threat model of both attacks."""
    return write_report(result, tmp_path / "report.html")


def opened(chromium: Any, path: Path, *, size: str = "wide", problems: list[str], **options: Any) -> Any:
    width, height = SIZES[size]
    page = chromium.new_page(viewport={"width": width, "height": height}, **options)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.extend([request.url] if "http" in request.url[:5] else []))
    page.goto(path.as_uri())
    return page


def violations(page: Any) -> list[tuple[str, str]]:
    """What axe finds serious or critical, with everything unfolded."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    found = axe.run(page).response["violations"]
    return [
        (one["id"], node["html"])
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def shown(page: Any, selector: str) -> list[str]:
    texts: list[str] = page.locator(selector).evaluate_all(
        "parts => parts.filter(one => one.offsetParent).map(one => one.dataset.row ?? one.dataset.col ?? one.textContent)"
    )
    return texts


def test_the_page_in_a_browser(chromium: Any, path: Path) -> None:
    """One visit: a drill-down, its ledger row, sorting, finding, hiding, the fragment, the keyboard, axe and paper."""
    problems: list[str] = []
    page = opened(chromium, path, problems=problems, color_scheme="light")

    # a cell and what is behind it
    article = page.locator("#cell-loss--none")
    assert not article.is_visible()
    page.locator('a.cell[href="#cell-loss--none"]').click()
    assert article.is_visible()
    assert "loss against none is ok." in article.inner_text()
    assert article.locator("figure").count() == 2
    row = page.locator("#ledger-server--none")
    assert not row.is_visible(), "folded away"
    article.locator('a[href="#ledger-server--none"]').click()
    assert row.is_visible()
    page.locator('a.cell[href="#cell-flip--masked"]').focus()
    page.keyboard.press("Enter")
    assert not article.is_visible()
    assert "because it is failed" in page.locator("#cell-flip--masked").inner_text()

    # sort by a column and by a row, by keyboard; what has no number stands last
    page.locator("thead .sort", has_text="none").focus()
    page.keyboard.press("Enter")
    assert shown(page, "table.matrix tbody tr[data-row]") == ["flip", "loss"]
    assert page.locator('th[aria-sort="descending"]').get_attribute("data-col") == "none"
    page.keyboard.press("Enter")
    assert shown(page, "table.matrix tbody tr[data-row]") == ["loss", "flip"]
    page.locator('tr[data-row="flip"] .sort').click()
    page.locator('tr[data-row="flip"] .sort').click()
    assert shown(page, "table.matrix thead th[data-col]")[:2] == ["median", "none"], "smallest first"

    # find, hide, and the link that keeps it all
    page.locator(".tools input[type=search]").fill("POISONING")
    assert shown(page, "table.matrix tbody tr[data-row]") == ["flip"]
    page.locator(".choose summary", has_text="Columns").click()
    page.get_by_role("checkbox", name="masked").uncheck()
    assert "1 of 2 rows, 3 of 4 columns" in page.locator(".tools").inner_text()
    kept = page.evaluate("location.hash")
    assert {part.split("=")[0] for part in kept.split("&")[1:]} == {"rows", "columns", "find", "nocols"}
    page.goto(path.as_uri() + kept)
    page.reload()
    assert "masked" not in shown(page, "table.matrix thead th[data-col]")
    assert page.locator("#cell-flip--masked").is_visible(), "the place in the same fragment"
    page.locator(".tools button", has_text="Reset").click()
    assert len(shown(page, "table.matrix thead th[data-col]")) == 4
    assert "&" not in page.evaluate("location.hash")
    page.locator('a.cell[href="#cell-loss--none"]').focus()
    for key, to in (("ArrowRight", "cell-loss--median"), ("ArrowDown", "cell-flip--median")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.hash") == f"#{to}"

    # seven states that look different, and the dark scheme by the switch
    look = "e => getComputedStyle(e).border + getComputedStyle(e).background"
    states = ("ok", "no power", "blocked", "incompatible", "useless", "failed", "aborted")
    looks = {
        re.sub(r"\s", "", page.locator(f'a[data-state="{state}"]').first.evaluate(look)) for state in states
    }
    assert len(looks) == 7
    back = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(back) == "rgb(255, 255, 255)"
    page.locator("#theme").click()
    assert page.evaluate(back) == "rgb(18, 22, 28)"
    assert violations(page) == []

    # paper: everything unfolded, every figure drawn, in light colours
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = false))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"
    heights = page.locator("figure svg[role=img]").evaluate_all(
        "parts => parts.map(one => one.getBoundingClientRect().height)"
    )
    assert len(heights) > 5
    assert min(heights) > 50
    for selector in ("#panel-made details pre", "article.drill figure", "#panel-ledger details table"):
        seen = page.locator(selector).evaluate_all("parts => parts.map(one => one.checkVisibility())")
        assert seen, selector
        assert all(seen), selector
    assert not problems


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_axe_finds_nothing_serious(chromium: Any, path: Path, size: str, scheme: str) -> None:
    problems: list[str] = []
    page = opened(chromium, path, size=size, problems=problems, color_scheme=scheme)
    page.locator("a.cell").first.click()
    assert violations(page) == []
    assert not problems


@pytest.mark.slow
def test_a_narrow_window_keeps_the_heads_and_says_that_it_scrolls(chromium: Any, path: Path) -> None:
    problems: list[str] = []
    page = opened(chromium, path, size="narrow", problems=problems)
    place = page.locator(".matrix-scroll")
    assert page.evaluate("document.documentElement.scrollWidth") == 390, (
        "the page itself does not scroll sideways"
    )
    assert page.locator("#panel-matrix .more").first.is_visible()
    assert "rest" in str(place.get_attribute("class")).split()
    place.evaluate("one => one.scrollTo(10000, 0)")
    head = page.locator('tr[data-row="loss"] th').bounding_box()
    assert head is not None
    assert head["x"] >= 0
    page.wait_for_function("!document.querySelector('.matrix-scroll').classList.contains('rest')")


@pytest.mark.slow
def test_the_page_reads_without_javascript(chromium: Any, path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    for part in ("#panel-findings", "table.matrix", "#cell-loss--none figure", "#cell-flip--masked"):
        assert page.locator(part).first.is_visible(), part
    assert not page.locator("#theme").is_visible()
    context.close()


@pytest.mark.slow
def test_paper_of_twenty_stacks(chromium: Any, result: MatrixResult, tmp_path: Path) -> None:
    """A4 landscape: a matrix of twenty columns, and figures of ten clients, are as wide as the paper and no wider."""
    none = result.stacks[0]
    names = [f"stack-{index}" for index in range(19)]
    clients = {
        "accuracy": [1.0] * 10,
        "corrupted": [],
        "counted": [],
        "dropped": [],
        "norms": [[1.0] * 10] * 3,
    }
    wordy = {
        place: tuple(
            {**row, "statement": "words and words " * 40, "trusted": "whoever it is " * 9} for row in rows
        )
        for place, rows in result.ledgers.items()
    }
    wide = replace(
        result,
        ledgers=wordy,
        runs=tuple(replace(result.runs[0], stack=name, clients=clients) for name in (none.name, *names)),
        stacks=(none, *(replace(none, name=name) for name in names)),
        cells={
            (attack.label, name): replace(result.cells[attack.label, "none"], stack=name)
            for attack in result.attacks
            for name in (none.name, *names)
        },
        summaries={name: replace(result.summaries["none"], stack=name) for name in (none.name, *names)},
    )
    path = write_report(wide, tmp_path / "wide.html")
    # A4 landscape less the margins, at 96 dpi
    page = chromium.new_page(viewport={"width": 1032, "height": 703})
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1032, "figures and tables too"
    surplus = page.locator("#panel-ledger details table thead th").evaluate_all(LINES_BEYOND_WORDS)
    assert surplus
    assert max(surplus) <= 0, "a head is no narrower than its words"
    assert len(page.pdf(format="A4", landscape=True, print_background=True)) > 50_000
    assert number(1.0) in page.content()
