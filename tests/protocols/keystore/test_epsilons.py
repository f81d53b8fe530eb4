"""The epsilons of a block of key: what they mean for its keys, and how they travel with them."""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qflsec.base import ConfigError, ProtocolAbort, StoreError
from qflsec.protocols.keystore import (
    Epsilons,
    Etsi014Provider,
    KeyAccount,
    KeyBlock,
    KeyBudget,
    KeyLink,
    KeysExhausted,
    KeyStore,
    KmeError,
    QkdKey,
    StoreProvider,
    WeakKeys,
    cut,
    stock,
)
from qflsec.protocols.keystore.etsi014_messages import container, parse_container
from qflsec.threat import SERVER, client

Maker = Callable[..., list[QkdKey]]
FORTH = KeyLink(master="client-0", slave="server")
BACK = KeyLink(master="server", slave="client-0")
GOOD = Epsilons(eps_sec=1e-10, eps_cor=1e-15, eps_auth=1e-33)
WEAK = Epsilons(eps_sec=0.3, eps_cor=0.3, eps_auth=1e-33)


def keys_of(block: int, epsilons: Epsilons | None, n: int = 4) -> tuple[QkdKey, ...]:
    bits = np.random.default_rng(block).integers(0, 2, 256 * n, dtype=np.uint8)
    return cut(
        bits,
        block=uuid.UUID(int=block),
        epsilons=epsilons,
        key_bits=256,
        simulated_channel=True,
        seeded=False,
    )


# What they mean, computed from distributions and from nothing in the package


def leaky_block(eps: float, keys: int, bits: int) -> dict[tuple[Any, ...], float]:
    """A distillation that hands the whole block to Eve with probability eps: of (keys, what Eve has)."""
    values = list(itertools.product(range(2**bits), repeat=keys))
    joint = {(value, None): (1 - eps) / len(values) for value in values}
    return joint | {(value, value): eps / len(values) for value in values}


def distance(joint: dict[tuple[Any, ...], float], used: tuple[int, ...], bits: int) -> float:
    """Trace distance of (the used keys, what Eve has) from (uniform keys, what Eve has)."""
    real: dict[tuple[Any, ...], float] = {}
    eve: dict[Any, float] = {}
    for (value, known), p in joint.items():
        place = (tuple(value[i] for i in used), known)
        real[place] = real.get(place, 0.0) + p
        eve[known] = eve.get(known, 0.0) + p
    size = 2 ** (bits * len(used))
    return 0.5 * sum(
        abs(real.get((value, known), 0.0) - p / size)
        for known, p in eve.items()
        for value in itertools.product(range(2**bits), repeat=len(used))
    )


def test_a_block_counts_once_for_all_its_keys_and_whole_for_each_of_them() -> None:
    eps, bits = 0.2, 3
    joint = leaky_block(eps, keys=3, bits=bits)
    for used in ((0,), (2,), (0, 1), (0, 1, 2)):
        found = distance(joint, used, bits)
        assert found == pytest.approx(eps * (1 - 2.0 ** (-bits * len(used))), rel=1e-12)
        assert eps / 3 < found <= eps, "a third of the block is not a third of its epsilon"


def test_blocks_add_up() -> None:
    """Two leaky blocks: more than either alone, at most the sum."""
    one, two, bits = leaky_block(0.2, 1, 3), leaky_block(0.1, 1, 3), 3
    both = {
        ((*a, *b), (known_a, known_b)): p * q
        for (a, known_a), p in one.items()
        for (b, known_b), q in two.items()
    }
    found = distance(both, (0, 1), bits)
    assert distance(one, (0,), bits) < found <= 0.2 + 0.1
    # the account's sum is a bound on it
    account = KeyAccount(KeyBudget(block=Epsilons(eps_sec=0.2, eps_cor=0.0, eps_auth=0.0), blocks=2))
    for block, eps in ((1, 0.2), (2, 0.1)):
        account.admit(keys_of(block, Epsilons(eps_sec=eps, eps_cor=0.0, eps_auth=0.0)))
    assert found <= account.total == pytest.approx(0.3)


# The account


def test_a_block_is_counted_once_however_many_of_its_keys_are_used() -> None:
    account = KeyAccount(KeyBudget(block=GOOD, blocks=2))
    first, second, third = (keys_of(block, GOOD) for block in (1, 2, 3))
    for key in first:
        account.admit([key])
    assert account.total == GOOD.total
    account.admit([*first, *second])
    assert account.total == pytest.approx(2 * GOOD.total, rel=1e-12)
    with pytest.raises(WeakKeys, match="3 blocks of key add up to too much"):
        account.admit([*second, third[0]])
    assert account.total == pytest.approx(2 * GOOD.total, rel=1e-12)


