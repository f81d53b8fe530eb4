"""The user's tables as records: which columns are features, what is missing, and whose file a record is in."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qflsec.base import DataError
from qflsec.base.errors import Together
from qflsec.base.places import files_at, is_pattern
from qflsec.data.cells import (
    Cells,
    Numbers,
    TableFile,
    channels_first,
    image_shape_of,
    names_of,
    numbers_of,
    record_shape,
)
from qflsec.data.csv_file import CsvFile
from qflsec.data.raw import RawData, numbered, refuse_missing
from qflsec.data.spec import DataSpec

__all__ = ["check_width", "pixel_names", "read_table", "refuse_target"]

Form = Literal["csv", "parquet", "numpy"]

_FEW = 20
"""Labels of fewer records than this may be all different; more different ones than this are no classes."""
_SHOWN = 12
_MISTAKES = 5
"""Columns whose mistakes are told at once: more are most likely one mistake."""


def read_table(spec: DataSpec, form: Form) -> RawData:
    """The records of a file, or of every file that matches a pattern, of which each is then a client's.

    Args:
        spec: Which files and columns.
        form: What the files are.

    Raises:
        DataError: A file is missing, is no table of numbers, or lacks a column; there are fewer than two classes.
        MissingExtra: Reading it needs a package that is not installed.
    """
    assert spec.path is not None
    if Path(spec.path).is_dir():
        pattern = f"{spec.path.rstrip('/')}/*.{'npz' if form == 'numpy' else form}"
        raise DataError(
            "a folder is no table",
            got=spec.path,
            fix=f'make each of its files a client\'s: path = "{pattern}"',
        )
    files = [_open(path, spec, form) for path in files_at(spec.path)]
    chosen = _choose(files, spec)
    parts = [_part(file, chosen, spec) for file in files]
    clients = np.repeat(np.arange(len(parts)), [len(part.labels) for part in parts]).astype(np.int64)
    features = np.concatenate([part.features for part in parts])
    texts = [text for part in parts for text in part.labels]
    persons = [text for part in parts for text in part.persons]
    named = np.array([text != "" for text in texts]) & np.array([text != "" for text in persons or texts])
    whole = named & ~np.isnan(features).any(axis=1) if spec.missing == "drop" else named
    kept = np.flatnonzero(whole).astype(np.int64)
    _refuse_nothing(kept, clients, files)
    refuse_target([texts[row] for row in kept], f"{spec.path}, column {spec.label_column!r}")
    classes, labels = numbered([texts[row] for row in kept])
    return RawData(
        features=features[kept],
        labels=labels,
        feature_names=chosen.feature_names,
        class_names=classes,
        image_shape=chosen.image_shape,
        persons=numbered([persons[row] for row in kept])[1] if persons else None,
        clients=clients[kept] if is_pattern(spec.path) else None,
        client_names=tuple(file.path.stem for file in files) if is_pattern(spec.path) else (),
        incomplete=len(whole) - len(kept),
    )


def _open(path: Path, spec: DataSpec, form: Form) -> TableFile:
    if form == "csv":
        return CsvFile(path, spec)
    if form == "parquet":
        from qflsec.data.parquet_file import ParquetFile

        return ParquetFile(path)
    from qflsec.data.numpy_file import NumpyFile

    return NumpyFile(path)


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The columns that are features, with the shape of a record's value in each."""

    columns: Mapping[str, tuple[int, ...]]
    feature_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None


def _choose(files: Sequence[TableFile], spec: DataSpec) -> _Chosen:
    """The features by the heads of the files alone, so that a mistake is told before a long file is read."""
    first = files[0]
    columns = {name: record_shape(first.shapes[name]) for name in _names(first, spec)}
    for file in files[1:]:
        found = {name: record_shape(file.shapes[name]) for name in _names(file, spec)}
        if found != columns:
            odd = sorted(set(found) ^ set(columns)) or [
                name for name in columns if columns[name] != found[name]
            ]
            raise DataError(
                f"{file.path} has other columns than {first.path}",
                got=_listed(odd),
                fix="name those that all files have in columns",
            )
    image = image_shape_of(next(iter(columns.values()))) if len(columns) == 1 else None
    names: list[str] = []
    for name, shape in columns.items():
        count = int(np.prod(shape))
        names += (
            pixel_names(image) if image else [name] if not shape else [f"{name}[{i}]" for i in range(count)]
        )
    check_width(len(names), spec, image, f"{first.path} (without {_listed(_special(spec))})")
    return _Chosen(columns=columns, feature_names=tuple(names), image_shape=image)


def _special(spec: DataSpec) -> list[str]:
    return [name for name in (spec.label_column, spec.person_column) if name is not None]


def _names(file: TableFile, spec: DataSpec) -> list[str]:
    """The names of the columns that are features."""
    there = list(file.shapes)
    wanted = {
        "label_column": [spec.label_column],
        "person_column": [spec.person_column],
        "columns": spec.columns or (),
        "drop": spec.drop,
    }
    with Together() as each:
        for key, names in wanted.items():
            for name in names:
                if name is not None:
                    each(_refuse_absent, file, key, name)
    if spec.columns is not None:
        return list(spec.columns)
    found = [name for name in there if name not in {*_special(spec), *spec.drop}]
    if not found:
        raise DataError(f"{file.path} has no feature columns", got=f"only {_listed(there)}")
    return found


