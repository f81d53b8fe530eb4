"""A user's table as records, with an error that names the row where something is wrong."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError

__all__ = ["read_csv"]


def read_csv(
    path: str | Path, label_column: str
) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[str, ...], tuple[str, ...]]:
    """Read a comma-separated file with a header line; every column but the class must be a number.

    Classes are numbered in the order of their values, as numbers where all of them are.

    Args:
        path: The file, UTF-8.
        label_column: The name of the column that holds the class.

    Returns:
        Features, labels, names of the feature columns, names of the classes.

    Shapes:
        features: float64 ``[N, D]``; labels: int64 ``[N]``.

    Raises:
        DataError: The file is missing, is not a table of finite numbers, or holds fewer than two classes.
    """
    header, rows = _read_rows(Path(path))
    if label_column not in header:
        raise DataError(
            f"{path} has no column for the class",
            got=repr(label_column),
            expected=f"one of {', '.join(header)}",
            fix="set label_column",
        )
    if len(header) < 2:
        raise DataError(f"{path} has no feature columns", got=f"only {label_column!r}")
    where = header.index(label_column)
    names = header[:where] + header[where + 1 :]
    features = np.empty((len(rows), len(names)), dtype=np.float64)
    texts: list[str] = []
    for position, (line, row) in enumerate(rows):
        texts.append(_label(row[where], path, line))
        cells = row[:where] + row[where + 1 :]
        features[position] = [
            _number(cell, path, line, name) for cell, name in zip(cells, names, strict=True)
        ]
    classes = _ordered(set(texts))
    if len(classes) < 2:
        raise DataError(
            f"{path} holds a single class", got=repr(classes[0]), expected=f"two or more in {label_column!r}"
        )
    number = {text: label for label, text in enumerate(classes)}
    labels = np.array([number[text] for text in texts], dtype=np.int64)
    return features, labels, tuple(names), tuple(classes)


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


def _label(cell: str, path: str | Path, line: int) -> str:
    text = cell.strip()
    if text.lower() in ("", "nan"):
        raise DataError(f"{path} has no class at row {line}", fix="fill it in or remove the record")
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
