"""A user's table as records, with an error that names the row where something is wrong."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError

__all__ = ["Table", "read_csv"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A table's records.

    Attributes:
        features: float64 ``[N, D]``.
        labels: int64 ``[N]``, numbering ``class_names``.
        feature_names: One name for each feature column.
        class_names: One name for each class, in the order of their values: as numbers where all of them are.
        persons: int64 ``[N]``, numbering the people in the order of their values; None without a column of them.
    """

    features: NDArray[np.float64]
    labels: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    persons: NDArray[np.int64] | None = None


def read_csv(path: str | Path, label_column: str, person_column: str | None = None) -> Table:
    """Read a comma-separated file with a header line; every column but class and person must be a number.

    Args:
        path: The file, UTF-8.
        label_column: The name of the column that holds the class.
        person_column: The name of the column that says whose record it is; None without one.

    Raises:
        DataError: The file is missing, is not a table of finite numbers, or holds fewer than two classes.
    """
    header, rows = _read_rows(Path(path))
    special = {"class": label_column} | ({} if person_column is None else {"person": person_column})
    for what, column in special.items():
        if column not in header:
            raise DataError(
                f"{path} has no column for the {what}",
                got=repr(column),
                expected=f"one of {', '.join(header)}",
                fix="set label_column" if what == "class" else "set person_column, or leave it out",
            )
    names = [name for name in header if name not in special.values()]
    if not names:
        raise DataError(f"{path} has no feature columns", got=f"only {', '.join(map(repr, header))}")
    features = np.empty((len(rows), len(names)), dtype=np.float64)
    texts: dict[str, list[str]] = {what: [] for what in special}
    for position, (line, row) in enumerate(rows):
        cells = dict(zip(header, row, strict=True))
        for what, column in special.items():
            texts[what].append(_text(cells[column], what, path, line))
        features[position] = [_number(cells[name], path, line, name) for name in names]
    classes, labels = _numbered(texts["class"])
    if len(classes) < 2:
        raise DataError(
            f"{path} holds a single class", got=repr(classes[0]), expected=f"two or more in {label_column!r}"
        )
    return Table(
        features=features,
        labels=labels,
        feature_names=tuple(names),
        class_names=classes,
        persons=None if person_column is None else _numbered(texts["person"])[1],
    )


def _numbered(texts: list[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The different texts in their order, and the number of each text."""
    different = _ordered(set(texts))
    number = {text: index for index, text in enumerate(different)}
    return tuple(different), np.array([number[text] for text in texts], dtype=np.int64)


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and every record with its line number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError as error:
        raise DataError("there is no such data file", got=path, fix="check path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} cannot be read as CSV", got=error, expected="UTF-8, comma-separated"
        ) from error
    if len(set(header)) != len(header) or "" in header:
        raise DataError(f"{path} needs a header with one name per column", got=", ".join(map(repr, header)))
    for line, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path} is ragged at row {line}",
                got=f"{len(row)} cells",
                expected=f"{len(header)} as in the header",
            )
    if not rows:
        raise DataError(f"{path} holds no records", expected="a header line and at least two records")
    return header, rows


def _text(cell: str, what: str, path: str | Path, line: int) -> str:
    text = cell.strip()
    if text.lower() in ("", "nan"):
        raise DataError(f"{path} has no {what} at row {line}", fix="fill it in or remove the record")
    return text


def _number(cell: str, path: str | Path, line: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise DataError(
            f"{path} has a cell that is not a number at row {line}, column {column!r}",
            got=repr(cell),
            fix="encode it as a number or remove the column",
        ) from None
    if not math.isfinite(value):
        raise DataError(
            f"{path} has a cell that is not finite at row {line}, column {column!r}",
            got=repr(cell),
            fix="fill it in or remove the record",
        )
    return value


def _ordered(texts: set[str]) -> list[str]:
    try:
        return sorted(texts, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(texts)
