"""Signals that end an app: told before its own handler answers them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["tells_its_end"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def tells_its_end(tell: Callable[[], None]) -> Iterator[None]:
    """Call a function when a signal ends this process, before the handler that is there.

    Flower's handler hands in logs and results first. Where the SuperLink is gone that waits for nobody, and after five
    seconds Flower ends the process from another thread: no ``finally`` runs.

    Args:
        tell: What to do first. It must be quick, and must bear being called at any place of the program.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def told(number: int, frame: FrameType | None) -> None:
        tell()
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    # one that is ignored ends nothing, and one that is not Python's cannot be put back
    ours = [number for number, handler in before.items() if handler not in {signal.SIG_IGN, None}]
    for number in ours:
        signal.signal(number, told)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is told:  # Flower's handler takes itself off
                signal.signal(number, before[number])
