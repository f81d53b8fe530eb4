"""Progress on stderr: a live table on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from qflsec.lab import Progress

__all__ = ["duration", "follow"]


def follow(steps: Iterable[Progress]) -> Progress | None:
    """Show the steps of a matrix as they come; the last of them."""
    return _live(steps) if sys.stderr.isatty() else _lines(steps)


def duration(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    )


def _lines(steps: Iterable[Progress]) -> Progress | None:
    last = None
    for last in steps:
        sys.stderr.write(
            f"[{last.done}/{last.total} trials, {duration(last.elapsed_seconds)}, "
            f"left {duration(last.eta_seconds)}] {last.message}\n"
        )
        sys.stderr.flush()
    return last


class _Board:
    """The live table; it is drawn anew several times a second, so that times run on between steps."""

    def __init__(self) -> None:
        self.step: Progress | None = None
        self._since = time.monotonic()

    def take(self, step: Progress) -> None:
        """The latest step."""
        self.step = step
        self._since = time.monotonic()

    def __rich__(self) -> Table:
        from rich.table import Table

        if self.step is None:
            return Table(title="preparing")
        step, passed = self.step, time.monotonic() - self._since
        eta = None if step.eta_seconds is None else max(0.0, step.eta_seconds - passed)
        stacks = list(dict.fromkeys(stack for _, stack in step.cells))
        table = Table(
            title=f"{step.done} of {step.total} trials, {duration(step.elapsed_seconds + passed)}, "
            f"left {duration(eta)}",
            caption=step.message,
        )
        table.add_column("attack")
        for stack in stacks:
            table.add_column(stack, justify="right")
        for label in dict.fromkeys(label for label, _ in step.cells):
            cells = [step.cells[label, stack] for stack in stacks]
            table.add_row(label, *(_cell(done, total) for done, total in cells))
        return table


def _cell(done: int, total: int) -> str:
    return f"[green]done {total}[/]" if done == total else f"{done}/{total}"


def _live(steps: Iterable[Progress]) -> Progress | None:
    from rich.console import Console
    from rich.live import Live

    board = _Board()
    with Live(board, console=Console(stderr=True), refresh_per_second=4, transient=True):
        for step in steps:
            board.take(step)
    return board.step
