"""``qflsec matrix run --watch`` and ``qflsec matrix watch``: the page fills as rows arrive."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.cli import watch
from qflsec.lab import assemble, build, load_spec, run_matrix
from qflsec.report.pages import LivePages
from qflsec.report.serve import LiveSite

Call = Callable[..., Any]


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def test_the_page_fills_as_rows_arrive(tiny: Path) -> None:
    world, store = build(load_spec(tiny)), Path("tiny.sqlite")
    pages = LivePages(store, lambda: assemble(world, store), pause_seconds=0.0, share=1.0)
    pending, shown = [], []
    with LiveSite(pages) as site:
        assert "there is no such store" in read(site.url)
        for step in run_matrix(world, store, jobs=1):
            text = read(site.url)
            pending.append(text.count('data-state="pending"'))
            shown.append(step.done)
    assert (pending[0], pending[-1]) == (6, 0)
    assert pending == sorted(pending, reverse=True)
    assert len(set(pending)) > 2, "cell by cell"
    assert shown == sorted(shown)


@pytest.mark.usefixtures("tiny")
def test_it_is_served_while_the_run_lasts(qflsec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    follow = watch.typer.echo

    def told(text: str, **how: Any) -> None:
        seen.extend(re.findall(r"http://127\.0\.0\.1:\d+/\S+/", str(text)))
        follow(text, **how)

    monkeypatch.setattr(watch.typer, "echo", told)
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--seeds", "0", "--watch")
    assert answer.code == 0
    assert "until the run ends; add --keep" in answer.err
    assert len(seen) == 1
    with pytest.raises(OSError, match="refused"):
        read(seen[0])

    def look(_: float) -> None:
        seen.append(read(seen[-1]))
        raise KeyboardInterrupt

    monkeypatch.setattr(watch.time, "sleep", look)
    answer = qflsec("matrix", "watch", "--store", "tiny.sqlite")
    assert (answer.code, answer.out) == (0, "")
    assert "until Ctrl-C" in answer.err
    assert "loss-threshold" in seen[-1]
    assert 'id="live"' in seen[-1]


@pytest.mark.usefixtures("tiny")
def test_odd_questions_get_one_line(qflsec: Call) -> None:
    alone = qflsec("matrix", "run", "tiny.toml", "--keep")
    assert (alone.code, alone.err) == (2, "error: --keep and --port belong to a live page; add --watch\n")
    missing = qflsec("matrix", "watch", "--store", "none.sqlite")
    assert missing.code == 2
    assert missing.err.startswith("error: there is no such store")
