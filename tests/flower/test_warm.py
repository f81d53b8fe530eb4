"""Copies of a process that has everything imported do what Flower's command does, and end with whoever asked for one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qflsec.flower.warm import COMMAND, can_warm, write_command

pytestmark = pytest.mark.skipif(not can_warm(), reason="copies of processes are Linux's")

# what the copies run in the place of Flower's command: the test needs no Flower
STAND_IN = """
import os, sys, time, types
from pathlib import Path
import qflsec.flower.warm as warm
def command():
    if "draw" in sys.argv:
        import random, numpy, torch
        print(random.random(), numpy.random.random(), torch.rand(1, dtype=torch.float64).item(), flush=True)
        sys.exit(0)
    print("said", *sys.argv[1:], os.environ["ASKED"], os.getcwd(), os.getpid(), flush=True)
    print("wrong", file=sys.stderr, flush=True)
    if "wait" in sys.argv:
        time.sleep(60)
    if "raise" in sys.argv:
        raise ValueError("a bug of the app")
    sys.exit(int(sys.argv[1]))
found = types.ModuleType("flwr.supernode.cli")
found.flwr_clientapp = command
sys.modules.update({"flwr": types.ModuleType("flwr"), "flwr.supernode": types.ModuleType("flwr.supernode"), "flwr.supernode.cli": found})
warm._MODULES = tuple(sys.argv[2:])
warm.serve(Path(sys.argv[1]))
"""


@pytest.fixture
def command(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qflsec-"))  # short, as the name of a socket has to be
    place = write_command(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    imported = getattr(request, "param", ())
    nursery = subprocess.Popen([sys.executable, "-c", STAND_IN, str(place), *imported])
    try:
        assert eventually(place.exists)
        yield folder / COMMAND
    finally:
        nursery.kill()
        nursery.wait()
        for part in (place, folder / COMMAND):
            part.unlink()
        folder.rmdir()


def eventually(what: Callable[[], bool]) -> bool:
    for _ in range(500):
        if what():
            return True
        time.sleep(0.02)
    return False


def test_a_copy_has_the_arguments_streams_place_and_end_of_the_command(command: Path, tmp_path: Path) -> None:
    for code in (0, 7):
        done = subprocess.run(
            [command, str(code), "--token", "x"],
            env={**os.environ, "ASKED": "by me"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert done.stdout.startswith(f"said {code} --token x by me {tmp_path} ")
        assert done.stderr == "wrong\n"
    failed = subprocess.run(
        [command, "0", "raise"], env={"ASKED": ""}, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "a bug of the app" in failed.stderr


def test_a_copy_ends_where_the_command_is_killed(command: Path) -> None:
    asking = subprocess.Popen([command, "0", "wait"], env={"ASKED": ""}, stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    copy = int(asking.stdout.readline().split()[-1])
    assert copy != asking.pid
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    asking.stdout.close()
    state = Path(f"/proc/{copy}/stat")
    assert eventually(lambda: not state.exists())


@pytest.mark.parametrize("command", [("numpy", "torch")], indirect=True)
def test_copies_draw_other_numbers_than_each_other(command: Path) -> None:
    """Noise that an app draws from the libraries' own generators may not repeat from node to node and from round to round."""
    told = [
        subprocess.run([command, "draw"], capture_output=True, text=True, check=True).stdout for _ in range(3)
    ]
    draws = [line.split() for line in told]
    for kind in range(3):
        assert len({one[kind] for one in draws}) == 3


def test_a_command_without_its_nursery_fails(tmp_path: Path) -> None:
    write_command(tmp_path / "w")
    done = subprocess.run([tmp_path / "w" / COMMAND], capture_output=True, text=True, check=False)
    assert done.returncode != 0
