"""``qflsec init`` writes what runs at once, and overwrites nothing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.lab import build, load_spec

Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_it(qflsec: Call) -> None:
    answer = qflsec("matrix", "run", "matrix.toml", "--jobs", "1")
    assert answer.code == 0, answer
    assert "failed" not in answer.out
    assert "report: page.html" in answer.err.replace(str(Path.cwd()) + "/", "")
    assert "<html" in Path("page.html").read_text()
    found = sorted(path.name for path in Path().iterdir() if path.is_file())
    assert found == ["circuit.py", "matrix.toml", "my-matrix.sqlite", "page.html", "records.csv"]


def test_what_is_written_runs_and_ends_in_a_page(qflsec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    said = qflsec("init", "my lab").out
    assert said.splitlines()[-1] == "next: cd 'my lab' && qflsec matrix run matrix.toml"
    monkeypatch.chdir("my lab")
    text = Path("matrix.toml").read_text()
    # shorter, and without what takes longest
    shorter = {
        "[0, 1, 2, 3, 4, 5] ": "[0] ",
        "rounds = 12": "rounds = 1",
        '"dlg"': '"sum-alignment"',
        "restarts = 8": "",
        "dp-sgd = [": "# [",
    }
    for old, new in shorter.items():
        assert old in text
        text = text.replace(old, new)
    Path("matrix.toml").write_text(text)
    run_it(qflsec)


@pytest.mark.slow
def test_it_runs_as_it_is_written(qflsec: Call) -> None:
    qflsec("init")
    run_it(qflsec)


def test_everything_in_it_can_be_used(qflsec: Call) -> None:
    """The lines that are commented out are right too."""
    qflsec("init")
    text = Path("matrix.toml").read_text()
    lines = [
        line.removeprefix("# ")
        if line.startswith("# ") and ("= " in line or line.startswith("# ["))
        else line
        for line in text.splitlines()
        if not line.startswith("# plugins")
    ]
    full = tomllib.loads("\n".join(lines))
    assert {"data", "model", "federation", "partition", "execution", "topology"} <= set(
        full["pipelines"]["training"]
    )
    Path("full.toml").write_text("\n".join(lines))
    world = build(load_spec("full.toml"))
    world.check()
    for line in text.splitlines():
        assert len(line) <= 130 or line.startswith("data = ")


def test_nothing_is_overwritten(qflsec: Call) -> None:
    Path("records.csv").write_text("mine")
    answer = qflsec("init")
    assert (answer.code, answer.out) == (2, "")
    assert "nothing is overwritten; got records.csv in" in answer.err
    assert [path.name for path in Path().iterdir()] == ["records.csv"]
    assert qflsec("init", "records.csv").code == 2


def test_it_needs_nothing_heavy() -> None:
    program = "import sys; from qflsec.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\nprint(sorted({'torch', 'numpy', 'pennylane'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program, "init"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
