"""What secrets, masks, boxes and signatures of secure aggregation are bound to, each told from a fault of its own."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qflsec.base import OsSecrets, ProtocolAbort
from qflsec.base.framing import pack_entries, unpack_entries
from qflsec.protocols.secagg.messages import EVERYBODY, Kind, Mail, body_of
from qflsec.protocols.secagg.rounds import client as client_module
from qflsec.threat import SERVER, client

Make = Callable[..., Any]
AGREEMENTS = ("x25519", "ml-kem-768", "hybrid", "bb84")


class Drawing:
    """A source that remembers what it gave."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def draw(self, n_bytes: int) -> bytes:
        self.drawn.append(OsSecrets().draw(n_bytes))
        return self.drawn[-1]


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_a_clients_own_mask_has_a_secret_of_its_own(aggregation: Make, agreement: str) -> None:
    """Double masking rests on it: the key of a client that drops out is opened, and its own mask must stay on.

    The secret is drawn for nothing else: it is no other draw, and follows from none of what shares can open.
    """
    run = aggregation(4, agreement=agreement)
    for party in run.clients.values():
        party._secrets = Drawing()
    run.run(until="mask")
    for party in run.clients.values():
        state, drawn = party._round, party._secrets.drawn
        assert drawn.count(state.self_secret) == 1, "drawn as it is, once, and derived from nothing"
        assert state.self_secret not in {state.pairing.root, *state.seeds.values(), *state.to_peers.values()}


def delivered(run: Any, messages: Any, to: int, peers: tuple[int, ...]) -> bytes:
    """The parcels of some of the clients for one."""
    entries = unpack_entries(body_of(messages[to]))
    mail = Mail(session=b"s" * 16, signer=run.identities[SERVER], signature_bytes=64)
    return mail.relay(Kind.DELIVERY, 0, pack_entries({i: entries[i] for i in peers}))


@pytest.mark.parametrize("agreement", ["x25519", "ml-kem-768"])
def test_masks_are_bound_to_who_shares_in_the_round(aggregation: Make, agreement: str) -> None:
    """Masks that were the same for every set of sharers would cancel between sets.

    Then the sum for all four peers and that for two of them would be the sum of those for three: exactly, in every word.
    """
    run = aggregation(5, size=64, agreement=agreement)
    zero = np.zeros(64, dtype=np.uint32)
    messages = run.run(until="mask", threshold=3)

    def masked(*peers: int) -> np.ndarray[Any, Any]:
        one = copy.deepcopy(run.clients[0])
        sealed = body_of(one.mask(delivered(run, messages, 0, peers), zero), 64)
        return np.frombuffer(sealed, dtype="<u4")

    together, apart = masked(1, 2, 3, 4) + masked(1, 2), masked(1, 2, 3) + masked(1, 2, 4)
    assert np.count_nonzero(together == apart) <= 1  # one word of 64 is the same by chance once in 6.7e7
    assert np.array_equal(masked(1, 2, 3), masked(1, 2, 3)), "the same set gives the same masks"


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_a_box_is_bound_to_its_place(
    aggregation: Make, agreement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two boxes of two rounds are authenticated for the same place: not another pair's, direction's or round's."""
    places: list[bytes] = []
    seal = client_module.seal_box

    def noted(key: bytes, plain: bytes, about: bytes) -> bytes:
        places.append(about)
        return seal(key, plain, about)

    monkeypatch.setattr(client_module, "seal_box", noted)
    run = aggregation(4, agreement=agreement)
    run.run()
    run.run(round_index=1)
    assert len(set(places)) == len(places) == 2 * 4 * 3
    for round_index, sender, receiver in itertools.product(range(2), range(4), range(4)):
        named = [
            about for about in places if about.startswith(f"{round_index}|{sender}|{receiver}|".encode())
        ]
        assert len(named) == (sender != receiver)
    key, about = b"k" * 32, places[0]
    box = seal(key, b"shares", about)
    assert client_module.open_box(key, box, about) == b"shares"
    with pytest.raises(ProtocolAbort, match="not authentic"):
        client_module.open_box(key, box, places[1])


@pytest.mark.parametrize("kind", list(Kind))
def test_a_signature_is_bound_to_its_receiver(aggregation: Make, kind: Kind) -> None:
    run = aggregation(3)
    mails = {
        party: Mail(session=b"s" * 16, signer=run.identities[party], signature_bytes=64)
        for party in (SERVER, client(0), client(1))
    }
    signed = mails[SERVER].pack(kind, 0, client(0), b"a body")
    assert mails[client(0)].open(kind, 0, SERVER, signed) == b"a body"
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        mails[client(1)].open(kind, 0, SERVER, signed)
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        mails[client(1)].open(kind, 0, SERVER, signed, receiver=EVERYBODY)


@pytest.mark.parametrize("stage", ["advertise", "agree"])
def test_what_the_server_signs_for_one_client_is_refused_by_another(aggregation: Make, stage: str) -> None:
    """Both would do what it says: it differs in nothing but the receiver."""
    run = aggregation(4)
    messages = run.run(until=stage)
    assert body_of(messages[0], 64) == body_of(messages[1], 64)
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        run.client_turn(stage, 1, messages[0], round_index=0, vectors=run.vectors(), models={})
