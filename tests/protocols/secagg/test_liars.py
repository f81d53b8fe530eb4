"""Clients that lie about shares: named by what they signed, and nobody in their place; a round is lost, not the run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from qflsec.base import LostRound, ProtocolAbort
from qflsec.base.framing import pack_entries, unpack_entries
from qflsec.protocols.secagg import Client
from qflsec.protocols.secagg.messages import HEAD_BYTES, Kind, Mail, body_of
from qflsec.protocols.secagg.rounds import client as client_module
from qflsec.protocols.secagg.rounds.records import (
    Sharing,
    pack_reveal,
    seal_box,
    share_digest,
    split_parcel,
    unpack_reveal,
)
from qflsec.threat import SERVER, client

Make = Callable[..., Any]
Shares = dict[tuple[int, int], bytes]
AGREEMENTS = ("x25519", "ml-kem-768", "hybrid", "bb84")


def total(vectors: Mapping[int, np.ndarray[Any, Any]], who: Any) -> list[int]:
    chosen = [vectors[i] for i in who]
    result: list[int] = np.sum(chosen, axis=0, dtype=chosen[0].dtype).tolist()
    return result


def altered(share: bytes) -> bytes:
    return share[:-1] + bytes([share[-1] ^ 1])


def opens(run: Any, twists: Mapping[int, Callable[[Shares], Shares]]) -> Callable[[str, int, bytes], bytes]:
    """Helpers that sign other openings than they were asked for."""

    def lie(name: str, i: int, message: bytes) -> bytes:
        if name != "reveal" or i not in twists:
            return message
        body = pack_reveal(twists[i](unpack_reveal(body_of(message, 64))))
        mail = Mail(session=b"s" * 16, signer=run.identities[client(i)], signature_bytes=64)
        return mail.pack(Kind.REVEAL, 0, SERVER, body)

    return lie


def one_altered(shares: Shares) -> Shares:
    return {**shares, max(shares): altered(shares[max(shares)])}


TWISTS: dict[str, Callable[[Shares], Shares]] = {
    "one altered": one_altered,
    "no element of the field": lambda shares: {**shares, min(shares): b"\xff" * 33},
    "two swapped": lambda shares: dict(zip(shares, reversed(shares.values()), strict=True)),
    "one missing": lambda shares: dict(list(shares.items())[1:]),
    "one too many": lambda shares: {**shares, (7, 7): bytes(33)},
}


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("twist", TWISTS)
def test_a_helper_that_lies_is_named_and_the_sum_follows(
    aggregation: Make, twist: str, agreement: str
) -> None:
    """Four honest helpers at a threshold of four: nothing is lost, and the owner of the share is not blamed."""
    for liar in (0, 2, 4):
        run = aggregation(6, agreement=agreement)
        vectors = run.vectors()
        lies = opens(run, {liar: TWISTS[twist]})
        found = run.run(vectors=vectors, threshold=4, drops={5: "mask"}, tamper=lies)
        assert found.tolist() == total(vectors, range(5))
        assert {i: abort.caused_by for i, abort in run.server.rejected.items()} == {liar: f"client:{liar}"}


@pytest.mark.parametrize(
    ("n", "t", "liars", "drops", "caused_by"),
    [
        (6, 4, (0, 1), {}, None),
        (6, 4, (0, 1, 2), {}, "client:0 and client:1 and client:2"),
        (6, 4, (2,), {0: "reveal", 1: "reveal"}, "client:2"),
        (6, 4, (2,), {0: "reveal", 1: "reveal", 3: "reveal"}, None),
        (3, 3, (1,), {}, "client:1"),
    ],
    ids=["as many as needed", "three liars", "a liar and two gone", "too few anyway", "no room"],
)
def test_as_many_honest_helpers_as_the_threshold_give_the_sum(
    aggregation: Make, n: int, t: int, liars: tuple[int, ...], drops: dict[int, str], caused_by: str | None
) -> None:
    """Wrong shares are erasures: t right ones are enough, however many are wrong; with fewer the round is lost."""
    run = aggregation(n)
    vectors = run.vectors()
    lies = opens(run, dict.fromkeys(liars, one_altered))
    if n - len(drops) - len(liars) >= t:
        found = run.run(vectors=vectors, threshold=t, drops=drops, tamper=lies)
        assert found.tolist() == total(vectors, range(n))
        assert set(run.server.rejected) == set(liars)
        return
    with pytest.raises(LostRound, match="too few clients") as lost:
        run.run(vectors=vectors, threshold=t, drops=drops, tamper=lies)
    assert lost.value.caused_by == caused_by
    again = run.run(round_index=1, vectors=vectors, threshold=t)
    assert again.tolist() == total(vectors, range(n)), "the next round rests on nothing of the lost one"


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_an_owner_that_seals_another_share_than_it_is_bound_to_is_named(
    aggregation: Make, agreement: str
) -> None:
    """Whoever opens the box sees it at once, before it masks anything: later no helper can be blamed for it."""

    class Dealer(Client):
        def _parcel(self, state: Any, peer: int, token: bytes, shares: Mapping[int, bytes]) -> bytes:
            if (self._me, peer) != (2, 0):
                return super()._parcel(state, peer, token, shares)
            digests = [share_digest(label, peer, share) for label, share in shares.items()]
            about = self._box_about(state, self._me, peer, digests)
            wrong = b"".join(altered(share) for share in shares.values())
            body = token + seal_box(state.to_peers[peer], wrong, about)
            if self._scheme.signs_parcels:
                body = self._mail.pack(Kind.PARCEL, state.index, client(peer), body)
            return b"".join((*digests, body))

    run = aggregation(4, agreement=agreement, client_class=Dealer)
    with pytest.raises(ProtocolAbort, match="client:2 gave client:0 another share") as abort:
        run.run()
    assert abort.value.caused_by == "client:2"


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_an_owner_whose_shares_do_not_open_to_its_secret_is_named(
    aggregation: Make, agreement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shares fit their digests, so that it is no helper's doing: the owner is named, and the round is lost."""
    honest, drawn = client_module.share_secret, itertools.count()

    def inconsistent(secret: bytes, **how: Any) -> dict[int, bytes]:
        shares = honest(secret, **how)
        return (
            {**shares, 1: altered(shares[1])} if next(drawn) == 0 else shares
        )  # the first secret of client 0

    monkeypatch.setattr(client_module, "share_secret", inconsistent)
    run = aggregation(4, agreement=agreement)
    with pytest.raises(
        LostRound, match="client:0 gave in round 0 do not open to what it is bound to"
    ) as lost:
        run.run()
    assert lost.value.caused_by == "client:0"
    assert not run.server.rejected, "no helper is blamed"


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_every_share_has_a_digest_and_every_altered_digest_is_refused(
    aggregation: Make, agreement: str
) -> None:
    run = aggregation(4, agreement=agreement)
    run.run()
    labels = {i: run.server._scheme.labels(i, range(4)) for i in range(4)}
    sharings = {i: Sharing.from_bytes(body_of(run.heard["share", i], 64)) for i in range(4)}
    digests = [d for s in sharings.values() for holder in range(4) for d in s.digests(holder)]
    assert len(set(digests)) == len(digests) == sum(4 * len(own) for own in labels.values())
    opened = {i: unpack_reveal(body_of(run.heard["reveal", i], 64)) for i in range(4)}
    for helper, shares in opened.items():
        for (owner, label), share in shares.items():
            place = labels[owner].index(label)
            assert share_digest(label, helper, share) == sharings[owner].digests(helper)[place]

    other = aggregation(4, agreement=agreement)
    delivery = other.run(until="mask")[1]
    place = delivery.index(
        split_parcel(Sharing.from_bytes(body_of(other.heard["share", 0], 64)).parcels[1], 1)[0][0]
    )
    forged = delivery[:place] + bytes([delivery[place] ^ 1]) + delivery[place + 1 :]
    with pytest.raises(ProtocolAbort, match="not authentic"):
        other.clients[1].mask(forged, other.vectors()[1])


