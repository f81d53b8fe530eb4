"""The store: appended, atomic, and clear about files that it cannot use."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from qflsec.base import StoreError
from qflsec.lab import Store


def trial(name: str = "t", status: str = "ok", **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "trial_id": name,
        "run_id": "r",
        "baseline_run_id": "",
        "seed": 0,
        "status": status,
        "advantage": 0.5,
        "metrics": {},
        "raw": {"counts": [1, 2]},
        "reason": "",
        "traceback": "",
        "seconds": 0.1,
        "identity": {},
    }
    return {**row, **other}


def run(name: str = "r", **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_id": name,
        "outcome": "completed",
        "seed": 0,
        "accuracy": [0.5],
        "loss": [0.7],
        "train_loss": [0.7],
        "chance": 0.5,
        "costs": {"network_bytes": 8.0},
        "ledgers": {"a": []},
        "seeded_secrets": False,
        "traceback": "",
        "identity": {"seed": 0},
    }
    return {**row, **other}


def test_rows_come_back(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.append(runs=[run()], trials=[trial()])
    with Store(tmp_path / "s.sqlite", create=False) as store:
        assert store.trials()["t"]["raw"] == {"counts": [1, 2]}
        assert store.runs()["r"]["costs"] == {"network_bytes": 8.0}
        assert store.settled_trials() == {"t"}
        assert store.settled_runs() == {"r": frozenset({"a"})}


def test_a_failed_trial_is_not_settled_and_stays_as_history(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.append(runs=[], trials=[trial(status="failed", traceback="Traceback ...", advantage=None)])
        assert store.settled_trials() == frozenset()
        store.append(runs=[], trials=[trial()])
        assert store.settled_trials() == {"t"}
        assert store.trials()["t"]["status"] == "ok"
    rows = sqlite3.connect(path).execute("SELECT status FROM trials ORDER BY seq").fetchall()
    assert rows == [("failed",), ("ok",)]


def test_a_failed_run_is_not_settled(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        store.append(runs=[run(outcome="failed: a bug")], trials=[])
        assert store.settled_runs() == {}


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        broken = trial("u")
        del broken["status"]
        with pytest.raises((KeyError, StoreError)):
            store.append(runs=[run()], trials=[trial(), broken])
        assert store.trials() == {}
        assert store.runs() == {}
        store.append(runs=[run()], trials=[trial()])
        assert set(store.trials()) == {"t"}


def test_a_repeated_run_is_written_again_only_for_further_observers(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.append(runs=[run()], trials=[])
        store.append(runs=[run()], trials=[])
        store.append(runs=[run(ledgers={"b": [{"epsilon": 1.0}]})], trials=[])
        assert store.settled_runs() == {"r": frozenset({"a", "b"})}
    assert sqlite3.connect(path).execute("SELECT count(*) FROM runs").fetchone() == (2,)


def test_the_last_matrix_is_remembered(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        assert store.last_matrix() is None
        store.remember(name="a", command="first", spec="{}")
        store.remember(name="b", command="second", spec="{}")
        last, named = store.last_matrix(), store.last_matrix("a")
    assert last is not None
    assert named is not None
    assert (last["name"], named["command"]) == ("b", "first")


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
        store.append(runs=[run(str(i)) for i in range(200)], trials=[trial(str(i)) for i in range(200)])
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
    refuse(path, "another version", "schema 99", "schema 1")


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
            store.append(runs=[run()], trials=[])
        other.execute("ROLLBACK")
        other.close()
        store.append(runs=[run()], trials=[])
