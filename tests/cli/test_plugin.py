"""``qflsec plugin check``: a line for each check, and exit code 1 where one fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qflsec.lab import parse_spec, run

Call = Callable[..., Any]
PLUGIN = '''
import numpy as np
from qflsec.base import register
from qflsec.data import RawData

@register("dataset", "sound")
def sound(spec):
    """Four records."""
    return RawData(features=np.zeros((4, 1)), labels=np.arange(4) % 2, feature_names=("a",), class_names=("x", "y"))
'''
FAULTY = '''
@register("threat", "slip")
def slip():
    """Nobody."""
    return 1 / 0
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sound_plugin(qflsec: Call) -> None:
    Path("mine.py").write_text(PLUGIN)
    answer = qflsec("plugin", "check", "mine.py")
    assert (answer.code, answer.err) == (0, "")
    *lines, last = answer.out.splitlines()
    assert last == "0 of 5 checks failed."
    assert lines[0] == "ok           dataset sound: card"
    assert [line.split(": ")[1] for line in lines] == ["card", "shapes", "state", "determinism", "pickling"]


def test_a_faulty_one_fails_with_its_own_frames_once(qflsec: Call) -> None:
    Path("mine.py").write_text(PLUGIN + FAULTY)
    answer = qflsec("plugin", "check", "mine.py")
    assert answer.code == 1
    assert "failed       threat slip: shapes: ZeroDivisionError: division by zero" in answer.out
    assert answer.out.count('  File "mine.py", line 14, in slip') == 1
    assert answer.out.endswith("2 of 9 checks failed.\n")
    document = qflsec("plugin", "check", "mine.py", "--json")
    assert (document.code, document.json()["failed"]) == (1, 2)
    assert {check["check"] for check in document.json()["checks"] if check["state"] == "failed"} == {
        "shapes",
        "determinism",
    }


def test_what_is_no_plugin_is_one_line(qflsec: Call) -> None:
    for name, words in (("none.py", "cannot be imported"), ("empty.py", "registers nothing")):
        Path("empty.py").write_text("x = 1\n")
        answer = qflsec("plugin", "check", name)
        assert (answer.code, answer.out) == (2, "")
        assert re.fullmatch(rf"error: .*{words}.*\n", answer.err)


STORED = """
kind = "delegation"
name = "server"
plugins = ["mine.py"]
seeds = [0]
shots = 40
tests = 40
[clients.open]
pads = "none"
[[attacks]]
name = "random-answers"
"""


def test_a_store_of_somebody_else_executes_nothing(qflsec: Call) -> None:
    """It names a file as its plugin; the page is made without it, unless the reader names it too."""
    Path("mine.py").write_text("")
    run(parse_spec(STORED, base=Path.cwd()), Path("s.sqlite"), jobs=1)
    Path("mine.py").write_text("from pathlib import Path\nPath('executed').touch()\n")
    commands = (
        ("report", "--store", "s.sqlite", "--out", "r.html"),
        ("status", "--store", "s.sqlite"),
        ("export", "--store", "s.sqlite", "--out", "e.json"),
        ("diff", "s.sqlite", "s.sqlite", "--out", "d.html"),
    )
    for command in commands:
        assert qflsec("matrix", *command).code == 0, command
        assert not Path("executed").exists(), command
    assert qflsec("matrix", *commands[0], "--plugins", "mine.py").code == 0
    assert Path("executed").exists()
