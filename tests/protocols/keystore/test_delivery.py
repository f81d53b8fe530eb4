"""From a BB84 block to two stores, and keys from stores and ideal links at both ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort, SeededSecrets, StoreError
from qflsec.protocols.bb84 import DetectorModel, FibreChannel, QuantumConfig, run_quantum
from qflsec.protocols.bb84.optimise import plan_single_photon
from qflsec.protocols.bb84.postprocess import run
from qflsec.protocols.keystore import (
    Epsilons,
    IdealLinks,
    KeyLink,
    KeyStore,
    QkdKey,
    SeededKeysRefused,
    StoreProvider,
    cut,
    sae_name,
    stock,
    store_path,
)
from qflsec.threat import SERVER, client

Maker = Callable[..., list[QkdKey]]
FORTH = KeyLink(master="client-0", slave="server")
BACK = KeyLink(master="server", slave="client-0")
BLOCK = uuid.UUID(int=7)
GOOD = Epsilons(eps_sec=1e-10, eps_cor=1e-15, eps_auth=1e-33)


def bits(n: int, seed: int = 0) -> Any:
    raw = SeededSecrets(seed, "bits").draw(-(-n // 8))
    return np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=n)


def stocked(store: KeyStore, side: str, block: uuid.UUID = BLOCK, n: int = 1000) -> int:
    return stock(
        store, bits(n), side=side, alice="client-0", bob="server", block=block, epsilons=GOOD, key_bits=64,
        simulated_channel=True, seeded=False,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_bb84_run_fills_two_stores_with_equal_keys(pair: tuple[KeyStore, KeyStore]) -> None:
    channel, detector = FibreChannel(misalignment=0.01), DetectorModel(efficiency=1.0, dark_count=1e-7)
    plan = plan_single_photon(pulses=60_000, channel=channel, detector=detector)
    quantum = run_quantum(
        QuantumConfig(
            n_pulses=plan.pulses, basis_probability=plan.basis_probability, source=plan.source,
            channel=channel, detector=detector,
        ),
        seed=3,
    )  # fmt: skip
    result = run(quantum.alice, quantum.bob, plan.config, OsSecrets(), channel=quantum.channel)
    assert result.abort_reason is None
    for store, side, own in zip(pair, ("alice", "bob"), (result.alice.key, result.bob.key), strict=True):
        n = stock(
            store, own, side=side, alice="client-0", bob="server", block=BLOCK, epsilons=result.epsilons, key_bits=256,
            simulated_channel=result.simulated, seeded=result.seeded,
        )  # type: ignore[arg-type]  # fmt: skip
        assert n == result.key_length // 256 > 10
    alice, bob = pair
    drawn = alice.take(FORTH, number=5, bits=256)
    assert bob.take_ids(FORTH, [key.key_id for key in drawn]) == drawn
    drawn = bob.take(BACK, number=5, bits=256)
    assert alice.take_ids(BACK, [key.key_id for key in drawn]) == drawn
    assert all(key.simulated_channel and not key.seeded for key in drawn)


def test_each_key_serves_one_direction(pair: tuple[KeyStore, KeyStore]) -> None:
    alice, bob = pair
    assert stocked(alice, "alice") == stocked(bob, "bob") == 15
    assert (alice.count(FORTH), alice.count(BACK, role="slave")) == (8, 7)
    assert (bob.count(FORTH, role="slave"), bob.count(BACK)) == (8, 7)
    forth = alice.take(FORTH, number=8, bits=64)
    back = bob.take(BACK, number=7, bits=64)
    assert not {key.material for key in forth} & {key.material for key in back}


def test_a_block_is_stored_once(pair: tuple[KeyStore, KeyStore]) -> None:
    stocked(pair[0], "alice")
    with pytest.raises(StoreError, match="offered twice"):
        stocked(pair[0], "alice")
    assert stocked(pair[0], "alice", uuid.UUID(int=8)) == 15


@given(n=st.integers(0, 700), key_bits=st.sampled_from([8, 64, 128, 256]))
@settings(max_examples=30, deadline=None)
def test_a_cut_is_the_block_without_its_rest(n: int, key_bits: int) -> None:
    keys = cut(bits(n), block=BLOCK, epsilons=GOOD, key_bits=key_bits, simulated_channel=True, seeded=True)
    assert len(keys) == n // key_bits
    assert b"".join(key.material for key in keys) == np.packbits(bits(len(keys) * key_bits)).tobytes()
    assert len({key.key_id for key in keys}) == len(keys)
    assert all(key.seeded for key in keys)


def test_impossible_lengths() -> None:
    for bad in (0, 12, -8):
        with pytest.raises(ConfigError, match="key_bits"):
            cut(bits(64), block=BLOCK, epsilons=GOOD, key_bits=bad, simulated_channel=True, seeded=False)
    with pytest.raises(ConfigError, match="key_bits"):
        IdealLinks([SERVER, client(0)], OsSecrets(), key_bits=7, budget_bits=100)
    assert IdealLinks([SERVER, client(0)], OsSecrets(), key_bits=8, budget_bits=100)
    with pytest.raises(ConfigError, match="an empty key"):
        QkdKey(key_id=BLOCK, material=b"", simulated_channel=True, seeded=False)


def test_names() -> None:
    assert (sae_name(SERVER), sae_name(client(3))) == ("server", "client-3")
    assert store_path("somewhere", client(3)).name == "client-3.keys"


PARTIES = (client(0), client(1), SERVER)


def test_ideal_links_serve_any_pair_in_both_directions_once() -> None:
    links = IdealLinks(PARTIES, OsSecrets(), key_bits=128, budget_bits=512)
    ends = {party: links.end(party) for party in PARTIES}
    seen = set()
    for a in PARTIES:
        for b in PARTIES:
            if a == b:
                continue
            (key,) = ends[a].draw(b, 100)
            assert ends[b].fetch(a, [key.key_id]) == (key,)
            assert key.simulated_channel
            assert not key.seeded
            seen.add(key.material)
            assert ends[a].bits_left(b) == 384
            with pytest.raises(ProtocolAbort, match="unknown or was used before"):
                ends[b].fetch(a, [key.key_id])
    assert len(seen) == 6


def test_an_end_is_handed_out_once_and_reads_only_its_own_keys() -> None:
    links = IdealLinks(PARTIES, OsSecrets(), key_bits=128, budget_bits=512)
    ends = {party: links.end(party) for party in PARTIES}
    with pytest.raises(ProtocolAbort, match="has been taken"):
        links.end(SERVER)
    with pytest.raises(ProtocolAbort, match="has been taken"):
        links.end(client(9))
    (key,) = ends[client(0)].draw(SERVER, 8)
    for end, peer in ((ends[client(1)], client(0)), (ends[client(0)], SERVER), (ends[SERVER], client(1))):
        with pytest.raises(ProtocolAbort, match="unknown"):
            end.fetch(peer, [key.key_id])
    assert ends[SERVER].fetch(client(0), [key.key_id]) == (key,)


def test_ideal_links_run_out_with_needed_and_left_and_spend_nothing() -> None:
    links = IdealLinks(PARTIES, SeededSecrets(1), key_bits=128, budget_bits=400)
    end = links.end(client(0))
    (key, _) = end.draw(SERVER, 200)
    assert key.seeded
    with pytest.raises(
        ProtocolAbort, match=r"from client:0 to server .* got 128 bits left; expected 129 bits"
    ):
        end.draw(SERVER, 129)
    assert end.bits_left(SERVER) == 128
    assert end.bits_left(client(1)) == 384


def providers(
    directory: Path, key_bits: int = 64, *, allow_seeded: bool = False
) -> tuple[StoreProvider, ...]:
    return tuple(
        StoreProvider.in_directory(directory, party, key_bits=key_bits, allow_seeded=allow_seeded)
        for party in (client(0), SERVER)
    )


def test_two_stores_serve_two_ends(tmp_path: Path) -> None:
    stocked(KeyStore(store_path(tmp_path, client(0))), "alice")
    stocked(KeyStore(store_path(tmp_path, SERVER)), "bob")
    alice, bob = providers(tmp_path)
    keys = alice.draw(SERVER, 130)
    assert len(keys) == 3
    assert bob.fetch(client(0), [key.key_id for key in keys]) == keys
    (back,) = bob.draw(client(0), 1)
    assert alice.fetch(SERVER, [back.key_id]) == (back,)
    assert alice.bits_left(SERVER) == 5 * 64
    with pytest.raises(ProtocolAbort, match="got 320 bits left; expected 321 bits"):
        alice.draw(SERVER, 321)
    for end, peer, used in ((bob, client(0), keys[0]), (bob, client(1), keys[1]), (alice, SERVER, back)):
        with pytest.raises(ProtocolAbort, match="names a key that cannot be used"):
            end.fetch(peer, [used.key_id])
    assert alice.bits_left(SERVER) == 320


def test_what_was_spent_stays_spent_after_a_restart(tmp_path: Path) -> None:
    stocked(KeyStore(store_path(tmp_path, client(0))), "alice")
    stocked(KeyStore(store_path(tmp_path, SERVER)), "bob")
    first = providers(tmp_path)[0].draw(SERVER, 64)
    second = providers(tmp_path)[0].draw(SERVER, 64)
    assert first[0].material != second[0].material


def test_a_missing_store_and_seeded_keys(tmp_path: Path, make_keys: Maker) -> None:
    with pytest.raises(StoreError, match="no key store for client:0"):
        providers(tmp_path)
    for party in (client(0), SERVER):
        KeyStore(store_path(tmp_path, party), allow_seeded=True).add(
            make_keys(1, seeded=True), link=FORTH, role="master"
        )
    with pytest.raises(SeededKeysRefused):
        providers(tmp_path, 256)[0].draw(SERVER, 8)
    assert providers(tmp_path, 256, allow_seeded=True)[0].draw(SERVER, 8)[0].seeded