@pytest.mark.parametrize(
    "epsilons",
    [WEAK, None, replace(GOOD, eps_sec=1.1e-10), replace(GOOD, eps_cor=1e-14), replace(GOOD, eps_auth=1e-20)],
)
def test_one_weak_key_is_refused_and_counts_for_nothing(epsilons: Epsilons | None) -> None:
    account = KeyAccount(KeyBudget(block=GOOD, blocks=5))
    with pytest.raises(WeakKeys):
        account.admit([*keys_of(1, GOOD), keys_of(2, epsilons)[0]])
    assert account.total == 0.0


def test_a_block_cannot_claim_two_things() -> None:
    account = KeyAccount(KeyBudget(block=GOOD, blocks=5))
    better = replace(GOOD, eps_sec=1e-12)
    account.admit(keys_of(1, GOOD)[:1])
    with pytest.raises(WeakKeys):
        account.admit(keys_of(1, better)[1:])


def test_impossible_epsilons() -> None:
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=r"probability|no number"):
            replace(GOOD, eps_cor=bad)
    with pytest.raises(ConfigError, match="without keys"):
        KeyBlock(name=uuid.UUID(int=1), epsilons=GOOD, n_keys=0)


# On their way


def test_keys_carry_their_block_through_stores_and_over_the_interface(tmp_path: Path) -> None:
    """The block of the issue: eps_sec = eps_cor = .3, four keys; both ends learn it with every key."""
    stores = KeyStore(tmp_path / "a.keys"), KeyStore(tmp_path / "b.keys")
    bits = np.random.default_rng(1).integers(0, 2, 1100, dtype=np.uint8)
    block = uuid.UUID(int=5)
    for store, side in zip(stores, ("alice", "bob"), strict=True):
        stock(
            store, bits, side=side, alice="client-0", bob="server", block=block, epsilons=WEAK, key_bits=256,
            simulated_channel=True, seeded=False,
        )  # type: ignore[arg-type]  # fmt: skip
    drawn = stores[0].take(FORTH, number=2, bits=256)
    assert {key.block for key in drawn} == {KeyBlock(name=block, epsilons=WEAK, n_keys=4)}
    assert stores[1].take_ids(FORTH, [key.key_id for key in drawn]) == drawn
    assert stores[1].take(BACK, bits=256)[0].block == drawn[0].block
    told = container(drawn)
    assert told["keys"][0]["key_extension"]["block"] == {
        "name": str(block), "n_keys": 4, "eps_sec": 0.3, "eps_cor": 0.3, "eps_auth": 1e-33,
    }  # fmt: skip
    assert parse_container(told) == drawn


def test_what_is_not_told_is_unknown_and_stays_so(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "a.keys")
    store.add(keys_of(1, None), link=FORTH, role="master")
    (key,) = store.take(FORTH, bits=256)
    assert key.block is None
    (again,) = parse_container(container([key]))
    assert again.block is None
    assert "block" not in container([key])["keys"][0]["key_extension"]


TOLD = {"name": str(uuid.UUID(int=1)), "n_keys": 4, "eps_sec": 0.1, "eps_cor": 0.1, "eps_auth": 0.0}


@pytest.mark.parametrize(
    "told",
    [
        1,
        [],
        {},
        {"eps_sec": 0.1},
        *(
            {**TOLD, name: value}
            for name, value in (
                ("eps_sec", 2),
                ("eps_cor", "0.1"),
                ("n_keys", 0),
                ("n_keys", 1.5),
                ("name", "x"),
            )
        ),
    ],
)
def test_a_block_that_is_told_badly_is_no_key(told: Any) -> None:
    sent = container(keys_of(1, GOOD)[:1])
    sent["keys"][0]["key_extension"]["block"] = TOLD
    assert parse_container(sent)[0].block is not None
    sent["keys"][0]["key_extension"]["block"] = told
    with pytest.raises(KmeError, match="malformed keys"):
        parse_container(sent)


# In the store


