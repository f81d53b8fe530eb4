"""Workers that are copies of a process with everything imported."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from qflsec.base import BackendError
from qflsec.lab.grid import forks
from qflsec.lab.grid.backends import results

pytestmark = pytest.mark.skipif(not forks.can_fork(), reason="only Linux copies processes soundly")
_MODULES = ("fractions", "no.such.module", "broken_module_of_a_test")


def _facts(task: int, *, parent: int) -> dict[str, object]:
    """What a worker is, as it sees itself."""
    nursery = os.getppid()
    return {
        "task": task,
        "parent": parent,
        "pid": os.getpid(),
        "nursery": nursery,
        "nursery_threads": len(list(Path(f"/proc/{nursery}/task").iterdir())),
        "imported": "fractions" in sys.modules,
        "cwd": str(Path.cwd()),
        "threads": os.environ["OMP_NUM_THREADS"],
        "kept": gc.get_freeze_count(),
        "collected": gc.isenabled() and 700 < gc.get_threshold()[0] <= 50_000,
    }


def _sleep(task: float, *, parent: int) -> int:
    time.sleep(task)
    return parent


def _die(task: int, *, parent: int) -> int:
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return parent


def _die_answering(task: int, *, parent: int) -> int:
    if task == 1:
        (pipe,) = (thing for thing in gc.get_objects() if isinstance(thing, Connection))
        os.write(pipe.fileno(), struct.pack("!i", 100) + b"of a hundred")
    return _die(task, parent=parent)


def test_workers_start_imported_from_one_process_with_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_module_of_a_test.py").write_text("raise ValueError('on import')")
    found = list(results(_facts, range(6), jobs=2, backend="local", modules=_MODULES))
    assert sorted(fact["task"] for fact in found) == list(range(6))
    assert len({fact["pid"] for fact in found}) == 2
    assert os.getpid() not in {fact["pid"] for fact in found}
    (nursery,) = {fact["nursery"] for fact in found}
    assert all(fact["nursery_threads"] == 1 for fact in found), "a copy of several threads is not sound"
    assert all(fact["imported"] for fact in found)
    assert all(fact["collected"] and fact["kept"] > 1000 for fact in found), "modules are no garbage"
    assert {(fact["parent"], fact["cwd"], fact["threads"]) for fact in found} == {
        (os.getpid(), str(tmp_path), "1")
    }
    again = next(iter(results(_facts, range(2), jobs=2, backend="local")))
    assert again["nursery"] == nursery, "what is imported is imported once"


def test_what_a_session_defines_is_sent_by_value() -> None:
    text = (
        "from qflsec.lab.grid.backends import results\n"
        "def mine(task, parent): return 2 * task\n"
        "print(sorted(results(mine, [1, 2, 3], jobs=2, backend='local')))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "[2, 4, 6]\n"


@pytest.mark.parametrize("die", [_die, _die_answering])
def test_a_worker_that_dies_is_an_error_and_ends_the_others(die: Callable[..., int]) -> None:
    with pytest.raises(BackendError, match="a worker died"):
        list(results(die, range(3), jobs=2, backend="local"))
    assert len(list(results(_die, [0, 2], jobs=2, backend="local"))) == 2


def test_whoever_stops_early_ends_the_workers() -> None:
    found = results(_sleep, [0.0, 60.0, 60.0], jobs=2, backend="local")
    next(found)
    nursery = forks._Nursery.mine()._process.pid
    children = Path(f"/proc/{nursery}/task/{nursery}/children")
    assert len(children.read_text().split()) == 2
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while children.read_text().split() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not children.read_text().split()


_COPIED = """
import os, sys, threading, time
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # it starts its threads when it is imported
from pathlib import Path
from qflsec.lab.grid.backends import results
from qflsec.lab.grid.forks import copy_this_process
import fractions, numpy.random
fractions.mark = 7  # a copy knows what its original has done, a fresh process does not
def facts(task, parent):
    nursery = os.getppid()
    threads = len(list(Path(f"/proc/{nursery}/task").iterdir()))
    time.sleep(0.1)  # so that no worker takes all
    same = fractions.mark, parent, nursery, threads, os.environ["OMP_NUM_THREADS"], sys.stdin.read()
    return same, os.getpid(), numpy.random.rand()
wait = threading.Event()
other = threading.Thread(target=wait.wait)
other.start()
assert not copy_this_process(), "a copy of several threads is not sound"
wait.set(); other.join()
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.001)
print("said before", end=" ")  # once, however many copies there are of what is not written yet
assert copy_this_process() and not copy_this_process()
found = list(results(facts, [1, 2, 3], jobs=2, backend="local"))
(one,) = {same for same, *_ in found}
assert len({worker for _, worker, _ in found}) == 2
assert len({drawn for *_, drawn in found}) == 3, "copies must not draw the same"
assert one[0] == 7 and one[1] == os.getpid() != one[2] and one[3:] == (1, "1", ""), one
print(one[2])
"""


def test_workers_can_be_copies_of_the_process_that_asks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COPIED], input="not for workers", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said, before, nursery = done.stdout.split()
    assert (said, before) == ("said", "before")
    assert not Path(f"/proc/{nursery}").exists(), "it ends with whoever asked"


def test_a_copy_ends_with_its_original_however_that_ends() -> None:
    text = (
        "import os, time; from qflsec.lab.grid.forks import copy_this_process, _Nursery\n"
        "assert copy_this_process()\n"
        "print(_Nursery.mine()._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        nursery = Path("/proc") / process.stdout.readline().strip()
        assert nursery.exists()
        process.kill()
    deadline = time.monotonic() + 10
    while nursery.exists() and "zombie" not in _state(nursery) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not nursery.exists() or "zombie" in _state(nursery)


def test_a_request_whose_asker_was_stopped_meanwhile_is_no_traceback() -> None:
    """The answer finds nobody: Ctrl-C fell between a request and its answer."""
    ours, theirs = socket.socketpair()
    pipe, other = socket.socketpair()
    with theirs, pipe, other:
        request = pickle.dumps(((), [], str(Path.cwd())))
        socket.send_fds(ours, [request], [pipe.fileno()])
        ours.close()
        text = f"from qflsec.lab.grid.forks import serve; serve({theirs.fileno()})"
        done = subprocess.run(
            [sys.executable, "-c", text],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def _state(process: Path) -> str:
    try:
        return (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "zombie"
