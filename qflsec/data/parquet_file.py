"""A Parquet file as columns."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from qflsec.base import DataError, MissingExtra
from qflsec.data.cells import Cells, TableFile, Values

__all__ = ["ParquetFile"]


class ParquetFile(TableFile):
    """A file whose schema has been read.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtra(
                "Parquet files need pyarrow, which is not installed", fix="pip install 'qflsec[data]'"
            ) from error
        self.path = path
        try:
            self._file: Any = parquet.ParquetFile(path)
        except FileNotFoundError as error:
            raise DataError("there is no such data file", got=path, fix="check path") from error
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path} cannot be read as Parquet", got=error) from error
        names: list[str] = self._file.schema_arrow.names
        if len(set(names)) != len(names) or not names:
            raise DataError(f"{path} needs one name per column", got=", ".join(map(repr, names)))
        self.shapes = dict.fromkeys(names, ())

    def read(self, wanted: Collection[str]) -> Cells:
        """The columns of these names.

        Raises:
            DataError: One can be read neither as numbers nor as text, or there are no records.
        """
        import pyarrow as pa

        try:
            table = self._file.read(columns=sorted(wanted))
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.path} cannot be read as Parquet", got=error) from error
        if not table.num_rows:
            raise DataError(f"{self.path} holds no records", expected="at least two")
        columns = {name: self._values(table.column(name), name) for name in wanted}
        return Cells(columns=columns, rows=range(1, table.num_rows + 1))

    def _values(self, column: Any, name: str) -> Values:  # noqa: ANN401 - pyarrow is not typed
        import pyarrow as pa

        types, kind = pa.types, column.type
        if types.is_dictionary(kind):
            return self._values(column.cast(kind.value_type), name)
        if types.is_string(kind) or types.is_large_string(kind):
            return ["" if text is None else str(text) for text in column.to_pylist()]
        if types.is_integer(kind) and not column.null_count:
            return np.asarray(column.to_numpy())
        if types.is_boolean(kind):
            column = column.cast(pa.int8())
        elif not (types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)):
            raise DataError(
                f"{self.path} has a column that is neither numbers nor text: {name!r}",
                got=kind,
                fix=f'encode it as a number, or leave it out: drop = ["{name}"]',
            )
        return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)
