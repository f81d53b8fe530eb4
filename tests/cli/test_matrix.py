"""``qflsec matrix``: run, resume, look, export, compare."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("tiny")
Call = Callable[..., Any]


def test_run_prints_a_table_and_progress(qflsec: Call) -> None:
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1")
    assert answer.code == 0
    assert re.search(r"^attack +none +clip +bad$", answer.out, re.MULTILINE)
    assert re.search(r"^loss-threshold +-?\d\.\d\d +-?\d\.\d\d +incompatible$", answer.out, re.MULTILINE)
    assert "incompatible: every attack x bad: 'median' needs individual updates" in answer.out
    assert "against bad cannot run here" not in answer.out
    said = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--sentences").out
    assert "against bad cannot run here: 'median' needs individual updates" in said
    assert "\nclip on main: " in said
    assert "[0/12 trials" in answer.err
    assert "[12/12 trials" in answer.err
    assert Path("tiny.sqlite").exists()


def test_run_as_json_is_one_document(qflsec: Call) -> None:
    document = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--json").json()
    assert document["schema"] == "qflsec-matrix-result/5"
    assert document["command"] == "qflsec matrix run tiny.toml --jobs 1 --json"
    assert {cell["state"] for cell in document["cells"]} >= {"incompatible"}
    names = {
        name
        for stack in document["summaries"]
        for summary in stack["by_pipeline"].values()
        for name in summary["costs"]
    }
    assert names
    assert all(name.rpartition("_")[2] in {"bytes", "seconds", "messages", "gradients"} for name in names)


def test_the_same_command_again_does_nothing(qflsec: Call) -> None:
    first = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--json").json()
    second = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--json")
    assert "12 of 12 trials are in the store already" in second.err
    assert second.json()["cells"] == first["cells"]


def test_seed_shifts_every_seed(qflsec: Call) -> None:
    run = ("matrix", "run", "tiny.toml", "--jobs", "1", "--json")
    shifted = qflsec(*run, "--seed", "5").json()
    assert shifted["seeds"] == [5, 6]
    assert qflsec(*run, "--seeds", "5-6").json()["cells"] == shifted["cells"]
    assert qflsec(*run, "--seeds", "3").json()["seeds"] == [3]


def test_report_is_written(qflsec: Call) -> None:
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--report", "first.html")
    assert answer.code == 0
    assert qflsec("matrix", "report", "--store", "tiny.sqlite", "--out", "second.html").code == 0
    for name in ("first.html", "second.html"):
        text = Path(name).read_text(encoding="utf-8")
        assert "tiny" in text
        assert "loss-threshold" in text


def test_status(qflsec: Call) -> None:
    qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--seeds", "0")
    whole = qflsec("matrix", "status", "--store", "tiny.sqlite", "--json").json()
    assert (whole["trials_done"], whole["trials_total"], whole["trials_failed"]) == (6, 6, 0)
    partial = qflsec("matrix", "status", "--store", "tiny.sqlite", "--spec", "tiny.toml")
    assert "6 of 12 trials are done" in partial.out
    assert re.search(
        r"^loss-threshold +1/2 +1/2 +1/2\n +pending +pending +pending$", partial.out, re.MULTILINE
    )
    assert all(cell["aborts_by_cause"] == {} for cell in whole["cells"])
    assert "To go on: qflsec matrix run tiny.toml" in partial.out


def test_export(qflsec: Call) -> None:
    qflsec("matrix", "run", "tiny.toml", "--jobs", "1")
    rows = list(
        csv.DictReader(
            io.StringIO(qflsec("matrix", "export", "--store", "tiny.sqlite", "--format", "csv").out)
        )
    )
    assert len(rows) == 12
    assert {row["status"] for row in rows} >= {"ok", "incompatible"}
    scored = next(row for row in rows if row["attack"] == "loss-threshold" and row["status"] == "ok")
    assert float(scored["advantage"]) == pytest.approx(2 * float(scored["auc"]) - 1)
    for form, start in (
        ("csv-cells", "matrix,attack,column,state,"),
        ("csv-ledger", "stack,observer,"),
        ("latex", "%"),
    ):
        assert qflsec("matrix", "export", "--store", "tiny.sqlite", "--format", form).out.startswith(start)
    wrong = qflsec("matrix", "export", "--store", "tiny.sqlite", "--format", "xls")
    assert wrong.err.startswith(
        "error: unknown format; got 'xls'; expected json, csv, csv-cells, csv-ledger, latex"
    )
    assert qflsec("matrix", "export", "--store", "tiny.sqlite", "--out", "r.json").code == 0
    assert json.loads(Path("r.json").read_text())["name"] == "tiny"


def test_diff(tiny: Path, qflsec: Call) -> None:
    qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--store", "a.sqlite")
    qflsec("matrix", "export", "--store", "a.sqlite", "--out", "a.json")
    same = qflsec("matrix", "diff", "a.sqlite", "a.json")
    assert (same.code, same.out) == (0, "0 of 6 cells differ.\n")
    tiny.write_text(tiny.read_text().replace("clip_norm = 0.5", "clip_norm = 0.01"))
    qflsec("matrix", "run", "tiny.toml", "--jobs", "1", "--store", "b.sqlite")
    other = qflsec("matrix", "diff", "a.sqlite", "b.sqlite", "--json")
    assert other.code == 1
    document = other.json()
    assert document["cells_differing"] >= 1
    assert {cell["column"] for cell in document["cells"] if not cell["same"]} == {"clip"}
    answer = qflsec("matrix", "diff", "a.sqlite", "b.sqlite", "--out", "diff.html")
    said = answer.out
    assert (answer.code, answer.err) == (1, "page: diff.html\n")
    page = Path("diff.html").read_text(encoding="utf-8")
    assert "stacks.clip[0].clip_norm" in page
    assert "a.sqlite against b.sqlite" in page
    changed = next(cell for cell in document["cells"] if not cell["same"])["changes"]["advantage"]["value"]
    assert re.search(rf" [-+]{abs(changed):.3f}\nx clip", said)
    assert "x none" not in said


def test_failures_are_told_and_end_with_code_1(tiny: Path, qflsec: Call) -> None:
    (tiny.parent / "mine.py").write_text(
        """
