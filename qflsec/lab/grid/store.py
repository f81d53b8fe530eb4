"""The result store: one SQLite file with the rows of units, whatever the kind of matrix.

Only the parent process writes, one transaction for each finished batch, so that a kill at any moment leaves
whole batches. Rows are only ever appended: the last row of an id counts, and earlier ones (a failed trial
that was repeated) stay as history. Counts and raw scores are stored rather than rates.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qflsec.base import StoreError
from qflsec.lab.grid.units import Row

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 4
_APPLICATION_ID = 0x51464C53  # "QFLS"
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta VALUES ('created', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
CREATE TABLE matrices (
    seq INTEGER PRIMARY KEY, written TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, command TEXT NOT NULL,
    spec TEXT NOT NULL, frame TEXT NOT NULL
);
CREATE TABLE units (
    seq INTEGER PRIMARY KEY, written TEXT NOT NULL, unit_id TEXT NOT NULL, stage TEXT NOT NULL, seed INTEGER NOT NULL,
    status TEXT NOT NULL, content TEXT NOT NULL, reason TEXT NOT NULL, traceback TEXT NOT NULL, seconds REAL NOT NULL,
    identity TEXT NOT NULL
);
CREATE INDEX units_by_id ON units (unit_id);
CREATE TABLE results (matrix INTEGER PRIMARY KEY, unit INTEGER NOT NULL, digest TEXT NOT NULL, document BLOB NOT NULL);
"""
_ADD = """
INSERT INTO units VALUES (
    NULL, :written, :unit_id, :stage, :seed, :status, :content, :reason, :traceback, :seconds, :identity
)
"""
_LAST_STATUS = "SELECT status FROM units WHERE unit_id = ? ORDER BY seq DESC LIMIT 1"
_COUNT = "SELECT {columns} FROM units WHERE seq IN (SELECT max(seq) FROM units GROUP BY unit_id) ORDER BY seq"
_MOST_BYTES = 2**28
"""The largest document of a result that is read."""
_JSON = ("content", "identity")
_FIELDS = tuple(Row.__dataclass_fields__)


