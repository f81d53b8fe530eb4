"""The work of one batch in a worker: the matrix is made anew there, and rows come back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from qflsec.base import QflsecError
from qflsec.base.failures import traceback_of
from qflsec.base.notices import silence
from qflsec.lab.grid.units import Batch, Row
from qflsec.lab.grid.world import AnyWorld, world_from_json

__all__ = ["Task", "execute", "sentence_of"]

_WATCH = "qflsec-watch"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A batch as it is sent to a worker.

    Attributes:
        index: Its place in the plan.
        kind: The kind of matrix.
        spec: The specification as JSON, from which a worker makes its own objects.
        code: The digest of all code that does not come with the package.
        batch: The batch.
        given: Rows of earlier stages.
    """

    index: int
    kind: type[AnyWorld]
    spec: str
    code: str
    batch: Batch
    given: Mapping[str, Row] = field(default_factory=dict)


def execute(task: Task, *, parent: int | None = None) -> tuple[int, tuple[Row, ...]]:
    """The rows of a batch, with the batch's place in the plan; a batch that cannot begin is a failure of its units.

    Args:
        task: What to do.
        parent: The process that asked; a worker leaves the handling of signals to it.
    """
    if parent is not None and parent != os.getpid():
        silence()
        _follow(parent)
    try:
        with _one_thread():
            world = world_from_json(task.kind, task.spec, task.code)
            return task.index, tuple(world.execute(task.batch, task.given))
    except Exception as error:  # noqa: BLE001 - whatever it is becomes rows
        reason, trace = f"the batch: {sentence_of(error)}", traceback_of(error)
        return task.index, tuple(
            unit.row("failed", reason=reason, traceback=trace) for unit in task.batch.units
        )


def sentence_of(error: Exception) -> str:
    """An error on one line; a bug is named by its type."""
    text = " ".join(str(error).split())
    return text if isinstance(error, QflsecError) else f"{type(error).__name__}: {text}"


def _follow(parent: int) -> None:
    """Leave signals to the parent, and end with it: a killed parent must not leave workers behind."""
    child = os.getppid() == parent
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if child:  # a cluster ends its own workers by this signal
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if child and not any(thread.name == _WATCH for thread in threading.enumerate()):
        threading.Thread(target=_end_with, args=(parent,), name=_WATCH, daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of torch: batches are the unit of parallel work, and bits depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
