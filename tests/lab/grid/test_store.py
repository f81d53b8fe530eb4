"""The store: appended, atomic, and clear about files that it cannot use."""

from __future__ import annotations

import math
import sqlite3
import zlib
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import StoreError
from qflsec.lab import Store
from qflsec.lab.grid.store import SCHEMA_VERSION
from qflsec.lab.grid.units import Row


def row(name: str = "t", status: str = "ok", **other: Any) -> Row:
    values: dict[str, Any] = {
        "unit_id": name,
        "stage": "trial",
        "seed": 0,
        "identity": {"seed": 0},
        "status": status,
        "content": {"counts": [1, 2]},
        "seconds": 0.1,
    }
    return Row(**{**values, **other})


def test_rows_come_back(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.append([row(), row("r", stage="run", content={"loss": [0.1, float("nan")]})])
    with Store(tmp_path / "s.sqlite", create=False) as store:
        assert store.rows()["t"] == row()
        assert math.isnan(store.rows()["r"].content["loss"][1])
        assert set(store.rows(["t", "elsewhere"])) == {"t"}
        assert store.rows([]) == {}
        assert store.settled() == {"t", "r"}


def test_a_failed_row_is_not_settled_and_stays_as_history(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.append([row(status="failed", traceback="Traceback ...", content={})])
        assert store.settled() == frozenset()
        store.append([row(status="failed", traceback="Traceback ...", content={})])
        store.append([row()])
        assert store.settled() == {"t"}
        assert store.rows()["t"].status == "ok"
    rows = sqlite3.connect(path).execute("SELECT status FROM units ORDER BY seq").fetchall()
    assert rows == [("failed",), ("failed",), ("ok",)]


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(StoreError):
            store.append([row(), row("u", status=None)])
        assert store.rows() == {}
        store.append([row()])
        assert set(store.rows()) == {"t"}


def test_a_repeated_unit_is_written_again_only_where_it_ended_differently(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        for status in ("completed", "completed", "aborted"):
            store.append([row(status=status)])
        assert store.rows()["t"].status == "aborted"
    assert sqlite3.connect(path).execute("SELECT count(*) FROM units").fetchone() == (2,)


def test_the_last_matrix_is_remembered(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        assert store.last_matrix() is None
        store.remember(kind="federation", name="a", command="first", spec="{}", frame={"n": 1})
        store.remember(kind="channel", name="b", command="second", spec="{}", frame={})
        last, named = store.last_matrix(), store.last_matrix("a")
    assert last is not None
    assert named is not None
    assert (last["kind"], last["name"], named["command"]) == ("channel", "b", "first")
    assert (last["frame"], named["frame"]) == ({}, {"n": 1})


def refuse(path: Path, *words: str, create: bool = True) -> None:
    with pytest.raises(StoreError) as caught:
        Store(path, create=create)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to be read as one by mistake" * 20)
    refuse(path, "notes.txt", "not a database", "--store")
    assert path.read_text().startswith("not a database")


def test_a_damaged_store(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.append([row(str(i)) for i in range(400)])
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = b"\xff" * 6000
    path.write_bytes(content)
    refuse(path, "damaged", "move it away")


def test_a_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (x)")
    connection.commit()
    connection.close()
    refuse(path, "not a result store", "--store")


def test_a_store_of_another_version(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    refuse(path, "another version", "schema 99", f"schema {SCHEMA_VERSION}", "--store")


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    refuse(tmp_path / "none.sqlite", "no such store", create=False)
    refuse(tmp_path / "no-folder" / "s.sqlite", "folder")
    assert not (tmp_path / "none.sqlite").exists()


def test_a_store_that_another_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite"
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0.05}))
    with Store(path) as store:
        other = connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.append([row()])
        other.execute("ROLLBACK")
        other.close()
        store.append([row()])


@pytest.mark.parametrize(
    "document",
    [zlib.compress(bytes(2**28 + 1)), zlib.compress(b"{}")[:-3], b"no zlib", zlib.compress(b"\xff")],
)
def test_a_kept_result_that_cannot_be_unpacked(tmp_path: Path, document: bytes) -> None:
    """The first is 260 kB that stand for 268 MB, and could stand for all of the memory."""
    with Store(tmp_path / "s.sqlite") as store:
        store.keep_result(1, unit=0, digest="d", document="{}")
        store._connection.execute("UPDATE results SET document = ?", (document,))
        with pytest.raises(StoreError, match="is damaged"):
            store.kept_result(1, digest="d")


def test_rows_and_frames_that_are_no_json(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.append([row()])
        store.remember(kind="federation", name="m", command="c", spec="{}", frame={})
        store._connection.execute("UPDATE units SET content = '{'")
        store._connection.execute("UPDATE matrices SET frame = '{'")
        for read in (store.rows, store.last_matrix):
            with pytest.raises(StoreError, match="is damaged"):
                read()
