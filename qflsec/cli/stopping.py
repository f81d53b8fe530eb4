"""SIGTERM ends a command as Ctrl-C does; batch systems send it before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Terminated", "exit_code", "terminable"]


class Terminated(BaseException):
    """SIGTERM, as an exception that no handler of errors takes for one."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise :class:`Terminated` at the first SIGTERM; what cleans up afterwards is not interrupted by a second."""
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(stop: BaseException) -> int:
    """What a shell says of a program that a signal has ended: of SIGTERM, or else of Ctrl-C."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)
