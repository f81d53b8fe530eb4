"""A file of separated values as columns of text, with an error that names the row where something is wrong."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection
from pathlib import Path

from qflsec.base import DataError
from qflsec.data.cells import Cells, TableFile
from qflsec.data.spec import DataSpec

__all__ = ["CsvFile"]

_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_OTHERS = (";", ",", "\t", "|")


class CsvFile(TableFile):
    """A file with a header line.

    Args:
        path: The file.
        spec: Its separator and encoding.

    Raises:
        DataError: The file cannot be read, or its header is none.
    """

    def __init__(self, path: Path, spec: DataSpec) -> None:
        self.path = path
        self._separator = spec.separator
        self._encoding = "utf-8-sig" if codecs.lookup(spec.encoding).name == "utf-8" else spec.encoding
        names = self._header()
        if len(set(names)) != len(names) or "" in names:
            raise DataError(
                f"{path} needs a header with one name per column", got=", ".join(map(repr, names))
            )
        other = next((sign for sign in _OTHERS if sign != self._separator and sign in names[0]), None)
        if len(names) == 1 and other is not None:
            raise DataError(
                f"{path} has one column only, as its cells are not separated by {self._separator!r}",
                got=repr(names[0][:60]),
                fix=f'set separator = "{other}"'.replace("\t", "\\t"),
            )
        self.shapes = dict.fromkeys(names, ())

    def _header(self) -> list[str]:
        """The first line alone: a mistake in it is told before a long file is read."""
        try:
            with self.path.open("rb") as file:
                mark = file.read(2)
            if mark in _MARKS and self._encoding == "utf-8-sig":
                raise DataError(
                    f"{self.path} begins with the byte order mark of another encoding",
                    got=mark.hex(" "),
                    fix=f'set encoding = "{_MARKS[mark]}"',
                )
            with self.path.open(encoding=self._encoding, newline="", errors="replace") as text:
                header = next(csv.reader(text, delimiter=self._separator, strict=True), [])
        except FileNotFoundError as error:
            raise DataError("there is no such data file", got=self.path, fix="check path") from error
        except (OSError, UnicodeError, csv.Error) as error:
            raise self._unreadable(error) from error
        if not header:
            raise self._empty()
        return [name.strip() for name in header]

    def read(self, wanted: Collection[str]) -> Cells:
        """The columns of these names, and the line of each record.

        Raises:
            DataError: The file cannot be decoded, or is no table.
        """
        chosen = [(index, name, list[str]()) for index, name in enumerate(self.shapes) if name in wanted]
        rows = []
        reader = csv.reader(io.StringIO(self._text(), newline=""), delimiter=self._separator, strict=True)
        try:
            next(reader)
            for row in filter(None, reader):
                if len(row) != len(self.shapes):
                    raise DataError(
                        f"{self.path} is ragged at row {reader.line_num}",
                        got=f"{len(row)} cells",
                        expected=f"{len(self.shapes)} as in the header",
                    )
                rows.append(reader.line_num)
                for index, _, cells in chosen:
                    cells.append(row[index])
        except csv.Error as error:
            raise self._unreadable(error, f" at row {reader.line_num}") from error
        if not rows:
            raise self._empty()
        return Cells(columns={name: cells for _, name, cells in chosen}, rows=rows)

    def _text(self) -> str:
        content = self.path.read_bytes()
        try:
            return content.decode(self._encoding)
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self.path} is not encoded as {error.encoding} at row {line}",
                got=f"the byte {content[error.start]:#04x}",
                fix='set encoding, for example to "cp1252"',
            ) from error

    def _unreadable(self, error: Exception, where: str = "") -> DataError:
        return DataError(
            f"{self.path} cannot be read as CSV{where}",
            got=error,
            expected=f"cells separated by {self._separator!r}, in {self._encoding.removesuffix('-sig')}",
        )

    def _empty(self) -> DataError:
        return DataError(f"{self.path} holds no records", expected="a header line and at least two records")