class Store:
    """An open store; a context manager.

    Args:
        path: The file; it is made if it does not exist and ``create`` is set.
        create: Whether to make it.

    Raises:
        StoreError: The file cannot be used as a store.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not create and not self.path.exists():
            raise StoreError(
                "there is no such store", got=self.path, fix="run the matrix first, or name another"
            )
        if self.path.is_dir():
            raise StoreError("the store is a folder", got=self.path, expected="the name of a file")
        if not create and self.path.stat().st_size == 0:
            raise StoreError(
                f"{self.path} is empty, and not a store", fix="run the matrix first, or name another"
            )
        if not self.path.absolute().parent.is_dir():
            raise StoreError(
                "the folder of the store does not exist", got=self.path.absolute().parent, fix="make it first"
            )
        with self._errors():
            self._connection = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        try:
            with self._errors():
                self._open()
        except StoreError:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def remember(self, *, kind: str, name: str, command: str, spec: str, frame: Mapping[str, Any]) -> None:
        """Note which matrix is run into this store, and by which command.

        Args:
            kind: The kind of matrix.
            name: Its name.
            command: The command.
            spec: The specification as JSON.
            frame: All that its result says beside the rows.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO matrices (written, kind, name, command, spec, frame) VALUES (?, ?, ?, ?, ?, ?)",
                (_now(), kind, name, command, spec, json.dumps(frame, allow_nan=False)),
            )

    def last_matrix(self, name: str | None = None) -> dict[str, Any] | None:
        """The matrix that was last run into this store, as :meth:`remember` noted it."""
        query = "SELECT * FROM matrices WHERE :name IS NULL OR name = :name ORDER BY seq DESC LIMIT 1"
        with self._errors():
            row = self._connection.execute(query, {"name": name}).fetchone()
        with self._decoding():
            return None if row is None else {**dict(row), "frame": json.loads(row["frame"])}

    def last_unit(self) -> int:
        """The number of the last row that was written; 0 before the first."""
        with self._errors():
            found = self._connection.execute("SELECT max(seq) FROM units").fetchone()[0]
        return int(found or 0)

    def keep_result(self, matrix: int, *, unit: int, digest: str, document: str) -> None:
        """Keep the document of a matrix's result in the place of an earlier one, so that it need not be made again.

        Args:
            matrix: The matrix's ``seq``.
            unit: The last row that it was made from, or an earlier one.
            digest: What made it.
            document: The document.
        """
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                (matrix, unit, digest, zlib.compress(document.encode())),
            )

    def kept_result(self, matrix: int, *, digest: str) -> str | None:
        """The document of a matrix's result; None where rows were written since, or something else made it."""
        query = "SELECT document FROM results WHERE matrix = ? AND unit = ? AND digest = ?"
        with self._errors():
            row = self._connection.execute(query, (matrix, self.last_unit(), digest)).fetchone()
        if row is None:
            return None
        with self._decoding():
            packed = zlib.decompressobj()
            document = packed.decompress(row["document"], _MOST_BYTES)
            if not packed.eof:
                raise ValueError(f"a result of more than {_MOST_BYTES:,} bytes, or a part of one")
            return document.decode()

    def append(self, rows: Iterable[Row]) -> None:
        """Write the rows of one finished batch: all of them or none.

        A unit that was repeated for the sake of others is written again only where it ended differently.
        """
        written = _now()
        with self._transaction() as cursor:
            for row in rows:
                last = cursor.execute(_LAST_STATUS, (row.unit_id,)).fetchone()
                if last is None or last["status"] != row.status or not row.settled:
                    values = {name: getattr(row, name) for name in _FIELDS}
                    encoded = {name: json.dumps(values[name], sort_keys=True) for name in _JSON}
                    cursor.execute(_ADD, {**values, **encoded, "written": written})

    def rows(self, ids: Collection[str] | None = None) -> dict[str, Row]:
        """The rows that count, by unit id; those of ``ids`` alone, if given."""
        if ids is not None and not ids:
            return {}
        with self._errors():
            found = self._connection.execute(_COUNT.format(columns=", ".join(_FIELDS))).fetchall()
        with self._decoding():
            return {
                row["unit_id"]: Row(
                    **{name: json.loads(row[name]) if name in _JSON else row[name] for name in _FIELDS}
                )
                for row in found
                if ids is None or row["unit_id"] in ids
            }

    def settled(self) -> frozenset[str]:
        """The ids of units that need not be repeated: all that have a result and did not fail."""
        with self._errors():
            found = self._connection.execute(_COUNT.format(columns="unit_id, status")).fetchall()
        return frozenset(row["unit_id"] for row in found if row["status"] != "failed")

    def _open(self) -> None:
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        if application == 0 and not self._connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            self._create()
            application = _APPLICATION_ID
        if application != _APPLICATION_ID:
            raise StoreError(
                f"{self.path} is a database, but not a result store",
                got=f"application id {application:#x}",
                expected=f"{_APPLICATION_ID:#x}",
                fix="name another file with --store",
            )
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by another version of qflsec",
                got=f"schema {version}",
                expected=f"schema {SCHEMA_VERSION}",
                fix="read it with that version, or name a new file with --store",
            )
        problem = self._connection.execute("PRAGMA quick_check").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(problem)
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def _create(self) -> None:
        # The mode is kept in the file. Then one transaction: a kill in between leaves a database without tables.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.executescript(
            f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._errors():
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """What is stored may be somebody else's: broken JSON, or few bytes that stand for very many."""
        try:
            yield
        except (ValueError, TypeError, zlib.error) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"the store {self.path} is damaged or not a store",
            got=str(error),
            fix="move it away and run the same command again, or name another file with --store",
        )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"the store {self.path} cannot be used",
                got=str(error),
                fix="close other programs that use it, and see that the file and its folder can be written",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
