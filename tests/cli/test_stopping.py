"""SIGTERM ends a command as Ctrl-C does, whatever it is doing, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]
SLOW_SETUP = """
import time
from pathlib import Path
Path("setup").touch()
time.sleep(60)
"""
SLOW_PANEL = """
import time
from pathlib import Path
from qflsec.base import register
from qflsec.report import Panel

@register("panel", "slow")
class Slow(Panel):
    "It takes its time."
    title = "slow"
    def applies(self, result):
        return True
    def render(self, result):
        Path("panel").touch()
        time.sleep(60)
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def group(process: subprocess.Popen[str]) -> list[str]:
    """The processes of the command's group that still run, but for itself."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=3) for line in listed.stdout.splitlines()]
    return [
        row[3]
        for row in rows
        if int(row[1]) == process.pid and int(row[0]) != process.pid and "Z" not in row[2]
    ]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_in_setup(number: int, code: int, tiny: Path, start: Start) -> None:
    (tiny.parent / "mine.py").write_text(SLOW_SETUP)
    tiny.write_text(f'plugins = ["mine.py"]\n{tiny.read_text()}')
    process = start("matrix", "run", "tiny.toml", cwd=tiny.parent)
    wait_for(tiny.parent / "setup", process)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, ""), err
    assert "Traceback" not in err
    assert sorted(path.name for path in tiny.parent.iterdir() if path.suffix in {".sqlite", ".lock"}) == []


@pytest.mark.slow
def test_while_the_page_is_written(tiny: Path, start: Start) -> None:
    (tiny.parent / "mine.py").write_text(SLOW_PANEL)
    tiny.write_text(f'plugins = ["mine.py"]\n{tiny.read_text()}')
    process = start("matrix", "run", "tiny.toml", "--jobs", "1", "--report", "r.html", cwd=tiny.parent)
    wait_for(tiny.parent / "panel", process)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "stopped; every finished batch is in tiny.sqlite." in err
    assert "Traceback" not in err
    assert not (tiny.parent / "r.html").exists(), "no half of a page"
    assert not (tiny.parent / "tiny.sqlite.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.5, 2.0, 5.0])
def test_while_workers_start_and_are_busy(delay: float, tiny: Path, start: Start) -> None:
    tiny.write_text(tiny.read_text().replace("rounds = 2", "rounds = 3000"))
    process = start("matrix", "run", "tiny.toml", "--jobs", "2", cwd=tiny.parent)
    wait_for(tiny.parent / "tiny.sqlite", process)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "stopped; every finished batch is in tiny.sqlite." in err
    deadline = time.monotonic() + 20
    while group(process) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert group(process) == []
