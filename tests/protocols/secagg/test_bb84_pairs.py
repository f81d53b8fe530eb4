"""Masks under keys of quantum links between clients: whose keys serve, how many are spent, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch

from qflsec.base import ConfigError, OsSecrets, ProtocolAbort
from qflsec.federation import Stack, run_batch
from qflsec.federation.run_spec import RunSpec
from qflsec.protocols.keystore import (
    Epsilons,
    KeyBlock,
    KeyLink,
    KeyProvider,
    KeyStore,
    QkdKey,
    fresh_key_id,
    sae_name,
    store_path,
)
from qflsec.protocols.secagg import SecAgg, scheme
from qflsec.protocols.secagg.messages import body_of
from qflsec.protocols.secagg.rounds.records import Sharing, split_parcel
from qflsec.threat import SERVER, Party, client, coalition

Make = Callable[..., Any]
Maker = Callable[..., Any]


def test_every_direction_of_every_pair_takes_256_bits_in_a_round(aggregation: Make) -> None:
    run = aggregation(5, agreement="bb84")
    for round_index in range(3):
        run.run(round_index=round_index)
        drawn = [run.clients[i].qkd_key_bits for i in range(5)]
        assert drawn == [256 * 4 * (round_index + 1)] * 5
    assert run.quantum.waiting() == 0, "what one end drew the other fetched"


def test_keys_for_those_who_dropped_out_are_spent_all_the_same(aggregation: Make) -> None:
    run = aggregation(4, agreement="bb84")
    run.run(drops={3: "share"}, threshold=3)
    assert [run.clients[i].qkd_key_bits for i in range(4)] == [768, 768, 768, 0]
    assert run.quantum.waiting() == 3, "nobody fetches what was drawn for the dropped client"


def test_a_link_without_key_aborts_by_name(aggregation: Make) -> None:
    run = aggregation(3, agreement="bb84", key_bits=512)
    for round_index in range(2):
        run.run(round_index=round_index)
    with pytest.raises(ProtocolAbort, match=r"link from client:0 to client:1 has too little key"):
        run.run(round_index=2)


def test_the_server_hears_names_of_keys_and_no_key(
    aggregation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, nor what a mask is expanded from, is in any message until its shares are opened."""
    from qflsec.protocols.secagg.rounds import client as module

    used: list[bytes] = []
    original = module.expand_key

    def noted(secret: bytes, *use: Any) -> bytes:
        derived = original(secret, *use)
        used.extend((secret, derived))
        return derived

    monkeypatch.setattr(module, "expand_key", noted)
    run = aggregation(4, agreement="bb84")
    run.run(drops={1: "mask"})
    said = b"".join(run.heard.values())
    assert len(used) > 60
    assert not [secret for secret in used if secret in said]
    parcels = Sharing.from_bytes(body_of(run.heard["share", 0], 64)).parcels
    names = {
        peer: split_parcel(parcel, 4)[1][:16] for peer, parcel in parcels.items()
    }  # one's own and three pairs
    assert len({UUID(bytes=name) for name in names.values()}) == 3


@pytest.mark.parametrize("field", ["name", "box"])
def test_a_parcel_under_another_key_is_refused(aggregation: Make, field: str) -> None:
    """A server that hands over the parcel for another client, or another key's name, is noticed."""
    run = aggregation(4, agreement="bb84")
    messages = run.run(until="mask")
    from qflsec.base.framing import pack_entries, unpack_entries
    from qflsec.protocols.secagg.messages import Kind

    mine, other = (unpack_entries(body_of(messages[i])) for i in (0, 1))
    (digests, body), name = (
        split_parcel(mine[2], 2),
        split_parcel(other[2], 2)[1][:16],
    )  # its own and that with 3
    parcel = other[2] if field == "box" else b"".join((*digests, name, body[16:]))
    forged = run.server._mail.relay(Kind.DELIVERY, 0, pack_entries({**mine, 2: parcel}))
    with pytest.raises(ProtocolAbort, match="unknown or was used before"):
        run.clients[0].mask(forged, run.vectors()[0])


class _Relayed(KeyProvider):
    """Links whose keys the server handed on: it knows them."""

    relays = frozenset({SERVER})

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        raise AssertionError

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        raise AssertionError

    def bits_left(self, peer: Party) -> int:
        return 1 << 20


def test_keys_that_the_server_relays_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"third party relays.*server.*direct links"):
        scheme("bb84").start(OsSecrets(), _Relayed())


def test_no_links_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs quantum links between the clients"):
        scheme("bb84").start(OsSecrets(), None)


def test_keys_shared_with_the_server_are_refused() -> None:
    from qflsec.protocols.keystore import IdealLinks

    links = IdealLinks((client(0), SERVER), OsSecrets(), key_bits=256, budget_bits=2560)
    pairing = scheme("bb84").start(OsSecrets(), links.end(client(0)))
    with pytest.raises(ProtocolAbort, match="shared with server cannot mask"):
        pairing.send(SERVER, b"")
    with pytest.raises(ProtocolAbort, match="too little key"):
        pairing.send(client(1), b"")  # links with the server give the clients no key of their own


