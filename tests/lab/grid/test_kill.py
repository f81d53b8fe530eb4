"""A matrix that is killed at any moment, and resumed, ends like one that was left alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qflsec.lab import MatrixSpec, parse_spec, run
from qflsec.lab.grid.spec import GridSpec

Dump = Callable[[Path], dict[str, list[tuple[Any, ...]]]]


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Processes that have the lab imported already, so that every kill costs milliseconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qflsec.lab", "sklearn.datasets", "qflsec.protocols.secagg"])
    yield context
    from multiprocessing.forkserver import _forkserver

    _forkserver._stop()


def stored(path: Path) -> int:
    """How many trials a store holds, seen from outside."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)
    except sqlite3.OperationalError:
        return 0
    try:
        return int(connection.execute("SELECT count(*) FROM units WHERE stage = 'trial'").fetchone()[0])
    except sqlite3.DatabaseError:  # it is only just being made
        return 0
    finally:
        connection.close()


def run_slowly(spec: GridSpec, path: Path) -> None:
    """A run that rests after every batch: on any machine, it is alive for a while after what it stored."""
    run(spec, path, jobs=1, on_progress=lambda _: time.sleep(0.1))


def run_with_kills(server: Any, spec: GridSpec, path: Path, dice: random.Random, most: int) -> list[int]:
    """Run to the end; how many trials were stored when each process was killed."""
    kills: list[int] = []
    for _ in range(40):
        begin, further = stored(path), dice.choice([0, 1, 1])
        process = server.Process(target=run_slowly, args=(spec, path))
        process.start()
        deadline = time.monotonic() + 120
        while process.is_alive() and stored(path) < begin + further and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(dice.uniform(0.0, 0.15))
        if process.is_alive() and len(kills) < most:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills.append(stored(path))
            continue
        process.join(timeout=120)
        assert process.exitcode == 0
        return kills
    raise AssertionError("the matrix never ended")


def larger(tiny_text: str, secrets: str) -> MatrixSpec:
    """Two pipelines, nine stacks that can run and three seeds: eighteen batches."""
    text = tiny_text.replace("seeds = [0, 1]", "seeds = [0, 1, 2]").replace('"seeded"', f'"{secrets}"')
    second = text.split("[pipelines.main]", maxsplit=1)[1].split("[stacks]", maxsplit=1)[0]
    text = text.replace("[stacks]", f"[pipelines.second]{second.replace('rounds = 2', 'rounds = 4')}[stacks]")
    stacks = [f'c{i} = [{{ name = "client-clip", clip_norm = 0.{i} }}]' for i in range(1, 6)]
    stacks.append('masked = [{ name = "masked" }]')
    text = text.replace("[threats.server]", "\n".join([*stacks, "[threats.server]"]))
    more = '[[attacks]]\nlabel = "more"\nname = "sign-flip"\npipeline = "second"\nthreat = "clients"\n'
    return parse_spec(text + more, base=Path())


def test_killed_several_times_the_rows_are_the_same_bit_for_bit(
    server: Any, tiny_text: str, tmp_path: Path, dump: Dump
) -> None:
    spec = larger(tiny_text, "seeded")
    kills = run_with_kills(server, spec, tmp_path / "killed.sqlite", random.Random(20), 6)
    assert len(kills) >= 4, kills
    assert len(set(kills)) >= 3, "the kills must fall between different batches to mean anything"
    run(spec, tmp_path / "whole.sqlite", jobs=1)
    assert dump(tmp_path / "killed.sqlite") == dump(tmp_path / "whole.sqlite")


def test_trials_that_stand_alone_survive_kills_as_well(
    server: Any, pairs: GridSpec, tmp_path: Path, dump: Dump
) -> None:
    kills = run_with_kills(server, pairs, tmp_path / "killed.sqlite", random.Random(22), 3)
    assert len(kills) == 3, kills
    run(pairs, tmp_path / "whole.sqlite", jobs=1)
    found = dump(tmp_path / "killed.sqlite")
    assert len(found["trial"]) == 18
    assert found == dump(tmp_path / "whole.sqlite")


def test_with_real_secrets_statuses_and_outcomes_are_the_same(
    server: Any, tiny_text: str, tmp_path: Path, dump: Dump
) -> None:
    spec = larger(tiny_text, "os")
    kills = run_with_kills(server, spec, tmp_path / "killed.sqlite", random.Random(21), 3)
    assert len(kills) == 3, kills
    run(spec, tmp_path / "whole.sqlite", jobs=1)
    first, second = (dump(tmp_path / name) for name in ("killed.sqlite", "whole.sqlite"))
    for stage in ("run", "ledger", "trial"):
        assert [row[:3] for row in first[stage]] == [row[:3] for row in second[stage]]


def test_workers_do_not_outlive_a_killed_parent(tiny_text: str, tmp_path: Path) -> None:
    """The command line with two worker processes, killed after its first batch and given again."""
    (tmp_path / "tiny.toml").write_text(tiny_text)
    store = tmp_path / "s.sqlite"
    command = [sys.executable, "-c", "from qflsec.cli import main; raise SystemExit(main())", "matrix", "run"]
    command += ["tiny.toml", "--store", str(store), "--json", "--jobs"]
    quiet = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*command, "2"], **quiet, start_new_session=True)
    while process.poll() is None and stored(store) < 7:  # six rows are written before any worker starts
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(process.pid)
    process.communicate()
    again = subprocess.run([*command, "1"], **quiet, check=True, timeout=300)
    cells = json.loads(again.stdout)["cells"]
    assert all(len(cell["per_seed"]) == 2 for cell in cells)


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdecimal():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(place.name))
    return found
