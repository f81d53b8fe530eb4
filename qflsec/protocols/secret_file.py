"""Files of secrets that are used once: what was used is erased on the disk before anybody has it.

Secrets lie in the file as they are: its mode is 0600, and the disk must be trusted. A crash may lose what was about to
be used; it never brings back what was used.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from qflsec.base import StoreError

__all__ = ["FileKind", "SecretFile"]

_BUSY_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: What it is called, for example ``"key store"``.
        application_id: What marks it.
        version: Of its format.
        tables: How to make them.
        damaged: The error for a file that is damaged, or none of this kind.
        fix: What to do about a damaged one.
        older: What to do about one of an older version.
    """

    name: str
    application_id: int
    version: int
    tables: str
    damaged: type[StoreError]
    fix: str
    older: str = ""

    @property
    def schema(self) -> str:
        """Everything that a new file begins with."""
        return (
            f"PRAGMA application_id = {self.application_id};\nPRAGMA user_version = {self.version};\n"
            f"PRAGMA journal_mode = WAL;\n{self.tables}"
        )


class SecretFile:
    """One file, shared by any number of threads and processes.

    Args:
        path: Where it lies.
        kind: What it is.

    Raises:
        StoreError: It cannot be opened, is of another version, or is damaged; it is left as it is.
    """

    def __init__(self, path: Path, kind: FileKind) -> None:
        self.path = path
        self._kind = kind
        self._check()

    @classmethod
    def make(
        cls, path: Path, kind: FileKind, fill: Callable[[sqlite3.Connection], None] | None = None
    ) -> bool:
        """Make the file beside its place and link it in whole, so that nobody sees half of it.

        Args:
            path: Where it is to lie.
            kind: What it is.
            fill: What to write into it first.

        Returns:
            Whether it was made; it was not where there was one.

        Raises:
            StoreError: It cannot be made.
        """
        try:
            with tempfile.TemporaryDirectory(prefix=".keystore-", dir=path.parent) as directory:
                draft = Path(directory) / "draft"
                draft.touch(mode=0o600)
                with closing(sqlite3.connect(draft, isolation_level=None)) as db:
                    db.executescript(kind.schema)
                    if fill is not None:
                        fill(db)
                os.link(draft, path)
        except FileExistsError:
            return False
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot make the {kind.name} {path}", got=error) from error
        return True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One writer at a time; what the body did is on the disk before the caller goes on."""
        with self.open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")
            # the log still holds the erased bytes; whoever closes the store last would remove it too
            with suppress(sqlite3.OperationalError):
                db.execute("PRAGMA busy_timeout = 0")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection, with errors in the user's words."""
        try:
            uri = f"{self.path.absolute().as_uri()}?mode=rw"
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)) as db:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA secure_delete = ON")
                yield db
        except sqlite3.Error as error:
            raise self._clear(error) from error

    def _check(self) -> None:
        name, path = self._kind.name, self.path
        with self.open() as db:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if application != self._kind.application_id:
                raise self._kind.damaged(f"{path} is not a {name}", fix="name another file")
            if version != self._kind.version:
                raise StoreError(
                    f"the {name} {path} is of another version", got=version, expected=self._kind.version,
                    fix=self._kind.older if version < self._kind.version else None,
                )  # fmt: skip
            (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise self._kind.damaged(f"the {name} {path} is damaged", got=verdict, fix=self._kind.fix)

    def _clear(self, error: sqlite3.Error) -> StoreError:
        """An error of the database in the user's words."""
        name, path = self._kind.name, self.path
        if not path.exists():
            return StoreError(f"the {name} {path} is gone")
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            return StoreError(f"the {name} {path} stayed locked for {_BUSY_SECONDS:.0f} s")
        if isinstance(error, sqlite3.OperationalError):
            return StoreError(f"the {name} {path} cannot be used", got=error)
        return self._kind.damaged(
            f"the {name} {path} is damaged", got=error, fix=f"{self._kind.fix}; the file was left as it is"
        )
