"""Who works on a store: one process at a time, no lock outlives its owner, and readers are never kept out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qflsec.base import StoreError
from qflsec.lab import Store
from qflsec.lab.grid.lock import at_work

HOLD = """
import sys, time
from qflsec.lab.grid.lock import at_work
with at_work(sys.argv[1], command="qflsec matrix run mine.toml"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store that is there."""
    Store(tmp_path / "s.sqlite").close()
    return tmp_path / "s.sqlite"


@pytest.fixture
def owner(store: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works on it."""
    command = [sys.executable, "-c", HOLD, str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_told_who_is_at_work_and_a_killed_owner_locks_nothing(
    store: Path, owner: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreError) as caught, at_work(store):
        pass
    message = str(caught.value)
    for word in (
        f"process {owner.pid}",
        os.uname().nodename,
        "qflsec matrix run mine.toml",
        "--wait",
        "s.sqlite",
    ):
        assert word in message, message
    assert "\n" not in message
    with Store(store, create=False) as read:
        assert read.rows() == {}
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    left = store.with_name("s.sqlite.lock")
    assert json.loads(left.read_text())["pid"] == owner.pid, "what a killed owner left behind locks nothing"
    with at_work(store, command="mine"):
        assert json.loads(left.read_text())["pid"] == os.getpid()
    assert not left.exists()


def test_whoever_waits_is_told_once_and_gets_its_turn(store: Path, owner: subprocess.Popen[str]) -> None:
    told: list[str] = []

    def wait(text: str) -> None:
        told.append(text)
        owner.terminate()

    with at_work(store, on_wait=wait):
        assert owner.wait(timeout=10) == -signal.SIGTERM
    assert len(told) == 1
    assert f"process {owner.pid}" in told[0]


def test_the_same_process_does_not_work_twice_at_once(store: Path) -> None:
    with at_work(store), pytest.raises(StoreError, match="at work"), at_work(store):
        pass
    with at_work(store):
        pass


def test_no_folder_no_lock(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder of the store"), at_work(tmp_path / "no" / "s.sqlite"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder without room for files of anybody")
def test_where_no_file_can_be_made_nobody_else_is_blamed() -> None:
    with pytest.raises(StoreError, match="cannot be used"), at_work("/proc/a.sqlite", on_wait=print):
        pass


def test_a_lock_file_that_says_nothing_is_no_riddle(store: Path, owner: subprocess.Popen[str]) -> None:
    store.with_name("s.sqlite.lock").write_text("")
    with pytest.raises(StoreError, match="has not said who it is"), at_work(store):
        pass
    assert owner.poll() is None
