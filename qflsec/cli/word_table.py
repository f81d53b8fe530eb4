"""A matrix whose cells are words, as a table of plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qflsec.lab.worlds.pairs.cells import PairResult

__all__ = ["table_lines"]


def table_lines(result: PairResult[Any], title: str, face: Callable[[Any], str]) -> Iterator[str]:
    """A matrix of words, one line for each attack."""
    faces = {key: face(cell) for key, cell in result.cells.items()}
    first = max(len(row) for row in result.rows) + 2
    widths = {
        column: 2 + max(len(column), *(len(faces[row, column]) for row in result.rows))
        for column in result.columns
    }
    yield f"{result.name}: {title}"
    yield "".ljust(first) + "".join(column.ljust(width) for column, width in widths.items())
    for row in result.rows:
        yield row.ljust(first) + "".join(faces[row, c].ljust(width) for c, width in widths.items())
