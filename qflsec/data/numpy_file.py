"""NumPy files as columns: the arrays of an ``.npz`` file, or the columns of the one array of an ``.npy`` file.

Arrays of Python objects are pickles, and reading one runs whatever code it holds: they are refused.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from qflsec.base import DataError
from qflsec.data.cells import Cells, TableFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["NumpyFile"]

_KINDS = "biufUS"


class NumpyFile(TableFile):
    """A file whose arrays' heads have been read.

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._readable():
            if path.suffix == ".npy":
                with path.open("rb") as file:
                    heads = self._columns(*self._head(file, ""))
            else:
                with zipfile.ZipFile(path) as archive:
                    heads = {}
                    for member in archive.namelist():
                        name = member.removesuffix(".npy")
                        with archive.open(member) as file:
                            heads[name] = self._head(file, name)
        if not heads:
            raise DataError(f"{path} holds no arrays")
        self._lengths = {name: shape[0] for name, (shape, _) in heads.items() if shape}
        self.shapes = {name: shape[1:] for name, (shape, _) in heads.items() if shape}

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise DataError("there is no such data file", got=self.path, fix="check path") from error
        except (
            OSError,
            ValueError,
            EOFError,
            KeyError,
            RuntimeError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise DataError(
                f"{self.path} cannot be read as a NumPy file",
                got=error,
                expected="what numpy.savez or numpy.save wrote",
            ) from error

    def _head(self, file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        major, _ = npy.read_magic(file)
        read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
        shape, _, kind = read(file)
        where = f"{self.path}, array {name!r}," if name else str(self.path)
        if kind.hasobject:
            raise DataError(
                f"{where} holds Python objects, which are a pickle: reading one runs whatever code it holds",
                got=kind,
                fix="save numbers: numpy.savez(file, features=numpy.asarray(features, dtype=float), labels=labels)",
            )
        if kind.names is None and kind.kind not in _KINDS:
            raise DataError(f"{where} holds neither numbers nor text", got=kind)
        return shape, kind

    def _columns(
        self, shape: tuple[int, ...], kind: np.dtype[Any]
    ) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """The columns of one array, with their shapes and kinds: its fields, or by their numbers."""
        if kind.fields is not None:
            return {name: ((*shape, *part[0].shape), part[0].base) for name, part in kind.fields.items()}
        if len(shape) != 2:
            raise DataError(
                f"{self.path} is no table", got=f"an array of shape {list(shape)}", expected="[records, columns]",
                fix="save features and labels as two arrays with numpy.savez",
            )  # fmt: skip
        return {str(column): (shape[:1], kind) for column in range(shape[1])}

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        file = np.load(self.path, allow_pickle=False)
        try:
            yield file
        finally:
            if not isinstance(file, np.ndarray):
                file.close()

    def _column(self, file: Any, name: str) -> NDArray[Any]:  # noqa: ANN401 - what numpy.load gives
        if not isinstance(file, np.ndarray):
            return np.asarray(file[name])
        return np.asarray(file[name] if file.dtype.names else file[:, int(name)])

    def read(self, wanted: Collection[str]) -> Cells:
        """The columns of these names.

        Raises:
            DataError: They cannot be read, or have different numbers of records.
        """
        lengths = {name: self._lengths[name] for name in sorted(wanted)}
        if len(set(lengths.values())) != 1:
            raise DataError(
                f"{self.path} has arrays with different numbers of records",
                got=", ".join(f"{name}: {length}" for name, length in lengths.items()),
                fix="name those that belong together in columns and label_column",
            )
        with self._readable(), self._opened() as file:
            arrays = {name: self._column(file, name) for name in wanted}
        count = next(iter(lengths.values()))
        if not count:
            raise DataError(f"{self.path} holds no records", expected="at least two")
        return Cells(columns=arrays, rows=range(1, count + 1))