def _refuse_absent(file: TableFile, key: str, name: str) -> None:
    """Refuse a column that the specification names and the file has not."""
    if name in file.shapes:
        return
    what = {"label_column": "the class", "person_column": "the person"}.get(key)
    near = difflib.get_close_matches(name, file.shapes, n=1, cutoff=0.6)
    raise DataError(
        f"{file.path} lacks a column" if what is None else f"{file.path} has no column for {what}",
        got=f"{name!r} in {key}",
        expected=f"one of {_listed(list(file.shapes))}",
        fix=f"did you mean {near[0]!r}?" if near else f"mend {key}",
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def pixel_names(shape: tuple[int, int, int]) -> list[str]:
    """A name for each column of an image: channel after channel, row by row."""
    channels, height, width = shape
    return [
        f"channel {channel} pixel {row},{column}" if channels > 1 else f"pixel {row},{column}"
        for channel in range(channels)
        for row in range(height)
        for column in range(width)
    ]


def check_width(columns: int, spec: DataSpec, image: object, what: object) -> None:
    """Refuse a number of columns that the reduction cannot turn into ``n_features``.

    Raises:
        DataError: It cannot.
    """
    if spec.reduction == "pool":
        if image is None:
            raise DataError(f"{what} holds no images to pool", fix="use reduction 'pca', 'first' or 'none'")
        return
    if spec.reduction == "none" and columns != spec.n_features:
        raise DataError(
            f"{what} has another number of columns than n_features",
            got=spec.n_features,
            expected=columns,
            fix="set n_features to it, or use reduction 'pca' or 'first'",
        )
    if columns < spec.n_features:
        raise DataError(
            f"{what} has too few columns", got=f"n_features={spec.n_features}", expected=f"at most {columns}"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """The records of one file; a name is empty where there is none."""

    features: Numbers
    labels: list[str]
    persons: list[str]


def _part(file: TableFile, chosen: _Chosen, spec: DataSpec) -> _Part:
    assert spec.label_column is not None
    cells = file.read({*chosen.columns, *_special(spec)})
    count = len(cells.rows)
    labels, persons = partial(_names_in, cells, file.path, spec), list[str]()
    with Together(most=_MISTAKES) as each:  # of each column the first mistake
        blocks = [each(_block, cells, name, file.path, spec) for name in chosen.columns]
        classes = each(labels, spec.label_column, "class")
        if spec.person_column is not None:
            persons = each(labels, spec.person_column, "person")
    features = np.concatenate([channels_first(block).reshape(count, -1) for block in blocks], axis=1)
    return _Part(features=features, labels=classes, persons=persons)


def _block(cells: Cells, name: str, path: Path, spec: DataSpec) -> Numbers:
    """One column of features; where a value is missing that may not, the first is told."""
    block = numbers_of(cells, name, path, spec.decimal)
    missing = np.isnan(block).reshape(len(block), -1).any(axis=1)
    if spec.missing == "error" and missing.any():
        row = int(np.flatnonzero(missing)[0])
        got = repr(cells.columns[name][row]) if block.ndim == 1 else "no value"
        refuse_missing(path, f"row {cells.rows[row]}", name, got=got)
    return block


def _names_in(cells: Cells, path: Path, spec: DataSpec, column: str, what: str) -> list[str]:
    return names_of(cells, column, path, what=what, missing=spec.missing)


def _refuse_nothing(kept: NDArray[np.int64], clients: NDArray[np.int64], files: Sequence[TableFile]) -> None:
    left = set(clients[kept].tolist())
    for index, file in enumerate(files):
        if index not in left:
            raise DataError(
                f"no record of {file.path} is complete",
                fix='set missing = "median", or drop the columns that lack values',
            )


def refuse_target(texts: Sequence[str], where: str) -> None:
    """Refuse labels that are no classes: a single one, or a quantity.

    Args:
        texts: The label of each record.
        where: The file and its column.

    Raises:
        DataError: They are none.
    """
    different = sorted(set(texts))
    if len(different) < 2:
        raise DataError(
            f"{where} holds a single class", got=", ".join(map(repr, different)), expected="two or more"
        )
    values = [_value(text) for text in different]
    numbers = [value for value in values if value is not None]
    fraction = next((value for value in numbers if not value.is_integer()), None)
    quantity = fraction is not None and len(numbers) == len(different) > _FEW
    if quantity or (len(texts) >= _FEW and 2 * len(different) > len(texts)):
        raise DataError(
            f"{where} holds a quantity or a name, and no classes",
            got=f"{len(different)} different values in {len(texts)} records, such as {different[0] if fraction is None else fraction}",
            expected="a few classes, as models here tell classes apart",
            fix="write the class of each record into a column (for a quantity: its interval), leave the quantity out "
            "of the features, and name the new column in label_column",
        )


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