def test_a_store_gives_out_only_keys_of_good_blocks_and_spends_no_others(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "a.keys")
    weak, good, unknown = (keys_of(i, epsilons) for i, epsilons in ((1, WEAK), (2, GOOD), (3, None)))
    for keys in (weak, unknown, good):
        store.add(keys, link=FORTH, role="master")
    assert store.bits_left(FORTH) == 12 * 256
    assert store.bits_left(FORTH, within=GOOD) == 4 * 256
    assert store.take(FORTH, number=4, bits=256, within=GOOD) == good
    with pytest.raises(KeysExhausted):
        store.take(FORTH, bits=256, within=GOOD)
    assert store.take(FORTH, number=4, bits=256, within=WEAK) == weak
    assert store.take(FORTH, number=4, bits=256) == unknown


@pytest.mark.parametrize("name", ["eps_sec", "eps_cor", "eps_auth"])
def test_each_epsilon_counts_and_is_asked_for(tmp_path: Path, name: str) -> None:
    worse = replace(GOOD, **{name: 1e-3})
    assert worse.total - GOOD.total == pytest.approx(1e-3, rel=1e-6)
    store = KeyStore(tmp_path / "a.keys")
    store.add(keys_of(1, worse), link=FORTH, role="master")
    assert store.bits_left(FORTH, within=GOOD) == 0
    with pytest.raises(KeysExhausted):
        store.take(FORTH, bits=256, within=GOOD)
    assert store.bits_left(FORTH, within=worse) == 4 * 256


def test_a_refused_key_stays_where_it_is(tmp_path: Path) -> None:
    """Both directions of a link share one account, and the receiver refuses as the sender does."""
    store = KeyStore(tmp_path / "a.keys")
    forth, back = keys_of(1, GOOD), keys_of(2, GOOD)
    store.add(forth, link=FORTH, role="master")
    store.add(back, link=BACK, role="slave")
    weak = keys_of(3, WEAK)
    store.add(weak, link=BACK, role="slave")
    provider = StoreProvider(store, client(0), key_bits=256, budget=KeyBudget(block=GOOD, blocks=1))
    with pytest.raises(ProtocolAbort, match=r"cannot be used.*too weak"):
        provider.fetch(SERVER, [weak[0].key_id])
    assert provider.draw(SERVER, 512) == forth[:2]
    with pytest.raises(ProtocolAbort, match="2 blocks of key add up to too much"):
        provider.fetch(SERVER, [back[0].key_id])
    assert store.count(BACK, role="slave") == 8
    assert provider.bits_left(SERVER) == 512


def test_a_block_is_known_under_one_claim(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "a.keys")
    store.add(keys_of(1, GOOD)[:2], link=FORTH, role="master")
    with pytest.raises(StoreError, match=r"known to the key store a\.keys with other epsilons"):
        store.add(keys_of(1, WEAK)[2:], link=FORTH, role="master")
    store.add(keys_of(1, GOOD)[2:], link=FORTH, role="master")
    assert store.count(FORTH) == 4


VERSION_1 = """
PRAGMA application_id = 0x514B4459;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
CREATE TABLE keys (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id TEXT NOT NULL UNIQUE,
    master TEXT NOT NULL,
    slave TEXT NOT NULL,
    role TEXT NOT NULL,
    bits INTEGER NOT NULL,
    simulated_channel INTEGER NOT NULL,
    seeded INTEGER NOT NULL,
    material BLOB
);
"""


def test_a_store_that_forgot_its_epsilons_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.keys") as db:
        db.executescript(VERSION_1)
    with pytest.raises(
        StoreError, match="got 1; expected 2; stores of version 1 forgot the epsilons of their keys"
    ):
        KeyStore(tmp_path / "old.keys")


def test_an_application_of_another_entity_refuses_too(site: Any) -> None:
    site.fill([*keys_of(1, GOOD), *keys_of(2, WEAK), *keys_of(3, None)])
    alice = Etsi014Provider(site.at("A", "client-0"), client(0), budget=KeyBudget(block=GOOD, blocks=3))
    assert alice.draw(SERVER, 1024)[3].block == KeyBlock(name=uuid.UUID(int=1), epsilons=GOOD, n_keys=4)
    with pytest.raises(ProtocolAbort, match="too weak"):
        alice.draw(SERVER, 1024)
    with pytest.raises(ProtocolAbort, match="says nothing of its epsilons"):
        alice.draw(SERVER, 1024)
    assert (
        Etsi014Provider(site.at("B", "server"), SERVER)
        .fetch(client(0), [keys_of(3, None)[0].key_id])[0]
        .block
        is None
    )
