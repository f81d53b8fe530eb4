"""Every kind of matrix by the same commands: run, stop, resume, look, export, compare, report."""

from __future__ import annotations

import csv
import io
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]
Start = Callable[..., "subprocess.Popen[str]"]

CHANNEL = """
kind = "channel"
name = "line"
seeds = [0, 1]
pulses = 200_000
[channel]
distance_km = 5.0
[countermeasures]
none = []
authentication = ["authentication"]
[[attacks]]
name = "man-in-the-middle"
"""
DELEGATION = """
kind = "delegation"
name = "server"
seeds = [0, 1]
qubits = 1
layers = 1
shots = 200
tests = 200
[clients.open]
pads = "none"
tests = 0
[clients.blind]
[[attacks]]
name = "random-answers"
"""
FILES = {"line": CHANNEL, "server": DELEGATION}
SLOW = {
    "line": CHANNEL.replace("200_000", "6_000_000").replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3]"),
    "server": DELEGATION.replace("= 200", "= 60000").replace("layers = 1", "layers = 4"),
}
"""Matrices that take seconds, so that they can be stopped in the middle."""


@pytest.fixture(params=list(FILES))
def name(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small matrix in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{request.param}.toml").write_text(FILES[request.param])
    return str(request.param)


def test_it_is_run_extended_and_looked_at(name: str, qflsec: Call) -> None:
    run = ("matrix", "run", f"{name}.toml", "--jobs", "1")
    first = qflsec(*run, "--seeds", "0")
    assert (first.code, "[4/4 trials" in first.err) == (0, True), first.err
    partial = qflsec("matrix", "status", "--store", f"{name}.sqlite", "--spec", f"{name}.toml")
    assert f"{name}: 4 of 8 trials are done, 0 of them failed." in partial.out
    assert re.search(r" 1/2 +1/2\n +pending +pending\n", partial.out)
    assert "To go on: qflsec matrix run" in partial.out
    assert (
        qflsec(
            "matrix", "report", "--store", f"{name}.sqlite", "--spec", f"{name}.toml", "--out", "part.html"
        ).code
        == 0
    )
    assert "1 of 2 trials have not been run" in Path("part.html").read_text(encoding="utf-8")
    whole = qflsec(*run, "--json")
    assert "4 of 8 trials are in the store already" in whole.err
    assert {cell["state"] for cell in whole.json()["cells"]}.isdisjoint({"pending", "failed"})
    assert "8 of 8 trials are in the store already" in qflsec(*run).err
    status = qflsec("matrix", "status", "--store", f"{name}.sqlite", "--json").json()
    assert (status["kind"], status["trials_done"]) == (whole.json()["kind"], 8)


def test_it_is_exported_and_compared(name: str, qflsec: Call) -> None:
    run = ("matrix", "run", f"{name}.toml", "--jobs", "1", "--json")
    document = qflsec(*run, "--store", "a.sqlite").json()
    assert qflsec("matrix", "export", "--store", "a.sqlite", "--out", "a.json").code == 0
    same = qflsec("matrix", "diff", "a.sqlite", "a.json")
    assert (same.code, same.out) == (0, "0 of 4 cells differ.\n")
    rows = list(
        csv.DictReader(io.StringIO(qflsec("matrix", "export", "--store", "a.sqlite", "--format", "csv").out))
    )
    assert [(row["attack"], row["column"], int(row["seed"])) for row in rows] == [
        (cell["attack"], cell["column"], seed) for cell in document["cells"] for seed in (0, 1)
    ]
    assert all(row["status"] == "ok" for row in rows)
    place = Path(f"{name}.toml")
    place.write_text(place.read_text().replace("200_000", "150_000").replace("shots = 200", "shots = 100"))
    qflsec(*run, "--store", "b.sqlite")
    other = qflsec("matrix", "diff", "a.sqlite", "b.sqlite")
    assert other.code == 1
    assert re.search(r"^x \w+ +\[-?\d+\.\d+, -?\d+\.\d+\]", other.out, re.MULTILINE), (
        "a change and its interval"
    )
    assert qflsec("matrix", "report", "--store", "a.json", "--out", "r.html").code == 0
    assert name in Path("r.html").read_text(encoding="utf-8")


def test_results_of_different_kinds_are_not_compared(
    qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(f"{name}.toml").write_text(text)
        qflsec("matrix", "run", f"{name}.toml", "--jobs", "1", "--seeds", "0")
    answer = qflsec("matrix", "diff", "line.sqlite", "server.sqlite")
    assert answer.code == 2
    assert "matrices of different kinds" in answer.err


def test_an_unknown_kind_is_told(qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(CHANNEL.replace('"channel"', '"chanel"'))
    answer = qflsec("matrix", "run", "x.toml")
    assert answer.code == 2
    assert "x.toml: kind: unknown kind of matrix" in answer.err
    assert "did you mean 'channel'" in answer.err


def test_a_kind_that_is_not_said_is_guessed_for_the_message_alone(
    qflsec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(DELEGATION.replace('kind = "delegation"', ""))
    for command in (("matrix", "run"), ("blind", "matrix")):
        answer = qflsec(*command, "x.toml")
        assert answer.code == 2
        assert (
            'x.toml: kind: missing; got the keys of a delegation matrix; add kind = "delegation"'
            in answer.err
        )


def stored(path: Path) -> int:
    """How many trials are stored, seen from outside."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)
        try:
            query = "SELECT count(*) FROM units WHERE stage = 'trial' AND status != 'incompatible'"
            return int(connection.execute(query).fetchone()[0])
        finally:
            connection.close()
    except sqlite3.DatabaseError:  # it is only just being made
        return 0


@pytest.mark.parametrize("command", [("matrix", "run"), ("bb84", "matrix"), ("blind", "matrix")])
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_sigterm_ends_cleanly_and_the_same_command_goes_on(
    command: tuple[str, str], jobs: str, tiny: Path, qflsec: Call, start: Start
) -> None:
    """With one worker the work is interrupted in this process; with two, workers are left to finish or die."""
    name = {"bb84": "line", "blind": "server"}.get(command[0], "tiny")
    if name == "tiny":
        stacks = "\n".join(f'c{i} = [{{ name = "client-clip", clip_norm = 1.{i} }}]' for i in range(1, 4))
        text = tiny.read_text().replace("rounds = 2", "rounds = 100")
        tiny.write_text(text.replace("none = []", f"none = []\n{stacks}"))
    else:
        Path(f"{name}.toml").write_text(SLOW[name])
    arguments = (*command, f"{name}.toml", "--store", "s.sqlite", "--jobs", jobs)
    process = start(*arguments, cwd=tiny.parent)
    deadline = time.monotonic() + 120
    while stored(Path("s.sqlite")) < 1 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 143, err
    assert out == ""
    assert "stopped; every finished batch is in s.sqlite. Give the same command again to go on." in err
    assert "Traceback" not in err
    status = qflsec("matrix", "status", "--store", "s.sqlite", "--json").json()
    assert 0 < status["trials_done"] < status["trials_total"]
    assert status["trials_failed"] == 0
    again = qflsec(*arguments[:-1], "1", "--json")
    assert again.code == 0
    assert f"{status['trials_done']} of {status['trials_total']} trials are in the store already" in again.err
