"""Who is at work on a store: one process at a time, while readers are never kept out.

The lock is the operating system's, on a file beside the store, and ends with its owner however that ends. The file says
who that is, for people; it is removed with the lock, and one that a killed owner left behind locks nothing.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from qflsec.base import StoreError

__all__ = ["at_work"]


@contextmanager
def at_work(
    store: str | Path, *, command: str = "", on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Keep other processes from working on a store meanwhile.

    On a network file system this is as good as its locks, which the kernel passes on to the server; where there are
    none, the lock is a file with host and process number, which a host takes over only from its own dead processes.

    Args:
        store: The store, which need not exist.
        command: What is being done, for those that come second.
        on_wait: Told who is at work, before waiting until it has ended; by default nobody waits.

    Raises:
        StoreError: Another process is at work, or there can be no file beside the store.
    """
    path = Path(f"{store}.lock").absolute()
    if not path.parent.is_dir():
        raise StoreError("the folder of the store does not exist", got=path.parent, fix="make it first")
    lock = FileLock(path)
    try:
        _acquire(lock, path, store, on_wait)
    except OSError as error:
        raise StoreError(
            f"the store {store} cannot be used",
            got=f"{path}: {error.strerror}",
            fix="see that files can be made in its folder",
        ) from error
    try:
        said = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now(), "command": command}
        with suppress(OSError):  # it is for people alone
            path.write_text(json.dumps(said), encoding="utf-8")
        yield
    finally:
        with suppress(
            OSError
        ):  # while it is locked; whoever has it open finds that it is gone, and makes another
            path.unlink()
        lock.release()


def _acquire(lock: FileLock, path: Path, store: str | Path, on_wait: Callable[[str], None] | None) -> None:
    path.open("ab").close()  # raises where there can be no such file, which the lock would wait for
    try:
        lock.acquire(blocking=False)
    except Timeout:
        who = _who(path)
        if on_wait is None:
            raise StoreError(
                f"another process is at work on {store}",
                got=who,
                fix="wait until it has ended (--wait does), stop it, or name another file with --store",
            ) from None
        on_wait(f"another process is at work on {store} ({who}); waiting until it has ended")
        lock.acquire(poll_interval=0.5)


def _who(path: Path) -> str:
    """Who holds the lock, as it said; it may just have begun or ended."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return f"process {said['pid']} on {said['host']} since {said['since']}: {said['command'] or 'no command'}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said who it is"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
