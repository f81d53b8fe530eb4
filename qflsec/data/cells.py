"""Columns of a table as its file gives them, and how they become numbers, names and classes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError

__all__ = [
    "MISSING",
    "Cells",
    "Numbers",
    "TableFile",
    "Values",
    "channels_first",
    "image_shape_of",
    "names_of",
    "numbers_of",
    "record_shape",
]

Numbers = NDArray[np.float64]
Values = Sequence[str] | NDArray[Any]

MISSING = frozenset({"", "?", ".", "-", "na", "n/a", "n.a.", "k.a.", "#n/a", "<na>", "nan", "null", "none"})
"""What a cell of a feature says that has no value, in any case of letters."""
_NAMELESS = frozenset({"", "nan"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """Some columns of a table.

    Attributes:
        columns: By name: text, or an array whose first axis counts the records.
        rows: The row of each record in its file, for errors.
    """

    columns: Mapping[str, Values]
    rows: Sequence[int]


class TableFile(ABC):
    """A file with named columns, of which nothing but the head has been read.

    Attributes:
        path: The file.
        shapes: The shape of one record's value in each column, by name: ``()`` but for arrays.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]

    @abstractmethod
    def read(self, wanted: Collection[str]) -> Cells:
        """The columns of these names.

        Raises:
            DataError: They cannot be read.
        """


def numbers_of(cells: Cells, name: str, path: Path, decimal: str) -> Numbers:
    """One column as finite numbers, NaN where a value is missing.

    Raises:
        DataError: A cell is no number.
    """
    values = cells.columns[name]
    if isinstance(values, np.ndarray) and values.dtype.kind != "U":
        found = values.astype(np.float64)
        infinite = np.flatnonzero(np.isinf(found).reshape(len(found), -1).any(axis=1))
        if len(infinite):
            raise _not_finite(path, cells.rows[int(infinite[0])], name, "inf")
        return found
    try:
        found = np.array([*map(float, values)])
        if decimal == "." and np.isfinite(found).all():
            return found
    except ValueError:
        pass  # cell by cell, to find the one
    places = zip(values, cells.rows, strict=True)
    return np.array([_number(cell, path, row, name, decimal) for cell, row in places])


def _number(cell: str, path: Path, row: int, column: str, decimal: str) -> float:
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    # beside a decimal comma, a point may stand for thousands: 1.500 is then no 1.5
    plain = text if decimal == "." else "" if "." in text else text.replace(",", ".")
    try:
        value = float(plain)
    except ValueError:
        raise DataError(
            f"{path} has a cell that is not a number at row {row}, column {column!r}",
            got=repr(cell),
            expected=f"a number with the decimal mark {decimal!r}" if "," in text or "." in text else None,
            fix=_mend(text, column, decimal),
        ) from None
    if not math.isfinite(value):
        raise _not_finite(path, row, column, repr(cell))
    return value


def _mend(text: str, column: str, decimal: str) -> str:
    other = {",": ".", ".": ","}[decimal]
    try:
        float(text.replace(other, "."))
    except ValueError:
        return f'encode it as a number, or leave the column out: drop = ["{column}"]'
    return f'set decimal = "{other}", or write every number with {decimal!r} and without marks of thousands'


def _not_finite(path: Path, row: int, column: str, got: str) -> DataError:
    return DataError(
        f"{path} has a cell that is not finite at row {row}, column {column!r}",
        got=got,
        fix="mend it, or empty the cell and set missing",
    )


def names_of(cells: Cells, name: str, path: Path, *, what: str, missing: str) -> list[str]:
    """One column as names of classes or people; empty where there is none and such records may be left out.

    Raises:
        DataError: A record has none, and ``missing`` is not ``"drop"``.
    """
    values: list[object] = list(cells.columns[name])
    known = {value: _name(value) for value in set(values)}  # a class recurs, and a long column has millions
    found = [known[value] for value in values]
    if missing != "drop" and "" in found:
        raise DataError(
            f"{path} has no {what} at row {cells.rows[found.index('')]}, column {name!r}",
            fix='fill it in, or set missing = "drop" to leave such records out',
        )
    return found


def _name(value: object) -> str:
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)  # a class that a missing value beside it has turned into 1.0
    text = str(value).strip()
    return "" if text.lower() in _NAMELESS else text


def record_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one record as features have it: images of several channels get these first.

    Raises:
        DataError: It cannot be told which axis holds the channels.
    """
    if len(shape) != 3:
        return shape
    first, last = shape[0] in {1, 3}, shape[-1] in {1, 3}
    if first == last:
        raise DataError(
            "it cannot be told which axis of images holds the channels",
            got=f"records of shape {list(shape)}",
            expected="1 or 3 channels on the first axis of a record or on the last",
        )
    return shape if first else (shape[2], shape[0], shape[1])


def image_shape_of(shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Channels, height and width, where a record of this shape is an image."""
    if len(shape) == 2:
        return (1, shape[0], shape[1])
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def channels_first(array: Numbers) -> Numbers:
    """An array of records with their axes in the order of :func:`record_shape`."""
    return array if record_shape(array.shape[1:]) == array.shape[1:] else np.moveaxis(array, -1, 1)
