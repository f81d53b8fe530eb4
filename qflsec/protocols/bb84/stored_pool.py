"""A key pool for authentication that outlives its process: no pad is used again, whenever the process dies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from qflsec.base import ProtocolAbort, StoreError
from qflsec.protocols.bb84.key_pool import SPEAKERS, KeyPool, PoolState, laid_out
from qflsec.protocols.bb84.transcript import PartyName
from qflsec.protocols.secret_file import FileKind, SecretFile

__all__ = ["KeyPoolCorrupt", "StoredKeyPool"]


class KeyPoolCorrupt(StoreError):
    """A file that is no key pool, or a damaged one."""


_KIND = FileKind(
    name="key pool",
    application_id=0x514B4150,
    version=1,
    tables="""
CREATE TABLE pool (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    hash_key BLOB NOT NULL CHECK (length(hash_key) = 16),
    refills INTEGER NOT NULL,
    eps REAL NOT NULL
);
CREATE TABLE directions (speaker TEXT PRIMARY KEY, level INTEGER NOT NULL, ends INTEGER NOT NULL);
CREATE TABLE pads (
    speaker TEXT NOT NULL,
    place INTEGER NOT NULL,
    pad BLOB CHECK (pad IS NULL OR length(pad) = 16),
    PRIMARY KEY (speaker, place)
);
""",
    damaged=KeyPoolCorrupt,
    fix="share a new key with the other party",
)


class StoredKeyPool(KeyPool):
    """One party's pool in a file.

    A pad is erased on the disk before it is used. A refill is on the disk as a whole or not at all.

    Args:
        path: The file, made by :meth:`make`.

    Raises:
        StoreError: There is none, or it cannot be opened.
        KeyPoolCorrupt: It is no key pool, or is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = SecretFile(Path(path), _KIND)
        with self._file.open() as db:
            (self._hash_key,) = db.execute("SELECT hash_key FROM pool").fetchone()
        self._start()

    @classmethod
    def make(cls, path: str | Path, preshared: bytes) -> Self:
        """A new pool from what was shared beforehand.

        Raises:
            ConfigError: There is not one pad for each direction.
            StoreError: The file exists or cannot be made: a secret that was shared before must not begin anew.
        """
        hash_key, pads = laid_out(preshared)

        def fill(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO pool VALUES (1, ?, 0, 0.0)", (hash_key,))
            for speaker, own in pads.items():
                db.execute("INSERT INTO directions VALUES (?, ?, ?)", (speaker, len(own), len(own)))
                _insert(db, speaker, ((place, bytes(pad)) for place, pad in own.items()))

        if not SecretFile.make(Path(path), _KIND, fill):
            raise StoreError(f"there is a key pool at {path}", fix="open it, or name another file")
        return cls(path)

    @property
    def refills(self) -> int:
        """How often new key was added."""
        with self._file.open() as db:
            return int(db.execute("SELECT refills FROM pool").fetchone()[0])

    @property
    def eps(self) -> float:
        """How far all pads together may be from ideal ones."""
        with self._file.open() as db:
            return float(db.execute("SELECT eps FROM pool").fetchone()[0])

    def state(self, speaker: PartyName) -> PoolState:
        """Which pads there are for the tags of one party."""
        with self._file.open() as db:
            level, end = db.execute(
                "SELECT level, ends FROM directions WHERE speaker = ?", (speaker,)
            ).fetchone()
            places = db.execute(
                "SELECT place FROM pads WHERE speaker = ? AND pad IS NOT NULL", (speaker,)
            ).fetchall()
        return PoolState(level=level, end=end, free=frozenset(place for (place,) in places))

    def _burn(self, speaker: PartyName, place: int) -> bytes:
        with self._file.transaction() as db:
            (pad,) = db.execute(
                "SELECT pad FROM pads WHERE speaker = ? AND place = ?", (speaker, place)
            ).fetchone()
            if pad is None:
                raise ProtocolAbort("another process used an authentication pad of this round")
            db.execute("UPDATE pads SET pad = NULL WHERE speaker = ? AND place = ?", (speaker, place))
        return bytes(pad)

    def _store(
        self,
        kept: Mapping[PartyName, list[int]],
        added: Mapping[PartyName, Mapping[int, bytes]],
        ends: Mapping[PartyName, int],
        eps: float,
    ) -> None:
        with self._file.transaction() as db:
            for speaker in SPEAKERS:
                (end,) = db.execute("SELECT ends FROM directions WHERE speaker = ?", (speaker,)).fetchone()
                if end > ends[speaker]:
                    raise ProtocolAbort("another process refilled the authentication pool in this round")
                have = db.execute(
                    "SELECT place FROM pads WHERE speaker = ? AND pad IS NOT NULL", (speaker,)
                ).fetchall()
                gone = {place for (place,) in have} - set(kept[speaker])
                db.executemany(
                    "UPDATE pads SET pad = NULL WHERE speaker = ? AND place = ?",
                    [(speaker, place) for place in gone],
                )
                _insert(db, speaker, added[speaker].items())
                end = ends[speaker] + len(added[speaker])
                db.execute("UPDATE directions SET ends = ? WHERE speaker = ?", (end, speaker))
            db.execute("UPDATE pool SET refills = refills + 1, eps = eps + ?", (eps,))


def _insert(db: sqlite3.Connection, speaker: PartyName, pads: Iterable[tuple[int, bytes]]) -> None:
    db.executemany("INSERT INTO pads VALUES (?, ?, ?)", [(speaker, place, pad) for place, pad in pads])
