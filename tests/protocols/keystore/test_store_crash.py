"""Killed processes and many clients at once: no key is ever served twice."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from qflsec.protocols.keystore import KeyLink, KeysExhausted, KeyStore, QkdKey

Maker = Callable[..., list[QkdKey]]
Server = Callable[[Path, int, list[uuid.UUID]], None]
FORTH = KeyLink(master="client-0", slave="server")
FORK = multiprocessing.get_context("fork")
KILLS = 25


def note(log: int, keys: tuple[QkdKey, ...]) -> None:
    """The receiver's log: one write below PIPE_BUF, so that a kill leaves no half line."""
    os.write(log, "".join(f"{key.key_id} {key.material.hex()}\n" for key in keys).encode())


def draw(path: Path, log: int, _: list[uuid.UUID]) -> None:
    store = KeyStore(path)
    while True:
        note(log, store.take(FORTH, number=2, bits=256))


def fetch(path: Path, log: int, ids: list[uuid.UUID]) -> None:
    store = KeyStore(path)
    while left := undelivered(store):
        note(log, store.take_ids(FORTH, [i for i in ids if i in left][:2]))


def careless(path: Path, log: int, _: list[uuid.UUID]) -> None:
    """The control: deliver first, spend afterwards."""
    store = KeyStore(path)
    while True:
        with store._file.open() as db:
            rows = db.execute(
                "SELECT key_id, material FROM keys WHERE material IS NOT NULL ORDER BY place LIMIT 2"
            ).fetchall()
        keys = tuple(
            QkdKey(key_id=uuid.UUID(i), material=m, simulated_channel=True, seeded=False) for i, m in rows
        )
        if not keys:  # the parent was slow: it reads the end of the pipe in place of waiting for more
            return
        note(log, keys)
        store.discard([key.key_id for key in keys])


def undelivered(store: KeyStore) -> set[uuid.UUID]:
    with store._file.open() as db:
        return {uuid.UUID(i) for (i,) in db.execute("SELECT key_id FROM keys WHERE material IS NOT NULL")}


def kill_at_random(path: Path, serve: Server, ids: list[uuid.UUID]) -> list[str]:
    """Start and kill a process again and again; what it had delivered until then."""
    moments = random.Random(4)
    received: list[str] = []
    for _ in range(KILLS):
        reader, writer = os.pipe()
        process = FORK.Process(target=serve, args=(path, writer, ids), daemon=True)
        process.start()
        os.close(writer)
        first = os.read(reader, 1 << 16)  # it is at work
        time.sleep(moments.uniform(0.0, 0.04))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        rest = b""
        while chunk := os.read(reader, 1 << 16):
            rest += chunk
        os.close(reader)
        received += (first + rest).decode().splitlines()
    return received


@pytest.mark.parametrize(("serve", "role"), [(draw, "master"), (fetch, "slave")])
def test_a_killed_process_may_lose_a_key_but_serves_none_twice(
    tmp_path: Path, make_keys: Maker, serve: Server, role: str
) -> None:
    path, keys = tmp_path / "a.keys", make_keys(1500)
    KeyStore(path).add(keys, link=FORTH, role=role)  # type: ignore[arg-type]
    received = kill_at_random(path, serve, [key.key_id for key in keys])
    store = KeyStore(path)
    left = undelivered(store)
    assert len(received) >= 2 * KILLS
    assert len(set(received)) == len(received)
    ids = {uuid.UUID(line.split()[0]) for line in received}
    assert len({line.split()[1] for line in received}) == len(received)
    assert not ids & left
    assert {line.split()[0]: line.split()[1] for line in received}.items() <= {
        str(key.key_id): key.material.hex() for key in keys
    }.items()
    lost = len(keys) - len(ids) - len(left)
    assert 0 <= lost <= 2 * KILLS


def test_the_kill_test_finds_a_store_that_spends_too_late(tmp_path: Path, make_keys: Maker) -> None:
    """The control. A kill falls between delivery and spending in about half of the cases: 25 misses are 3e-8."""
    path = tmp_path / "a.keys"
    KeyStore(path).add(make_keys(1500), link=FORTH, role="master")
    received = kill_at_random(path, careless, [])
    assert len(set(received)) < len(received)


@pytest.mark.parametrize("moment", ["before the commit", "after the commit"])
def test_a_crash_around_the_commit(tmp_path: Path, make_keys: Maker, moment: str) -> None:
    """Before it nothing is spent; after it the key is spent although nobody has it."""
    path, keys = tmp_path / "a.keys", make_keys(3)
    KeyStore(path).add(keys, link=FORTH, role="master")

    def crash() -> None:
        store = KeyStore(path)
        erase = store._erase

        def die(*args: Any) -> None:
            erase(*args)
            os._exit(9)

        if moment == "before the commit":
            store._erase = die  # type: ignore[method-assign]
        store.take(FORTH, bits=256)
        os._exit(9)  # nobody has seen the key

    process = FORK.Process(target=crash)
    process.start()
    process.join()
    assert process.exitcode == 9
    store = KeyStore(path)
    expected = keys if moment == "before the commit" else keys[1:]
    assert store.take(FORTH, number=len(expected), bits=256) == tuple(expected)


def drain(path: Path, batch: int) -> list[str]:
    store = KeyStore(path)
    got: list[str] = []
    while True:
        try:
            got += [key.material.hex() for key in store.take(FORTH, number=batch, bits=256)]
        except KeysExhausted:
            return got


def test_threads_and_processes_share_the_keys_without_overlap(tmp_path: Path, make_keys: Maker) -> None:
    path, keys = tmp_path / "a.keys", make_keys(120)
    KeyStore(path).add(keys, link=FORTH, role="master")
    with FORK.Pool(3) as processes, ThreadPoolExecutor(3) as threads:
        elsewhere = [processes.apply_async(drain, (path, 1)) for _ in range(3)]
        here = [threads.submit(drain, path, 1) for _ in range(3)]
        shares = [job.get(timeout=60) for job in elsewhere] + [job.result() for job in here]
    got = [material for share in shares for material in share]
    assert sorted(got) == sorted(key.material.hex() for key in keys)
    assert sum(bool(share) for share in shares) >= 2  # they did compete


def test_a_store_is_made_once_by_many_processes(tmp_path: Path, make_keys: Maker) -> None:
    path = tmp_path / "new.keys"
    with FORK.Pool(4) as processes:
        list(processes.imap_unordered(KeyStore, [path] * 12))
    KeyStore(path).add(make_keys(1), link=FORTH, role="master")
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