def test_keys_of_another_length_are_refused() -> None:
    from qflsec.protocols.keystore import IdealLinks

    links = IdealLinks((client(0), client(1)), OsSecrets(), key_bits=128, budget_bits=2560)
    with pytest.raises(ConfigError, match="one key of a link at a time"):
        scheme("bb84").start(OsSecrets(), links.end(client(0))).send(client(1), b"")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"agreement": "bb84", "key_source": "server"}, "links between two clients, without the server"),
        ({"agreement": "bb84", "key_source": "stores"}, "needs a directory"),
        ({"agreement": "bb84", "eps_sec": 0.0}, "is a probability"),
        ({"agreement": "hybrid", "key_source": "bb84"}, "has no use here"),
        ({"agreement": "dh"}, "unknown key agreement"),
    ],
)
def test_a_layer_refuses(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SecAgg(**change)


def trained(pipeline: Any, layer: SecAgg) -> Any:
    result = run_batch(pipeline, Stack(name="s", client=(layer,)), [RunSpec(seed=4)])[0]
    assert result.outcome == "completed", result.outcome
    return result


def test_a_training_run_equals_that_under_x25519(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    one, other = trained(pipeline, SecAgg(agreement="bb84")), trained(pipeline, SecAgg())
    # sums are exact, so the agreement changes nothing but what the clients' secrets round
    assert torch.allclose(one.params, other.params, rtol=0.0, atol=2 * 4 * 2.0**-16 / 4)
    assert one.costs["qkd_key_bits"] == 2 * 4 * 3 * 256
    assert "qkd_key_bits" not in other.costs
    for threat in (coalition(server=True), coalition(wire=True)):
        (item,) = one.view(threat).readable("aggregate", round_index=0)
        assert item.k == 4
        assert one.view(threat).readable("update") == ()


def test_the_ledger_states_the_epsilons_of_the_keys(make_pipeline: Maker) -> None:
    pipeline = make_pipeline(n_clients=4, rounds=2)
    result = trained(pipeline, SecAgg(agreement="bb84", eps_sec=1e-9, eps_cor=1e-12, eps_auth=1e-20))
    (row,) = [r for r in result.ledger(coalition(server=True)) if r.guarantee == "secrecy"]
    assert "1.2e-08" in row.mechanism  # 6 links, 2 rounds
    assert "2 rounds and 6 links" in row.mechanism
    assert "simulated" in row.note


def fill_stores(directory: Path, epsilons: Epsilons) -> None:
    """Two keys of one block for each direction of each pair of three clients; the server has no store."""
    secrets = OsSecrets()
    stores = {i: KeyStore(store_path(directory, client(i))) for i in range(3)}
    for one, two in itertools.permutations(range(3), 2):
        link = KeyLink(master=sae_name(client(one)), slave=sae_name(client(two)))
        block = KeyBlock(name=fresh_key_id(secrets), epsilons=epsilons, n_keys=2)
        keys = [
            QkdKey(
                key_id=fresh_key_id(secrets),
                material=secrets.draw(32),
                simulated_channel=True,
                seeded=False,
                block=block,
            )
            for _ in range(2)
        ]
        stores[one].add(keys, link=link, role="master")
        stores[two].add(keys, link=link, role="slave")


def test_stores_of_clients(make_pipeline: Maker, tmp_path: Path) -> None:
    """Stores that were filled beforehand, two copies of each key."""
    fill_stores(tmp_path, Epsilons(eps_sec=1e-11, eps_cor=1e-16, eps_auth=1e-33))
    layer = SecAgg(agreement="bb84", key_source="stores", key_directory=str(tmp_path))
    trained(make_pipeline(n_clients=3, rounds=2), layer)
    again = run_batch(
        make_pipeline(n_clients=3, rounds=2), Stack(name="s", client=(layer,)), [RunSpec(seed=4)]
    )[0]
    assert "too little key" in again.outcome, "every key is used once"


def test_a_pair_uses_no_more_blocks_than_its_epsilons_are_stated_for(
    make_pipeline: Maker, tmp_path: Path
) -> None:
    """A pair has a block for each direction: two of them are within two rounds' epsilons, and not within one's."""
    fill_stores(tmp_path, Epsilons(eps_sec=8e-11, eps_cor=1e-16, eps_auth=1e-33))
    layer = SecAgg(agreement="bb84", key_source="stores", key_directory=str(tmp_path))
    stack = Stack(name="s", client=(layer,))
    once = run_batch(make_pipeline(n_clients=3, rounds=1), stack, [RunSpec(seed=3)])[0]
    assert "2 blocks of key add up to too much; got 1.6e-10; expected at most 1.0e-10" in once.outcome
    worse = SecAgg(agreement="bb84", key_source="stores", key_directory=str(tmp_path), eps_sec=1e-11)
    weak = run_batch(
        make_pipeline(n_clients=3, rounds=2), Stack(name="s", client=(worse,)), [RunSpec(seed=3)]
    )
    assert "too little good key" in weak[0].outcome

    """Three runs of BB84, two million pulses each, before the first round."""
    result = trained(make_pipeline(n_clients=3, rounds=1), SecAgg(agreement="bb84", key_source="bb84"))
    assert result.costs["qkd_key_bits"] == 3 * 2 * 256
    assert np.isfinite(result.params.numpy()).all()