from __future__ import annotations
from dataclasses import dataclass
from qflsec.attacks import Manipulation
from qflsec.base import AttackCard, Source, register

@register("attack", "faulty")
@dataclass(frozen=True, kw_only=True)
class Faulty(Manipulation):
    card = AttackCard(
        name="faulty", idea="Fails.", family="poisoning", goal="integrity", needs=(),
        source=Source(paper="test stand-in", year=2026, where="here"),
    )

    def run(self, hands):
        raise ZeroDivisionError("a bug of the attack")
"""
    )
    text = tiny.read_text().replace('"scaled-sign-flip"', '"faulty"')
    tiny.write_text(f'plugins = ["mine.py"]\n{text}')
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1")
    assert answer.code == 1
    assert re.search(r"^faulty +failed 2/2 +failed 2/2 +incompatible$", answer.out, re.MULTILINE)
    assert answer.out.count("ZeroDivisionError: a bug of the attack") == 2, (
        "a sentence, and the end of its traceback"
    )
    told = answer.out[answer.out.index("failed: 4 trials failed alike: ZeroDivisionError") :].splitlines()
    assert told[0].endswith("; in faulty x none (2), faulty x clip (2)")
    assert told[1].startswith("Traceback (your code alone")
    assert told[2:5] == [
        '  File "mine.py", line 16, in run',
        '    raise ZeroDivisionError("a bug of the attack")',
        "ZeroDivisionError: a bug of the attack",
    ]
    assert answer.out.count("Traceback") == 1
    assert "give the same command again" in answer.err
    assert "Traceback" not in answer.err


def test_a_mistake_in_a_plugin_that_is_imported_or_built_is_told_by_its_own_frames(
    tiny: Path, qflsec: Call
) -> None:
    (tiny.parent / "mine.py").write_text("import math\n\nHALF = math.sqrt(-1)\n")
    tiny.write_text('plugins = ["mine.py"]\n' + tiny.read_text())
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1")
    assert (answer.code, answer.out) == (2, "")
    lines = answer.err.splitlines()
    assert '  File "mine.py", line 3, in <module>' in lines
    assert "    HALF = math.sqrt(-1)" in lines
    assert "qflsec/" not in answer.err
    assert lines[-1].startswith("error: plugin ")
    (tiny.parent / "mine.py").write_text(
        "from qflsec.base import register\n\n@register('model', 'mine')\ndef build(config):\n    return config.n\n"
    )
    tiny.write_text(tiny.read_text().replace('name = "vqc"', 'name = "mine"'))
    answer = qflsec("matrix", "run", "tiny.toml", "--jobs", "1")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.splitlines()[1] == '  File "mine.py", line 5, in build'
    assert answer.err.count("File") == 1


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    tiny: Path, qflsec: Call, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Ctrl-C reaches the whole process group, as on a terminal: the command and its two workers."""
    stacks = "\n".join(f'c{i} = [{{ name = "client-clip", clip_norm = 0.{i} }}]' for i in range(1, 8))
    text = tiny.read_text().replace("rounds = 2", "rounds = 100").replace("none = []", f"none = []\n{stacks}")
    tiny.write_text(text)
    command = ("matrix", "run", "tiny.toml", "--store", "s.sqlite", "--jobs", "2")
    process = start(*command, cwd=tiny.parent)
    assert process.stderr is not None
    lines: list[str] = []
    while not any("main x" in line for line in lines):
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    os.killpg(process.pid, signal.SIGINT)
    begun = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert time.monotonic() - begun < 60
    assert process.returncode == 130
    assert out == ""
    assert "Give the same command again to go on." in err
    assert "Traceback" not in err
    status = qflsec("matrix", "status", "--store", "s.sqlite", "--json").json()
    assert 4 < status["trials_done"] < 40


