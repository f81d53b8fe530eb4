"""Failures of the user's code, told by the user's own frames.

A plugin is called from deep inside the package, and calls libraries that go deep as well: of twenty frames one or
two are the user's, and the mistake is in them.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from traceback import FrameSummary, TracebackException

from qflsec.base.errors import QflsecError

__all__ = ["SHOW_ALL", "own_traceback", "traceback_of"]

SHOW_ALL = "QFLSEC_TRACEBACK"
"""The environment variable that, set to ``all``, leaves tracebacks whole."""
_PACKAGE = Path(__file__).resolve().parents[1]
_OTHERS = {
    Path(sysconfig.get_paths()[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
}


def traceback_of(error: BaseException) -> str:
    """What is kept of an error beside its sentence.

    The user's own frames, where there are some; else the whole traceback, since the mistake may be ours. An error
    that says how to mend it needs none.
    """
    own = own_traceback(error)
    if own or (isinstance(error, QflsecError) and os.environ.get(SHOW_ALL) != "all"):
        return own
    return "".join(traceback.format_exception(error))


def own_traceback(error: BaseException) -> str:
    """The traceback of the mistake in the user's code, cut to the user's frames; empty where there is none.

    Errors that say how to mend them, such as a plugin raises over a value of its own, are no mistakes of the code.
    """
    mistake = next((part for part in _chain(error) if _is_mistake(part)), None)
    if mistake is None:
        return ""
    if os.environ.get(SHOW_ALL) == "all":
        return "".join(traceback.format_exception(error))
    told = TracebackException.from_exception(mistake, compact=True)
    lines = ["Traceback (your code alone; all frames with QFLSEC_TRACEBACK=all):\n"]
    for frame in _own(mistake):
        told_frame = traceback.StackSummary.from_list([frame])
        lines += [
            line.replace(f'File "{frame.filename}"', f'File "{_short(frame.filename)}"')
            for line in told_frame.format()
        ]
    return "".join([*lines, *told.format_exception_only()])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _own(error: BaseException) -> list[FrameSummary]:
    """The frames of an error that are neither the package's nor a library's."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if _is_own(frame.filename)]


def _is_mistake(error: BaseException) -> bool:
    """Whether it was raised from the user's code, or is the user's code that does not parse."""
    if isinstance(error, QflsecError):
        return False
    unreadable = isinstance(error, SyntaxError) and _is_own(error.filename or "<text>")
    return unreadable or bool(_own(error))


def _is_own(name: str) -> bool:
    if name.startswith("<"):  # frozen modules, and code that was made from a text
        return False
    path = Path(name).resolve()
    return not any(path.is_relative_to(folder) for folder in (_PACKAGE, *_OTHERS))


def _short(name: str) -> str:
    path, here = Path(name), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else name
