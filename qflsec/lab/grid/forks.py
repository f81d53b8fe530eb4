"""Processes of this machine that begin with everything imported (Linux).

Importing torch takes longer than many a batch. One process, the nursery, imports once what batches need, and
nothing else: it runs no batch, opens no file and has a single thread, so that a copy of it (fork) is sound. Each
worker is such a copy and pays for no import. The nursery lives as long as the process that asked for it; a worker
lives as long as its pipe. A process that is about to run a matrix and does nothing else, as the command line's, can
have a copy of itself as nursery, so that nothing is imported twice.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import multiprocessing
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from qflsec.base.randomness import draw_anew

__all__ = ["can_fork", "copy_this_process", "forked_results", "serve"]

# What malloc does with freed memory, by the numbers of mallopt(3) and by its variables: it keeps it. Batches free and
# take tensors of a few MB all the time, and fresh pages from the kernel cost a tenth of a run.
_KEEPING = (
    (-3, "MALLOC_MMAP_THRESHOLD_", 32 << 20),
    (-1, "MALLOC_TRIM_THRESHOLD_", 256 << 20),
    (-2, "MALLOC_TOP_PAD_", 16 << 20),
)
# One thread: a copy of a process has only the thread that made it.
_ENVIRONMENT = {
    **dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "NUMBA_NUM_THREADS",
        ),
        "1",
    ),
    **{name: str(size) for _, name, size in _KEEPING},
}
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import serve; serve(int(sys.argv[2]))"
_REQUEST = 1 << 20
_NEW_OBJECTS = 20_000
"""How many come before garbage is looked for: views hold thousands, and every 700, Python's default, costs up to 6 % in one process."""
_PATIENCE = 10.0
"""Seconds in which workers end when their pipes are closed."""


def can_fork() -> bool:
    """Whether this system has what workers need; elsewhere joblib's are used."""
    return sys.platform == "linux"


def copy_this_process() -> bool:
    """Have workers be copies of a copy of this process as it stands, all that it has imported and loaded included.

    Only for a process of which nothing else comes: what it changes afterwards, its workers will not know.

    Returns:
        Whether it was copied; nothing is where this process has a nursery, or more than one thread.
    """
    if not can_fork() or os.getpid() in _Nursery.known or len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        return False
    _Nursery.known[os.getpid()] = _Nursery(copied=True)
    return True


def forked_results(
    function: Callable[..., Any], tasks: Sequence[Any], *, jobs: int, modules: Sequence[str]
) -> Iterator[Any]:
    """``function(task, parent=...)`` for each task, as they finish, in any order.

    Args:
        function: A function of a module.
        tasks: Values that can be sent to a worker.
        jobs: The number of workers.
        modules: What is imported before they begin.

    Raises:
        ConnectionError: A worker died.
    """
    import cloudpickle  # what a notebook defines is sent by value

    left = [cloudpickle.dumps(partial(function, task, parent=os.getpid())) for task in reversed(tasks)]
    with ExitStack() as stack:
        busy = []
        for _ in range(min(jobs, len(tasks))):
            busy.append(stack.enter_context(_Nursery.mine().worker(modules)))
            busy[-1].send_bytes(left.pop())
        while busy:
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                try:
                    answer = ready.recv()
                except (EOFError, OSError) as error:  # the latter in the middle of an answer
                    raise ConnectionError("a process ended before its batch did") from error
                if left:
                    ready.send_bytes(left.pop())
                else:
                    busy.remove(ready)
                yield answer


