"""AES-GCM links: what the network may do to a message, and that each of it is noticed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.accounting import LedgerContext
from qflsec.base import OsSecrets, ProtocolAbort
from qflsec.federation import Identity, PartyState, Setup, layer_from_config
from qflsec.protocols.links import MAX_MESSAGES, OVERHEAD_BYTES, AesGcmLink
from qflsec.protocols.links.link_end import GcmKey
from qflsec.threat import SERVER, Party, client

LINK = AesGcmLink()
CLIENTS = tuple(client(index) for index in range(3))


@dataclass
class Ends:
    """The states of three clients and a server after their set-up."""

    states: dict[Party, PartyState]

    def seal(
        self, sender: Party, receiver: Party, payload: bytes = b"payload", header: bytes = b"h"
    ) -> bytes:
        return LINK.seal(self.states[sender], receiver, payload, header)

    def unseal(self, receiver: Party, sender: Party, blob: bytes, header: bytes = b"h") -> bytes:
        return LINK.unseal(self.states[receiver], sender, blob, header)


def ends(session: bytes = b"session") -> Ends:
    parties = (*CLIENTS, SERVER)
    secrets = {p: OsSecrets() for p in parties}
    setup = Setup(session=session, clients=CLIENTS, server=SERVER, n_params=3, rounds=2, max_count=10)
    identities = Identity.of_all(parties, secrets)
    states = {p: LINK.open(setup, identities[p], secrets[p]) for p in parties}
    announced = {p: state.announce() for p, state in states.items()}
    for party, state in states.items():
        for author, blob in announced.items():
            if author != party:
                state.learn(author, blob)
    return Ends(states)


@settings(deadline=None, max_examples=30)
@given(payloads=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_messages_arrive_in_both_directions(payloads: list[bytes]) -> None:
    pair = ends()
    for payload in payloads:
        up = pair.seal(client(1), SERVER, payload)
        assert len(up) == len(payload) + OVERHEAD_BYTES
        assert pair.unseal(SERVER, client(1), up) == payload
        assert pair.unseal(client(1), SERVER, pair.seal(SERVER, client(1), payload)) == payload


def test_equal_payloads_look_different_every_time() -> None:
    pair = ends()
    blobs = {pair.seal(client(i), SERVER)[8:] for i in range(3) for _ in range(4)}
    blobs |= {pair.seal(SERVER, client(i))[8:] for i in range(3)}
    assert len(blobs) == 15


@pytest.mark.parametrize("position", range(OVERHEAD_BYTES + 7))
def test_every_altered_byte_is_noticed(position: int) -> None:
    pair = ends()
    blob = bytearray(pair.seal(client(0), SERVER))
    assert len(blob) == OVERHEAD_BYTES + 7
    blob[position] ^= 0x80
    with pytest.raises(ProtocolAbort, match="altered"):
        pair.unseal(SERVER, client(0), bytes(blob))


@pytest.mark.parametrize("blob", [b"", b"\0" * 8, b"\0" * 20, b"\0" * 40])
def test_made_up_messages_are_noticed(blob: bytes) -> None:
    with pytest.raises(ProtocolAbort, match="altered"):
        ends().unseal(SERVER, client(0), blob)


def test_another_header_is_noticed() -> None:
    pair = ends()
    with pytest.raises(ProtocolAbort, match="altered"):
        pair.unseal(SERVER, client(0), pair.seal(client(0), SERVER, header=b"update|0"), b"update|1")


def test_the_boundary_between_counter_and_header_is_bound() -> None:
    pair = ends()
    blob = pair.seal(client(0), SERVER, header=b"12345678rest")
    with pytest.raises(ProtocolAbort):
        pair.unseal(SERVER, client(0), blob[:8] + b"12345678" + blob[8:], b"rest")


def test_a_repeated_message_is_noticed() -> None:
    pair = ends()
    blob = pair.seal(client(0), SERVER)
    pair.unseal(SERVER, client(0), blob)
    with pytest.raises(ProtocolAbort, match=r"repeated or delayed, .*; got number 0; expected number 1"):
        pair.unseal(SERVER, client(0), blob)


def test_swapped_messages_are_noticed() -> None:
    pair = ends()
    pair.seal(client(0), SERVER, b"first")
    second = pair.seal(client(0), SERVER, b"second")
    with pytest.raises(
        ProtocolAbort, match=r"preceded by one that is missing, .*; got number 1; expected number 0"
    ):
        pair.unseal(SERVER, client(0), second)


def test_a_message_of_another_link_or_direction_is_noticed() -> None:
    pair = ends()
    up = pair.seal(client(0), SERVER)
    with pytest.raises(ProtocolAbort, match="altered"):
        pair.unseal(SERVER, client(1), up)
    with pytest.raises(ProtocolAbort, match="altered"):
        pair.unseal(client(0), SERVER, up)
    with pytest.raises(ProtocolAbort, match="altered"):
        ends().unseal(SERVER, client(0), up)


def test_a_failed_message_does_not_advance_the_counter() -> None:
    pair = ends()
    blob = pair.seal(client(0), SERVER)
    with pytest.raises(ProtocolAbort):
        pair.unseal(SERVER, client(0), blob[:-1] + bytes([blob[-1] ^ 1]))
    assert pair.unseal(SERVER, client(0), blob) == b"payload"


def test_no_nonce_repeats_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, bytes]] = []
    original = AESGCM.encrypt

    class Spy:
        def __init__(self, cipher: Any) -> None:
            self.cipher = cipher

        def encrypt(self, nonce: bytes, data: bytes, extra: bytes) -> bytes:
            used.append((id(self.cipher), nonce))
            return original(self.cipher, nonce, data, extra)

    pair = ends()
    for state in pair.states.values():
        for key in vars(state)["_outgoing"].values():
            monkeypatch.setattr(key, "_cipher", Spy(vars(key)["_cipher"]))
    for _ in range(5):
        for party in CLIENTS:
            pair.seal(party, SERVER)
            pair.seal(SERVER, party)
    assert len(used) == 30
    assert len(set(used)) == 30
    assert len({key for key, _ in used}) == 6
    assert all(len(nonce) == 12 for _, nonce in used)


def test_directions_and_links_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from qflsec.protocols.links import aes_gcm

    keys: list[bytes] = []

    def noted(key: bytes) -> GcmKey:
        keys.append(key)
        return GcmKey(key)

    monkeypatch.setattr(aes_gcm, "GcmKey", noted)
    ends()
    # 4 parties with 3 peers each hold 2 directions: 24 derivations of 12 distinct keys
    assert len(keys) == 24
    assert len(set(keys)) == 12
    assert {len(key) for key in keys} == {32}


def test_a_key_is_not_used_for_ever() -> None:
    pair = ends()
    vars(pair.states[client(0)])["_sent"][SERVER] = MAX_MESSAGES - 1
    pair.seal(client(0), SERVER)
    with pytest.raises(ProtocolAbort, match="has sealed 4294967296 messages"):
        pair.seal(client(0), SERVER)


def test_strangers_have_no_key() -> None:
    pair = ends()
    with pytest.raises(ProtocolAbort, match="no link key with client:9"):
        pair.seal(client(0), client(9))
    with pytest.raises(ProtocolAbort, match="no link key with client:9"):
        pair.unseal(SERVER, client(9), b"")


def test_names_of_keys() -> None:
    assert LINK.key_name(client(3), SERVER) == LINK.key_name(SERVER, client(3)) == "link:client:3"
    assert LINK.key_name(client(3), client(1)) == "link:client:1-client:3"
    states = ends().states
    assert states[SERVER].key_names() == {"link:client:0", "link:client:1", "link:client:2"}
    assert "link:client:1" not in states[client(0)].key_names()
    assert "link:client:0" in states[client(0)].key_names()


def test_it_is_a_public_value() -> None:
    assert pickle.loads(pickle.dumps(LINK)) == LINK
    assert hash(LINK) == hash(layer_from_config(LINK.to_config()))


@pytest.fixture
def context_of(ledger_context: Callable[..., LedgerContext]) -> Callable[..., LedgerContext]:
    """The network hears sealed messages of three clients."""
    return partial(ledger_context, server=False, wire=True, counts=(8,) * 3, rounds=2, smallest_k=0)


def test_ledger_against_the_wire(context_of: Callable[..., LedgerContext]) -> None:
    secrecy, integrity = LINK.ledger(context_of())
    assert (secrecy.guarantee, integrity.guarantee) == ("secrecy", "integrity")
    assert {secrecy.assumption, integrity.assumption} == {"computational"}
    assert "sizes" in secrecy.released
    assert "server" in secrecy.note
    for row in LINK.ledger(context_of(secrets=True)):
        assert row.assumption == "none"
        assert row.note.startswith("seeded keys protect nothing")


@pytest.mark.parametrize("wire", [False, True])
def test_links_hide_nothing_from_the_server(context_of: Callable[..., LedgerContext], wire: bool) -> None:
    (row,) = LINK.ledger(context_of(server=True, wire=wire))
    assert row.guarantee == "not covered"
    assert row.assumption == "none"


def test_no_row_for_whoever_is_not_on_the_network(context_of: Callable[..., LedgerContext]) -> None:
    assert LINK.ledger(context_of(wire=False)) == ()