@pytest.mark.slow
def test_ctrl_c_ends_a_matrix_by_flower_with_all_its_processes(
    start: Callable[..., subprocess.Popen[str]], qflsec: Call, tiny: Path
) -> None:
    """The SuperLink and its nodes are in sessions of their own, which Ctrl-C on a terminal does not reach."""
    text = tiny.read_text().replace("seeds = [0, 1]", "seeds = [0, 1, 2]")
    stacks = text[text.index("clip = ") : text.index("[threats.server]")]
    tiny.write_text(text.replace(stacks, "\n"))
    command = ("matrix", "run", "tiny.toml", "--store", "s.sqlite", "--engine", "flower")
    process = start(*command, cwd=tiny.parent)
    assert process.stderr is not None
    lines: list[str] = []
    while not any("main x" in line for line in lines):
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    children = descendants(process.pid)
    assert len(children) >= 1 + 3  # the SuperLink and the nodes, at least
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    assert "Give the same command again to go on." in err
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while (left := children & living()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    status = qflsec("matrix", "status", "--store", "s.sqlite", "--json").json()
    assert 0 < status["trials_done"] < 6


def descendants(first: int) -> set[int]:
    """The processes that one started, and those that they did."""
    told = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(tuple(map(int, line.split())) for line in told.splitlines())
    family, size = {first}, 0
    while len(family) > size:
        size = len(family)
        family |= {process for process, parent in parents.items() if parent in family}
    return family - {first}


def living() -> set[int]:
    """All processes but those that nobody waited for."""
    told = subprocess.run(["ps", "-eo", "pid=,stat="], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in told.splitlines() if not line.split()[1].startswith("Z")}


def test_live_table_on_a_terminal() -> None:
    """The board draws itself from a step, with counts for each cell."""
    from rich.console import Console

    from qflsec.cli.progress import _Board, duration
    from qflsec.lab import Progress

    board = _Board()
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(board)
    board.take(
        Progress(
            done=3,
            total=6,
            batches_done=1,
            batches_total=2,
            elapsed_seconds=5.0,
            eta_seconds=65.0,
            cells={("dlg", "none"): (3, 3), ("dlg", "median"): (0, 3)},
            message="main x none: 3 ok",
        )
    )
    console.print(board)
    text = console.export_text()
    assert "3 of 6 trials" in text
    assert "done 3" in text
    assert "0/3" in text
    assert "main x none: 3 ok" in text
    assert (duration(65), duration(3), duration(7260), duration(None)) == (
        "1 min 05 s",
        "3 s",
        "2 h 01 min",
        "unknown",
    )