def test_what_is_signed_and_wrong_has_an_author_and_what_is_not_signed_has_none(aggregation: Make) -> None:
    run = aggregation(4)

    def meddle(name: str, i: int, message: bytes) -> bytes:
        if (name, i) == ("share", 0):  # a signature of client 0 under a body that no client sends
            mail = Mail(session=b"s" * 16, signer=run.identities[client(0)], signature_bytes=64)
            return mail.pack(Kind.PARCELS, 0, SERVER, b"\xff\xff")
        if (name, i) == ("share", 1):  # anybody can flip a bit on the way
            return altered(message)
        return message

    with pytest.raises(LostRound, match="too few clients are left after the PARCELS stage") as lost:
        run.run(tamper=meddle)
    assert {i: abort.caused_by for i, abort in run.server.rejected.items()} == {0: "client:0", 1: None}
    assert lost.value.caused_by == "client:0", "three would have been enough"


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("cut_off", ["to share", "to mask"])
def test_whoever_carries_a_message_frames_nobody(aggregation: Make, cut_off: str, agreement: str) -> None:
    """Client 3 is missing in what client 0 gets of keys or of parcels: nobody that kept to the protocol is named."""
    run = aggregation(4, agreement=agreement)

    def meddle(name: str, i: int, message: bytes) -> bytes:
        if (name, i) != (cut_off, 0):
            return message
        entries = unpack_entries(body_of(message))
        del entries[3]
        return message[:HEAD_BYTES] + pack_entries(entries)

    named: list[str | None] = []
    try:
        run.run(threshold=3, tamper=meddle)
    except ProtocolAbort as abort:
        named.append(abort.caused_by)
    named += [abort.caused_by for abort in run.server.rejected.values()]
    assert named, "the control: it is noticed"
    assert set(named) == {None}
