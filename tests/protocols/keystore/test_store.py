"""The key store: every key once, whatever happens."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

from qflsec.base import ConfigError, StoreError
from qflsec.protocols.keystore import KeyLink as Link
from qflsec.protocols.keystore import (
    KeysExhausted,
    KeyStore,
    KeyStoreCorrupt,
    QkdKey,
    SeededKeysRefused,
    UnknownKey,
    WrongSae,
)

Maker = Callable[..., list[QkdKey]]
FORTH = Link(master="client-0", slave="server")
BACK = Link(master="server", slave="client-0")
OTHER = Link(master="client-0", slave="client-1")


def test_both_sides_get_the_same_key_once(pair: tuple[KeyStore, KeyStore], make_keys: Maker) -> None:
    alice, bob = pair
    keys = make_keys(5)
    alice.add(keys, link=FORTH, role="master")
    bob.add(keys, link=FORTH, role="slave")
    drawn = alice.take(FORTH, number=3, bits=256)
    assert [(k.key_id, k.material) for k in drawn] == [(k.key_id, k.material) for k in keys[:3]]
    fetched = bob.take_ids(FORTH, [drawn[2].key_id, drawn[0].key_id])
    assert fetched == (keys[2], keys[0])
    with pytest.raises(UnknownKey, match="delivered before"):
        bob.take_ids(FORTH, [drawn[0].key_id])
    assert alice.take(FORTH, number=2, bits=256) == tuple(keys[3:])
    assert alice.count(FORTH) == 0
    assert bob.count(FORTH, role="slave") == 3
    assert bob.bits_left(FORTH, role="slave") == 3 * 256


def test_a_failed_request_spends_nothing(pair: tuple[KeyStore, KeyStore], make_keys: Maker) -> None:
    alice, bob = pair
    keys = make_keys(3)
    alice.add(keys, link=FORTH, role="master")
    bob.add(keys, link=FORTH, role="slave")
    with pytest.raises(KeysExhausted, match="too few keys of 256 bits for client-0 > server"):
        alice.take(FORTH, number=4, bits=256)
    with pytest.raises(KeysExhausted):
        alice.take(FORTH, bits=128)
    with pytest.raises(KeysExhausted):
        alice.take(BACK, bits=256)
    with pytest.raises(UnknownKey):
        bob.take_ids(FORTH, [keys[0].key_id, uuid.uuid4()])
    with pytest.raises(UnknownKey):
        bob.take_ids(FORTH, [keys[0].key_id, keys[0].key_id])
    with pytest.raises(UnknownKey):
        bob.take_ids(FORTH, [])
    with pytest.raises(WrongSae, match="does not belong to client-0 > client-1"):
        bob.take_ids(OTHER, [keys[0].key_id])
    with pytest.raises(UnknownKey):
        alice.take_ids(FORTH, [keys[0].key_id])  # alice's copy is for the master
    with pytest.raises(KeysExhausted):
        bob.take(FORTH, bits=256)  # and bob's for the slave
    assert alice.take(FORTH, number=3, bits=256) == tuple(keys)
    assert bob.take_ids(FORTH, [key.key_id for key in keys]) == tuple(keys)


def test_a_replayed_key_is_refused_and_nothing_is_stored(
    pair: tuple[KeyStore, KeyStore], make_keys: Maker
) -> None:
    store, _ = pair
    keys = make_keys(2)
    store.add(keys, link=FORTH, role="master")
    store.take(FORTH, bits=256)
    fresh = make_keys(2)
    for replayed in (keys[0], keys[1]):  # one delivered, one not
        with pytest.raises(StoreError, match=f"offered twice.*{replayed.key_id}"):
            store.add([*fresh, replayed], link=BACK, role="master")
    with pytest.raises(StoreError, match="offered twice"):
        store.add([fresh[0], fresh[0]], link=BACK, role="master")
    assert store.count(BACK) == 0
    assert store.count(FORTH) == 1


def test_seeded_keys_stay_in_the_lab(tmp_path: Path, make_keys: Maker) -> None:
    path = tmp_path / "lab.keys"
    lab, seeded = KeyStore(path, allow_seeded=True), make_keys(2, seeded=True)
    lab.add(seeded, link=FORTH, role="master")
    outside = KeyStore(path)
    with pytest.raises(SeededKeysRefused, match="protect nothing outside the lab"):
        outside.take(FORTH, bits=256)
    with pytest.raises(SeededKeysRefused):
        outside.add(make_keys(1, seeded=True), link=FORTH, role="master")
    delivered = lab.take(FORTH, number=2, bits=256)
    assert all(key.seeded and key.simulated_channel for key in delivered)


def test_limits(tmp_path: Path, make_keys: Maker) -> None:
    store = KeyStore(tmp_path / "small.keys", capacity=3)
    store.add(make_keys(2), link=FORTH, role="master")
    with pytest.raises(StoreError, match="no room for 2 keys of client-0 > server"):
        store.add(make_keys(2), link=FORTH, role="master")
    store.add(make_keys(3), link=BACK, role="master")
    assert (store.count(FORTH), store.count(BACK)) == (2, 3)
    for number, bits in ((0, 256), (1, 0), (1, 12), (-1, 256)):
        with pytest.raises(ConfigError, match="impossible request"):
            store.take(FORTH, number=number, bits=bits)
    for bad in ({"master": "a b", "slave": "c"}, {"master": "a", "slave": "a"}, {"master": "", "slave": "c"}):
        with pytest.raises(ConfigError):
            Link(**bad)


def test_many_keys_at_once(pair: tuple[KeyStore, KeyStore], make_keys: Maker) -> None:
    _, bob = pair
    keys = make_keys(1203)
    bob.add(keys, link=FORTH, role="slave")
    assert bob.take_ids(FORTH, [key.key_id for key in reversed(keys)]) == tuple(reversed(keys))


def everything_on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def test_delivered_bytes_are_erased_from_the_file(tmp_path: Path, make_keys: Maker) -> None:
    store = KeyStore(tmp_path / "a.keys")
    small, large = make_keys(20), make_keys(2, bits=8 * 50_000)
    store.add([*small, *large], link=FORTH, role="master")
    before = everything_on_disk(tmp_path / "a.keys")
    assert all(key.material[:16] in before for key in (*small, *large))
    store.take(FORTH, number=7, bits=256)
    store.take(FORTH, number=1, bits=8 * 50_000)
    store.discard([small[7].key_id])
    after = everything_on_disk(tmp_path / "a.keys")
    gone, kept = (*small[:8], large[0]), (*small[8:], large[1])
    assert not any(key.material[:16] in after or key.material[-16:] in after for key in gone)
    assert all(key.material[:16] in after for key in kept)


def test_the_log_is_emptied_even_while_others_have_the_store_open(tmp_path: Path, make_keys: Maker) -> None:
    store, keys = KeyStore(tmp_path / "a.keys"), make_keys(3)
    store.add(keys, link=FORTH, role="master")
    with store._file.open():
        store.take(FORTH, bits=256)
        assert keys[0].material not in everything_on_disk(tmp_path / "a.keys")


def test_what_is_committed_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.keys"
    store = KeyStore(path)
    with store._file.open() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA secure_delete").fetchone() == (1,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_do_not_show_in_representations(pair: tuple[KeyStore, KeyStore], make_keys: Maker) -> None:
    (key,) = make_keys(1)
    assert key.material.hex() not in repr(key)
    assert str(key.material) not in repr(key)
    assert "alice" in repr(pair[0])


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" + path.read_bytes()[21:])


def damage_pages(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4096:] = os.urandom(len(raw) - 4096)
    path.write_bytes(bytes(raw))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 3 * 4096 + 100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_database(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE results (x)")


@pytest.mark.parametrize("spoil", [damage_header, damage_pages, cut_short, empty, another_database])
def test_a_corrupt_store_is_refused_on_one_line_and_left_alone(
    tmp_path: Path, make_keys: Maker, spoil: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.keys"
    store = KeyStore(path)
    store.add(make_keys(200), link=FORTH, role="master")
    spoil(path)
    before = path.read_bytes()
    for attempt in (lambda: KeyStore(path), lambda: KeyStore(path).take(FORTH, bits=256)):
        with pytest.raises(KeyStoreCorrupt) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "a.keys" in str(caught.value)
    assert path.read_bytes() == before


def test_damage_that_comes_later_is_an_error_too(tmp_path: Path, make_keys: Maker) -> None:
    path = tmp_path / "a.keys"
    store = KeyStore(path)
    store.add(make_keys(200), link=FORTH, role="master")
    damage_pages(path)
    with pytest.raises(KeyStoreCorrupt, match="damaged"):
        store.take(FORTH, number=100, bits=256)
    path.unlink()
    with pytest.raises(StoreError, match="is gone"):
        store.take(FORTH, bits=256)
    assert not path.exists()


def test_a_store_that_cannot_be_made_or_is_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot make the key store"):
        KeyStore(tmp_path / "nowhere" / "a.keys")
    path = tmp_path / "a.keys"
    KeyStore(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="of another version; got 7; expected 2"):
        KeyStore(path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_locked_store_says_so(tmp_path: Path, make_keys: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from qflsec.protocols import secret_file as module

    store, keys = KeyStore(tmp_path / "a.keys"), make_keys(1)
    store.add(keys, link=FORTH, role="master")
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    with store._file.open() as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="stayed locked"):
            store.take(FORTH, bits=256)
        holder.execute("ROLLBACK")
    assert store.take(FORTH, bits=256) == tuple(keys)


class StoreMachine(RuleBasedStateMachine):
    """Any sequence of requests against a plain model of what must come out."""

    ids: Bundle[uuid.UUID] = Bundle("ids")

    @initialize()
    def begin(self) -> None:
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        self.store = KeyStore(self.directory / "m.keys", capacity=12)
        self.fresh: dict[tuple[Link, str], list[QkdKey]] = {}
        self.known: dict[uuid.UUID, bytes] = {}
        self.delivered: list[uuid.UUID] = []
        self.counter = 0

    @rule(
        target=ids,
        n=st.integers(0, 5),
        bits=st.sampled_from([64, 256]),
        link=st.sampled_from([FORTH, BACK]),
        role=st.sampled_from(["master", "slave"]),
    )
    def add(self, n: int, bits: int, link: Link, role: str) -> object:
        keys = []
        for _ in range(n):
            self.counter += 1
            material = self.counter.to_bytes(bits // 8, "big")
            keys.append(
                QkdKey(
                    key_id=uuid.UUID(int=self.counter),
                    material=material,
                    simulated_channel=True,
                    seeded=False,
                )
            )
        stock = self.fresh.setdefault((link, role), [])
        if len(stock) + n > 12:
            with pytest.raises(StoreError):
                self.store.add(keys, link=link, role=role)  # type: ignore[arg-type]
            return multiple()
        self.store.add(keys, link=link, role=role)  # type: ignore[arg-type]
        stock.extend(keys)
        self.known.update((key.key_id, key.material) for key in keys)
        return multiple(*(key.key_id for key in keys))

    @rule(key_id=ids, link=st.sampled_from([FORTH, BACK]))
    def replay(self, key_id: uuid.UUID, link: Link) -> None:
        key = QkdKey(key_id=key_id, material=b"12345678", simulated_channel=True, seeded=False)
        with pytest.raises(StoreError):
            self.store.add([key], link=link, role="master")

    @rule(n=st.integers(1, 4), bits=st.sampled_from([64, 256]), link=st.sampled_from([FORTH, BACK]))
    def take(self, n: int, bits: int, link: Link) -> None:
        stock = self.fresh.setdefault((link, "master"), [])
        due = [key for key in stock if key.bits == bits][:n]
        if len(due) < n:
            with pytest.raises(KeysExhausted):
                self.store.take(link, number=n, bits=bits)
            return
        self.settle(self.store.take(link, number=n, bits=bits), due, stock)

    @rule(wanted=st.lists(ids, min_size=1, max_size=4), link=st.sampled_from([FORTH, BACK]))
    def take_ids(self, wanted: list[uuid.UUID], link: Link) -> None:
        slaves = {key.key_id: key for at in (FORTH, BACK) for key in self.fresh.get((at, "slave"), [])}
        stock = self.fresh.setdefault((link, "slave"), [])
        mine = {key.key_id for key in stock}
        if len(set(wanted)) < len(wanted) or any(i not in slaves for i in wanted):
            with pytest.raises(UnknownKey):
                self.store.take_ids(link, wanted)
        elif any(i not in mine for i in wanted):
            with pytest.raises(WrongSae):
                self.store.take_ids(link, wanted)
        else:
            self.settle(self.store.take_ids(link, wanted), [slaves[i] for i in wanted], stock)

    @rule(wanted=st.lists(ids, max_size=3, unique=True))
    def discard(self, wanted: list[uuid.UUID]) -> None:
        there = [key for stock in self.fresh.values() for key in stock if key.key_id in wanted]
        assert self.store.discard(wanted) == len(there)
        for stock in self.fresh.values():
            stock[:] = [key for key in stock if key.key_id not in wanted]

    @rule()
    def reopen(self) -> None:
        self.store = KeyStore(self.directory / "m.keys", capacity=12)

    def settle(self, got: tuple[QkdKey, ...], due: list[QkdKey], stock: list[QkdKey]) -> None:
        assert list(got) == due
        self.delivered += [key.key_id for key in got]
        for key in due:
            stock.remove(key)

    @invariant()
    def every_key_left_at_most_once(self) -> None:
        assert len(set(self.delivered)) == len(self.delivered)

    @invariant()
    def the_rest_is_there(self) -> None:
        for (link, role), stock in self.fresh.items():
            assert self.store.count(link, role=role) == len(stock)  # type: ignore[arg-type]

    def teardown(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
