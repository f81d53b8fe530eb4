"""Processes of one run: each in a group of its own with a log, and all of them ended with it."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from qflsec.base import ConfigError

__all__ = ["Processes", "free_ports"]

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
_GRACE = 8.0
_POLL = 0.1


def free_ports(n: int) -> list[int]:
    """Ports of the loopback that nobody listens at just now.

    Args:
        n: How many.
    """
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(n)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


class Processes:
    """Processes that end when their context is left, for whatever reason it is left.

    Args:
        logs: The folder of their logs.
        environment: What they find in their environment besides this process's own.
        first: Folders whose commands take the place of others of the same name.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str], *, first: Sequence[str] = ()) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        path = os.pathsep.join([*first, str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        self._environment = {**os.environ, "PATH": path, **environment}
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], *, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a process in the place of one of the same name; what it prints goes to the log of its name.

        Args:
            name: Its name.
            command: The command, looked for beside this interpreter first.
            cwd: Where it runs.

        Raises:
            ConfigError: There is no such command.
        """
        found = shutil.which(command[0], path=self._environment["PATH"])
        if found is None:
            raise ConfigError(
                f"the command {command[0]!r} is not installed", fix="pip install 'qflsec[flower]'"
            )
        if name in self._started:  # nobody would end it any more
            self.kill(name)
        with self.log(name).open("ab") as log, _signals_wait():
            started = self._started[name] = subprocess.Popen(  # noqa: S603 - the commands of Flower, with arguments of ours
                [found, *command[1:]],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_ends_with_its_parent,  # noqa: PLW1509 - one call of the system, between fork and exec
            )
        return started

    def leader(self, name: str) -> int:
        """The number of a process, which is that of its group too."""
        return self._started[name].pid

    def log(self, name: str) -> Path:
        """The log of a process."""
        return self._logs / f"{name}.log"

    def ended(self) -> dict[str, int]:
        """The exit codes of those that are not running any more."""
        codes = {name: process.poll() for name, process in self._started.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def kill(self, name: str) -> None:
        """End one with all that it started, at once."""
        _signal(self._started[name], signal.SIGKILL)
        self._started[name].wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all: politely, then not."""
        running = list(reversed(self._started.values()))
        for process in running:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            time.sleep(_POLL)
        for process in running:  # whatever a group still holds goes too
            _signal(process, signal.SIGKILL)
            process.wait()


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM wait until a process is started and known.

    What a handler raises while this process forks is lost in Python's own hooks of a fork; raised before the process is
    known, it would leave one that nobody ends.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for arrived in came:
            signal.raise_signal(arrived)


def _ends_with_its_parent() -> None:
    """Have the system end this process where the one that started it is killed, and can end nothing any more (Linux).

    What it started in its turn are Flower's own, which look for their parents.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
