"""The result store: one SQLite file with runs and trials.

Only the parent process writes, one transaction for each finished batch, so that a kill at any moment leaves
whole batches. Rows are only ever appended: the last row of an id counts, and earlier ones (a failed trial
that was repeated) stay as history. Counts and raw scores are stored rather than rates.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qflsec.base import StoreError

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x51464C53  # "QFLS"
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO meta VALUES ('created', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));
CREATE TABLE matrices (
    seq INTEGER PRIMARY KEY, written TEXT NOT NULL, name TEXT NOT NULL, command TEXT NOT NULL, spec TEXT NOT NULL
);
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY, written TEXT NOT NULL, run_id TEXT NOT NULL, outcome TEXT NOT NULL,
    seed INTEGER NOT NULL, accuracy TEXT NOT NULL, loss TEXT NOT NULL, train_loss TEXT NOT NULL,
    chance REAL, costs TEXT NOT NULL, ledgers TEXT NOT NULL, seeded_secrets INTEGER NOT NULL, traceback TEXT NOT NULL,
    identity TEXT NOT NULL
);
CREATE INDEX runs_by_id ON runs (run_id);
CREATE TABLE trials (
    seq INTEGER PRIMARY KEY, written TEXT NOT NULL, trial_id TEXT NOT NULL, run_id TEXT NOT NULL,
    baseline_run_id TEXT NOT NULL, seed INTEGER NOT NULL, status TEXT NOT NULL, advantage REAL,
    metrics TEXT NOT NULL, raw TEXT NOT NULL, reason TEXT NOT NULL, traceback TEXT NOT NULL,
    seconds REAL NOT NULL, identity TEXT NOT NULL
);
CREATE INDEX trials_by_id ON trials (trial_id);
"""
_ADD_RUN = """
INSERT INTO runs VALUES (
    NULL, :written, :run_id, :outcome, :seed, :accuracy, :loss, :train_loss, :chance, :costs, :ledgers, :seeded_secrets,
    :traceback, :identity
)
"""
_ADD_TRIAL = """
INSERT INTO trials VALUES (
    NULL, :written, :trial_id, :run_id, :baseline_run_id, :seed, :status, :advantage, :metrics, :raw, :reason,
    :traceback, :seconds, :identity
)
"""
_LAST_RUN = "SELECT outcome, ledgers FROM runs WHERE run_id = ? ORDER BY seq DESC LIMIT 1"
_RUNS = "SELECT * FROM runs WHERE seq IN (SELECT max(seq) FROM runs GROUP BY run_id) ORDER BY seq"
_TRIALS = "SELECT * FROM trials WHERE seq IN (SELECT max(seq) FROM trials GROUP BY trial_id) ORDER BY seq"
_RUN_JSON = ("accuracy", "loss", "train_loss", "costs", "ledgers", "identity")
_TRIAL_JSON = ("metrics", "raw", "identity")

Row = dict[str, Any]


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

    def remember(self, *, name: str, command: str, spec: str) -> None:
        """Note which matrix is run into this store, and by which command."""
        with self._transaction() as cursor:
            cursor.execute(
                "INSERT INTO matrices (written, name, command, spec) VALUES (?, ?, ?, ?)",
                (_now(), name, command, spec),
            )

    def last_matrix(self, name: str | None = None) -> Row | None:
        """The matrix that was last run into this store: ``written``, ``name``, ``command``, ``spec``."""
        query = "SELECT * FROM matrices WHERE :name IS NULL OR name = :name ORDER BY seq DESC LIMIT 1"
        with self._errors():
            row = self._connection.execute(query, {"name": name}).fetchone()
        return None if row is None else dict(row)

    def append(self, *, runs: Iterable[Row], trials: Iterable[Row]) -> None:
        """Write the rows of one finished batch: all of them or none.

        A run that was repeated for the sake of further trials is written again only where it adds to what is
        stored: another outcome, or ledgers for further observers.
        """
        written = _now()
        with self._transaction() as cursor:
            for row in runs:
                stored = cursor.execute(_LAST_RUN, (row["run_id"],)).fetchone()
                known = {} if stored is None else json.loads(stored["ledgers"])
                merged = {**row, "written": written, "ledgers": {**known, **row["ledgers"]}}
                if stored is None or stored["outcome"] != row["outcome"] or merged["ledgers"] != known:
                    cursor.execute(_ADD_RUN, _encoded(merged, _RUN_JSON))
            for row in trials:
                cursor.execute(_ADD_TRIAL, _encoded({**row, "written": written}, _TRIAL_JSON))

    def trials(self) -> dict[str, Row]:
        """The trial rows that count, by id."""
        return {row["trial_id"]: row for row in self._rows(_TRIALS, _TRIAL_JSON)}

    def runs(self) -> dict[str, Row]:
        """The run rows that count, by id."""
        return {row["run_id"]: row for row in self._rows(_RUNS, _RUN_JSON)}

    def settled_trials(self) -> frozenset[str]:
        """The ids of trials that need not be repeated: all that have a result and did not fail."""
        with self._errors():
            rows = self._connection.execute(_TRIALS).fetchall()
        return frozenset(row["trial_id"] for row in rows if row["status"] != "failed")

    def settled_runs(self) -> dict[str, frozenset[str]]:
        """The ids of runs that did not fail, with the keys of the observers whose ledgers they hold."""
        with self._errors():
            rows = self._connection.execute(_RUNS).fetchall()
        return {
            row["run_id"]: frozenset(json.loads(row["ledgers"]))
            for row in rows
            if not row["outcome"].startswith("failed")
        }

    def _rows(self, query: str, encoded: tuple[str, ...]) -> Iterator[Row]:
        with self._errors():
            rows = self._connection.execute(query).fetchall()
        for row in rows:
            yield {name: json.loads(row[name]) if name in encoded else row[name] for name in row.keys()}  # noqa: SIM118

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
            raise StoreError(
                f"the store {self.path} is damaged or not a store",
                got=str(error),
                fix="move it away and run the same command again, or name another file with --store",
            ) from error


def _encoded(row: Row, names: tuple[str, ...]) -> Row:
    return {**row, **{name: json.dumps(row[name], sort_keys=True) for name in names}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
