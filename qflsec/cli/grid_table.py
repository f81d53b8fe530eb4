"""A table of attacks against columns that fits the screen: by blocks of columns rather than by cut numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["Grid", "GridRow", "Line", "print_grid"]

_EASY = 15
"""A width from which words are wrapped, where no number needs more."""
_EASY_HEAD = 24
_GAP = 2


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a cell.

    Attributes:
        text: What it says.
        style: How a terminal shows it.
        wraps: Whether it may be wrapped; numbers never are.
    """

    text: str
    style: str = ""
    wraps: bool = False


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One row.

    Attributes:
        head: What names it.
        cells: A cell for each column.
        section: Whether a rule stands above it.
    """

    head: tuple[Line, ...]
    cells: tuple[tuple[Line, ...], ...]
    section: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table before it knows the width of the screen.

    Attributes:
        corner: The heading of the first column.
        columns: The other headings.
        rows: The rows.
    """

    corner: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]


def print_grid(grid: Grid, console: Console | None = None) -> None:
    """Print a table on stdout: with styles on a terminal, as plain text elsewhere, without colours under NO_COLOR.

    Args:
        grid: The table.
        console: Where to print; stdout by default.
    """
    from rich.console import Console as Screen

    screen = console or Screen(highlight=False, emoji=False, markup=False)
    heads = [row.head for row in grid.rows]
    first = _width((*heads, (Line(text=grid.corner, wraps=True),)), _EASY_HEAD)
    widths = [
        _width((*(row.cells[index] for row in grid.rows), (Line(text=name, wraps=True),)), _EASY)
        for index, name in enumerate(grid.columns)
    ]
    seen = screen.width
    for chosen in _blocks(widths, seen - first - _GAP):
        # where not even one column fits, a screen that breaks the line is better than a number that is cut
        screen.width = max(seen, first + _GAP + sum(widths[index] + _GAP for index in chosen))
        _show(_table(grid, chosen, first, widths), screen)
        screen.print()
    screen.width = seen


def _show(table: Table, screen: Console) -> None:
    if screen.is_terminal:  # elsewhere the padding of a table is in the way
        screen.print(table)
        return
    with screen.capture() as held:
        screen.print(table)
    for line in held.get().splitlines():
        print(line.rstrip(), file=screen.file)


def _blocks(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """The columns that stand side by side: as many as there is room for, and one at least."""
    block: list[int] = []
    for index in range(len(widths)):
        if block and sum(widths[known] + _GAP for known in (*block, index)) > room:
            yield block
            block = []
        block.append(index)
    if block:
        yield block


def _table(grid: Grid, chosen: Sequence[int], first: int, widths: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    table.add_column(_text((Line(text=grid.corner, wraps=True),), first), width=first, no_wrap=True)
    for index in chosen:
        heading = _text((Line(text=grid.columns[index], wraps=True),), widths[index])
        table.add_column(heading, width=widths[index], no_wrap=True)
    for number, row in enumerate(grid.rows):
        if row.section and number:
            table.add_section()
        several = any(len(cell) > 1 for cell in row.cells)
        last = number + 1 == len(grid.rows) or grid.rows[number + 1].section
        table.add_row(
            _text(row.head, first),
            *(_text(row.cells[index], widths[index]) for index in chosen),
        )
        if several and not last:
            table.add_row()
    return table


def _text(lines: Sequence[Line], width: int) -> Text:
    from rich.text import Text

    parts = [
        Text(part, style=line.style)
        for line in lines
        for part in (_wrapped(line.text, width) if line.wraps else [line.text])
    ]
    return Text("\n").join(parts)


def _width(cells: Sequence[Sequence[Line]], easy: int) -> int:
    """The least width that cuts no number and no piece of a word."""
    from rich.cells import cell_len

    found = 1
    for line in (line for cell in cells for line in cell):
        whole = cell_len(line.text)
        longest = max((cell_len(piece.rstrip()) for piece in _pieces(line.text)), default=0)
        found = max(found, max(longest, min(easy, whole)) if line.wraps else whole)
    return found


def _pieces(text: str) -> list[str]:
    """Where a name may be broken: after a space, a hyphen, a plus or a comma."""
    return re.findall(r"[^-+ ,]*[-+ ,]+|[^-+ ,]+$", text)


def _wrapped(text: str, width: int) -> list[str]:
    from rich.cells import cell_len

    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]
