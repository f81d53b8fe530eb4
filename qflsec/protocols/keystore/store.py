"""A persistent store in which every key is used once.

Each side of a quantum link keeps a store of its own; both hold copies of the same keys under the same
identifiers. A key is marked as spent, its bytes are overwritten, and both are on the disk before the key
leaves the store. A crash in between loses the key; it never serves it twice. The identifier stays behind,
so that a replayed key is recognised. What is known of the block that a key was cut from stays with the key.

Keys lie in the file as they are: its mode is 0600, and the disk must be trusted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn
from uuid import UUID

from qflsec.base import ConfigError, StoreError
from qflsec.protocols.epsilons import Epsilons, KeyBlock
from qflsec.protocols.keystore.errors import (
    KeysExhausted,
    KeyStoreCorrupt,
    SeededKeysRefused,
    UnknownKey,
    WrongSae,
)
from qflsec.protocols.keystore.keys import KeyLink, QkdKey
from qflsec.protocols.secret_file import FileKind, SecretFile

__all__ = ["Admit", "KeyRole", "KeyStore"]

KeyRole = Literal["master", "slave"]
_AT_ONCE = 500
_KIND = FileKind(
    name="key store",
    application_id=0x514B4459,
    version=2,
    tables="""
CREATE TABLE blocks (
    name TEXT PRIMARY KEY,
    eps_sec REAL NOT NULL,
    eps_cor REAL NOT NULL,
    eps_auth REAL NOT NULL,
    n_keys INTEGER NOT NULL CHECK (n_keys > 0)
);
CREATE TABLE keys (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL UNIQUE,
    master TEXT NOT NULL,
    slave TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('master', 'slave')),
    bits INTEGER NOT NULL CHECK (bits > 0 AND bits % 8 = 0),
    simulated_channel INTEGER NOT NULL CHECK (simulated_channel IN (0, 1)),
    seeded INTEGER NOT NULL CHECK (seeded IN (0, 1)),
    block TEXT REFERENCES blocks (name),
    material BLOB CHECK (material IS NULL OR length(material) * 8 = bits)
);
CREATE INDEX fresh ON keys (master, slave, role, bits, place) WHERE material IS NOT NULL;
""",
    damaged=KeyStoreCorrupt,
    fix="make new keys in a new store",
    older="stores of version 1 forgot the epsilons of their keys, so that nothing can be claimed of them: make new keys in "
    "a new store",
)
_COLUMNS = (
    "place, key_id, master, slave, role, bits, simulated_channel, seeded, "
    "block, eps_sec, eps_cor, eps_auth, n_keys, material"
)
_ROWS = "keys LEFT JOIN blocks ON keys.block = blocks.name"
_Row = tuple[Any, ...]
_WITHIN = "AND eps_sec <= ? AND eps_cor <= ? AND eps_auth <= ? "
Admit = Callable[[Sequence[QkdKey]], None]


class KeyStore:
    """The key store of one side, shared by any number of threads and processes.

    Args:
        path: The file; made if it does not exist.
        allow_seeded: Whether to hold and deliver reproducible keys, which protect nothing: for tests and
            the lab only.
        capacity: The most undelivered keys of one link and role.

    Raises:
        StoreError: The file cannot be made or opened.
        KeyStoreCorrupt: The file is no key store, or is damaged; it is left as it is.
    """

    def __init__(self, path: str | Path, *, allow_seeded: bool = False, capacity: int = 1_000_000) -> None:
        if capacity < 1:
            raise ConfigError("'capacity' of a key store is too small", got=capacity, expected="at least 1")
        self._path = Path(path)
        self.allow_seeded = allow_seeded
        self.capacity = capacity
        if not self._path.exists():
            SecretFile.make(self._path, _KIND)
        self._file = SecretFile(self._path, _KIND)

    def __repr__(self) -> str:
        return f"KeyStore({str(self._path)!r})"

    def add(self, keys: Sequence[QkdKey], *, link: KeyLink, role: KeyRole) -> None:
        """Store this side's copies of new keys, all or none.

        Args:
            keys: The keys, in the order in which they are to be used.
            link: Whose keys they are.
            role: Which end of the link this side serves with them.

        Raises:
            StoreError: An identifier was stored before, a block is known under other epsilons, or there is no room.
            SeededKeysRefused: A key is seeded, and this store does not take such keys.
        """
        if not self.allow_seeded and any(key.seeded for key in keys):
            self._refuse_seeded()
        values = [
            (
                str(k.key_id), link.master, link.slave, role, k.bits, k.simulated_channel, k.seeded,
                str(k.block.name) if k.block else None, k.material,
            )
            for k in keys
        ]  # fmt: skip
        with self._file.transaction() as db:
            if self._stock(db, link, role, None)[0] + len(keys) > self.capacity:
                raise StoreError(
                    f"the key store {self._path.name} has no room for {len(keys)} keys of {link}",
                    expected=f"at most {self.capacity} undelivered keys",
                )
            known = {UUID(row[1]) for row in self._find(db, [key.key_id for key in keys])}
            for key in keys:
                if key.key_id in known:
                    raise StoreError(
                        f"a key was offered twice to the key store {self._path.name}", got=f"key {key.key_id}"
                    )
                known.add(key.key_id)
            for block in {key.block for key in keys if key.block is not None}:
                self._note_block(db, block)
            db.executemany(
                "INSERT INTO keys (key_id, master, slave, role, bits, simulated_channel, seeded, block, material) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def take(
        self,
        link: KeyLink,
        *,
        number: int = 1,
        bits: int,
        within: Epsilons | None = None,
        admit: Admit | None = None,
    ) -> tuple[QkdKey, ...]:
        """New keys for the master of a link, spent before they are returned; all or none.

        Args:
            link: The link.
            number: How many.
            bits: The length of each.
            within: The worst block to take keys from; keys of others and of unknown epsilons stay where they are.
            admit: Asked before the keys are spent; what it raises leaves them unspent.

        Raises:
            KeysExhausted: There are too few; none was spent.
            SeededKeysRefused: The next key is seeded.
        """
        if number < 1 or bits < 8 or bits % 8:
            raise ConfigError(
                "impossible request for keys",
                got=f"{number} keys of {bits} bits",
                expected="at least one key of 8, 16, 24 ... bits",
            )
        with self._file.transaction() as db:
            rows = self._select(
                db,
                "WHERE master = ? AND slave = ? AND role = 'master' AND bits = ? AND material IS NOT NULL "
                f"{_WITHIN if within else ''}ORDER BY place LIMIT ?",
                (link.master, link.slave, bits, *_limits(within), number),
            )
            if len(rows) < number:
                raise KeysExhausted(
                    f"the key store {self._path.name} has too few keys of {bits} bits for {link}",
                    got=f"{number} asked for",
                    expected=f"at most {len(rows)}",
                )
            return self._spend(db, rows, admit)

    def take_ids(
        self, link: KeyLink, key_ids: Sequence[UUID], *, admit: Admit | None = None
    ) -> tuple[QkdKey, ...]:
        """Keys for the slave of a link by their identifiers, spent before they are returned; all or none.

        Args:
            link: The link.
            key_ids: The identifiers.
            admit: Asked before the keys are spent; what it raises leaves them unspent.

        Raises:
            UnknownKey: A key was never stored here for a slave, or has been delivered; none was spent.
            WrongSae: A key belongs to another link; none was spent.
        """
        if not key_ids or len(set(key_ids)) < len(key_ids):
            raise UnknownKey("no key, or one key twice, was asked for", got=f"{len(key_ids)} identifiers")
        with self._file.transaction() as db:
            rows = {UUID(row[1]): row for row in self._find(db, key_ids)}
            missing = [i for i in key_ids if i not in rows or rows[i][4] != "slave" or rows[i][-1] is None]
            if missing:
                shown = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
                raise UnknownKey(
                    f"{len(missing)} of {len(key_ids)} keys are unknown or were delivered before",
                    got=f"key {shown}",
                )
            if any(row[2:4] != (link.master, link.slave) for row in rows.values()):
                raise WrongSae(f"a key does not belong to {link}")
            return self._spend(db, [rows[key_id] for key_id in key_ids], admit)

    def discard(self, key_ids: Sequence[UUID]) -> int:
        """Spend keys without delivering them, for example those that the other side has lost.

        Returns:
            How many were still there.
        """
        with self._file.transaction() as db:
            rows = [row for row in self._find(db, key_ids) if row[-1] is not None]
            self._erase(db, rows)
            return len(rows)

    def count(self, link: KeyLink, *, role: KeyRole = "master", bits: int | None = None) -> int:
        """How many undelivered keys there are, of one length or of all."""
        with self._file.open() as db:
            return self._stock(db, link, role, bits)[0]

    def bits_left(
        self,
        link: KeyLink,
        *,
        role: KeyRole = "master",
        bits: int | None = None,
        within: Epsilons | None = None,
    ) -> int:
        """How many undelivered bits there are, in keys of one length or of all, of blocks good enough or of all.

        Units:
            bits
        """
        with self._file.open() as db:
            return self._stock(db, link, role, bits, within)[1]

    def _stock(
        self,
        db: sqlite3.Connection,
        link: KeyLink,
        role: KeyRole,
        bits: int | None,
        within: Epsilons | None = None,
    ) -> tuple[int, int]:
        count, total = db.execute(
            f"SELECT count(*), coalesce(sum(bits), 0) FROM {_ROWS} WHERE master = ? AND slave = ? "  # noqa: S608
            f"AND role = ? AND material IS NOT NULL AND bits = coalesce(?, bits) {_WITHIN if within else ''}",
            (link.master, link.slave, role, bits, *_limits(within)),
        ).fetchone()
        return int(count), int(total)

    def _note_block(self, db: sqlite3.Connection, block: KeyBlock) -> None:
        """Keep what a block claims; it claims one thing for all times."""
        claim = (*_limits(block.epsilons), block.n_keys)
        db.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?, ?, ?)", (str(block.name), *claim))
        kept = db.execute(
            "SELECT eps_sec, eps_cor, eps_auth, n_keys FROM blocks WHERE name = ?", (str(block.name),)
        ).fetchone()
        if kept != claim:
            raise StoreError(
                f"the block {block.name} is known to the key store {self._path.name} with other epsilons",
                got=claim, expected=kept,
            )  # fmt: skip

    def _select(self, db: sqlite3.Connection, where: str, values: Sequence[object]) -> list[_Row]:
        return db.execute(f"SELECT {_COLUMNS} FROM {_ROWS} {where}", tuple(values)).fetchall()  # noqa: S608

    def _find(self, db: sqlite3.Connection, key_ids: Sequence[UUID]) -> list[_Row]:
        found: list[_Row] = []
        for start in range(0, len(key_ids), _AT_ONCE):
            some = [str(key_id) for key_id in key_ids[start : start + _AT_ONCE]]
            found += self._select(db, f"WHERE key_id IN ({', '.join('?' * len(some))})", some)
        return found

    def _spend(self, db: sqlite3.Connection, rows: Sequence[_Row], admit: Admit | None) -> tuple[QkdKey, ...]:
        keys = tuple(_key(row) for row in rows)
        if admit is not None:
            admit(keys)
        if not self.allow_seeded and any(key.seeded for key in keys):
            self._refuse_seeded()
        self._erase(db, rows)
        return keys

    def _erase(self, db: sqlite3.Connection, rows: Sequence[_Row]) -> None:
        db.executemany("UPDATE keys SET material = NULL WHERE place = ?", [(row[0],) for row in rows])

    def _refuse_seeded(self) -> NoReturn:
        raise SeededKeysRefused(
            f"the key store {self._path.name} holds no seeded keys: they protect nothing outside the lab",
            fix="open it with allow_seeded=True in a test or in the lab",
        )


def _key(row: _Row) -> QkdKey:
    _, key_id, _, _, _, _, simulated, seeded, block, eps_sec, eps_cor, eps_auth, n_keys, material = row
    assert material is not None
    origin = None
    if block is not None:
        epsilons = Epsilons(eps_sec=eps_sec, eps_cor=eps_cor, eps_auth=eps_auth)
        origin = KeyBlock(name=UUID(block), epsilons=epsilons, n_keys=n_keys)
    return QkdKey(
        key_id=UUID(key_id), material=material, simulated_channel=bool(simulated), seeded=bool(seeded), block=origin
    )  # fmt: skip


def _limits(epsilons: Epsilons | None) -> tuple[float, ...]:
    return () if epsilons is None else (epsilons.eps_sec, epsilons.eps_cor, epsilons.eps_auth)