class _Nursery:
    """The process that workers are copies of."""

    known: ClassVar[dict[int, _Nursery]] = {}

    def __init__(self, *, copied: bool = False) -> None:
        self._control, theirs = socket.socketpair()
        self._asking = threading.Lock()
        with theirs:
            self._process = _Copy(self._control, theirs) if copied else _started(theirs)
        atexit.register(self._end)

    @classmethod
    def mine(cls) -> _Nursery:
        """The nursery of this process, started where there is none or it has died."""
        found = cls.known.get(os.getpid())
        if found is None or not found.alive:
            found = cls.known[os.getpid()] = cls()
        return found

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def worker(self, modules: Sequence[str]) -> Connection:
        """A new worker's pipe."""
        ours, theirs = Pipe()
        request = pickle.dumps((tuple(modules), _places(), str(Path.cwd())))
        with theirs, self._asking:
            socket.send_fds(self._control, [request], [theirs.fileno()])
            # until the nursery has the pipe, the next request would run into this one
            if self._control.recv(1) != b".":
                raise ConnectionError("the process that workers are copies of has died")
        return ours

    def _end(self) -> None:
        self._control.close()
        try:
            self._process.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _started(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """A fresh nursery."""
    return subprocess.Popen(  # noqa: S603 - this interpreter
        [sys.executable, "-c", _START.format(module=__name__), json.dumps(_places()), str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT},
    )


class _Copy:
    """A nursery that is a copy of this process, handled like one that was started."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._process = multiprocessing.get_context("fork").Process(target=_serve_copy, args=(ours, theirs))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float) -> None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("the nursery", timeout)

    def kill(self) -> None:
        self._process.kill()


def _serve_copy(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()  # else it would never see the end of whoever asks
    os.environ.update(_ENVIRONMENT)
    with suppress(AttributeError):  # another C library
        for number, _, size in _KEEPING:
            ctypes.CDLL(None).mallopt(number, size)
    serve(theirs.detach())


def _places() -> list[str]:
    """Where modules are found; an empty entry is the working directory."""
    return [os.path.abspath(part) for part in sys.path]  # noqa: PTH100


def serve(control: int) -> None:
    """Make workers until nobody is left to ask for them.

    Args:
        control: The file descriptor that requests come from.
    """
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # these are for whoever asked; the end of its pipes ends all others
        signal.signal(number, signal.SIG_IGN)
    workers: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: _bury(workers, os.WNOHANG))
    with socket.socket(fileno=control) as asked:
        while True:
            try:
                request, pipes, _, _ = socket.recv_fds(asked, _REQUEST, 1)
                if request:
                    asked.sendall(b".")
            except ConnectionError:  # whoever asked was stopped meanwhile
                break
            if not request:
                break
            modules, places, place = pickle.loads(request)  # noqa: S301 - from the process that started this one
            sys.path[:] = places
            _load(modules)
            worker = os.fork()
            if worker == 0:
                asked.close()
                _work(Connection(pipes[0]), place)
            workers.add(worker)
            os.close(pipes[0])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _bury(workers, 0)
    os._exit(0)  # it holds nothing but modules, and taking them apart costs a third of importing them


def _load(modules: Sequence[str]) -> None:
    """Import what workers begin with."""
    gc.disable()  # what modules make stays: to look for garbage among it is a tenth of importing them
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001, S112 - what is missing or broken shows where it is used
            continue
    gc.freeze()
    gc.enable()
    gc.set_threshold(_NEW_OBJECTS)
    if "qflsec.circuits.executors" in sys.modules:
        sys.modules["qflsec.circuits.executors"].warm_up()
    gc.freeze()  # nor do the collections of workers look among it, and write to memory that all share


def _bury(workers: set[int], options: int) -> None:
    """Wait for workers, so that their processor time counts as that of whoever asked for them."""
    for worker in tuple(workers):
        try:
            gone = os.waitpid(worker, options)[0]
        except ChildProcessError:  # a signal came in between
            gone = worker
        workers -= {gone}


def _work(pipe: Connection, place: str) -> NoReturn:
    """Do what comes through a pipe, until it closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    threading.Thread(target=_end_with, args=(pipe.fileno(),), daemon=True).start()
    try:
        draw_anew()
        os.chdir(place)
        while True:
            pipe.send(pickle.loads(pipe.recv_bytes())())  # noqa: S301 - from the process that asked
    except (EOFError, ConnectionError):  # nobody wants more
        pass
    except BaseException:  # noqa: BLE001 - nothing of the nursery may run in a copy of it
        traceback.print_exc()
    finally:
        os._exit(1)


def _end_with(pipe: int) -> None:
    """End this process as soon as the other side of a pipe closes, whatever it is doing."""
    watch = select.poll()
    watch.register(pipe, 0)
    watch.poll()
    os._exit(1)
