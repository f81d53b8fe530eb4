"""Panels are plugins: their cards, their order, one that fails, and one from the documentation."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qflsec.base import find, names, register
from qflsec.base.registry import forget
from qflsec.lab import MatrixResult
from qflsec.report import Axis, Chart, Panel, Series, figure, render_report, table
from qflsec.report.html import fill, number, slug

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding" / "panel.md"


@pytest.fixture
def plugins() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    yield
    forget(__name__)


def titles(page: str) -> list[str]:
    return re.findall(r'<h2 id="panel-[a-z0-9-]+-title">(.*?)</h2>', page)


@pytest.mark.parametrize("name", names("panel"))
def test_every_panel_says_what_it_shows(name: str) -> None:
    kind = find("panel", name)
    assert issubclass(kind, Panel)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert kind.title
    assert kind.title == kind.title.strip()
    line, *_ = (inspect.getdoc(kind) or "").splitlines()
    assert line.endswith(".")
    assert kind.order % 5 == 0, "the package leaves room between its panels"
    assert kind().applies(object()) is False, "a panel shows only what it knows"


def test_no_two_panels_of_a_page_share_a_heading_or_a_place(result: MatrixResult) -> None:
    shown = [kind for kind in map(_panel, names("panel")) if kind().applies(result)]
    assert len({kind.title for kind in shown}) == len(shown)
    assert len({kind.order for kind in shown}) == len(shown)
    assert titles(render_report(result)) == [
        kind.title for kind in sorted(shown, key=lambda kind: kind.order)
    ]


def _panel(name: str) -> type[Panel]:
    kind: type[Panel] = find("panel", name)
    return kind


def test_the_page_says_which_attacks_were_adaptive(result: MatrixResult) -> None:
    said = "No attack of membership, poisoning was adaptive"
    page = render_report(result)
    assert said in page
    assert "Adaptive" not in page
    attacks = tuple(replace(attack, adaptive=attack.label == "flip") for attack in result.attacks)
    page = render_report(replace(result, attacks=attacks))
    assert "computed against each stack&#39;s own layers: flip." in page
    assert "No attack of membership was adaptive" in page
    assert re.search(r"<small>server; p; adaptive</small>", page)
    assert page.count("Adaptive: computed against this stack's own layers.") == len(result.stacks)


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("where", ["applies", "render"])
def test_a_panel_that_fails_takes_no_other_down(where: str, result: MatrixResult) -> None:
    before = titles(render_report(result))

    @register("panel", "broken")
    class Broken(Panel):
        """Fails."""

        title = "Broken"
        order = 25.0

        def applies(self, result: object) -> bool:
            if where == "applies":
                raise ZeroDivisionError("<b>nothing</b> to divide")
            return True

        def render(self, result: object) -> str:
            raise ZeroDivisionError("<b>nothing</b> to divide")

    page = render_report(result)
    assert titles(page) == [*before[:3], "Broken", *before[3:]]
    assert "This panel failed: ZeroDivisionError: &lt;b&gt;nothing&lt;/b&gt; to divide" in page
    assert "test_panels.py" in page, "the traceback"
    assert "<b>nothing" not in page


@pytest.mark.usefixtures("plugins")
def test_a_page_has_only_the_panels_that_apply(result: MatrixResult) -> None:
    class Other:
        name, description, created = "other", "Another kind of result.", "2026-01-01"

    @register("panel", "plain")
    class Plain(Panel):
        """Shows a line."""

        title = "Plain"

        def applies(self, result: object) -> bool:
            return isinstance(result, Other)

        def render(self, result: Other) -> str:
            return str(table(("name", "n"), [("<i>", 1), ("b", 0.5)]))

    page = render_report(Other())
    assert titles(page) == ["Plain"]
    assert "&lt;i&gt;" in page
    assert '<td class="num">0.500</td>' in page
    assert "Plain" not in titles(render_report(result))


def test_figures_and_numbers() -> None:
    evil = "</svg><script>alert(1)"
    series = Series(name=evil, x=[evil, "b"], y=[1.0, 2.0], labels=[evil, ""], hints=[evil, evil])
    text = figure(Chart(title=evil, x=Axis(label=evil), y=Axis(label=evil), series=[series]), 'a "label"')
    assert evil not in text
    assert "a &#34;label&#34;" in text
    assert slug("A b/ß<c>") == "A-b-c"
    assert number(12345.678, 1) == "12,345.7"
    assert "&lt;" in fill("panels/overview.html.j2", text="<", notes=(), failures=())


def test_the_documented_panel_works_from_one_file(tmp_path: Path) -> None:
    found = re.search(
        r"<!-- tested: panel -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    (tmp_path / "seed_spread.py").write_text(found.group(1))
    (tmp_path / "matrix.toml").write_text(
        """
name = "mine"
seeds = [0, 1]
plugins = ["seed_spread.py"]
[pipelines.p]
data = { name = "breast-cancer", n_features = 2, members = 12, nonmembers = 8, auxiliary = 8, test = 20 }
model = { name = "vqc", n_qubits = 2, layers = 1 }
federation = { n_clients = 3, rounds = 1 }
[stacks]
none = []
[threats.s]
kind = "honest-but-curious-server"
[[attacks]]
name = "loss-threshold"
pipeline = "p"
threat = "s"
"""
    )
    command = ["-m", "qflsec", "matrix", "run", "matrix.toml", "--jobs", "1", "--report", "page.html"]
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    places = [
        titles(page).index(title)
        for title in ("Behind a cell", "Spread over the seeds", "Privacy, robustness, utility and cost")
    ]
    assert places == sorted(places)
    assert places[1] - places[0] == places[2] - places[1] == 1
    assert "This panel failed" not in page
