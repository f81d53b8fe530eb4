"""Every bit of every message at 36 parameters: flipped in transit, or by a server that signs what it altered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.messages import Kind, Mail, body_of
from qflsec.threat import SERVER, client

Make = Callable[..., Any]
STAGES = ("advertise", "share", "mask", "agree", "reveal")
N_PARAMS = 36


def flips(message: bytes, start: int = 0) -> Iterator[bytes]:
    for bit in range(8 * start, 8 * len(message)):
        altered = bytearray(message)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def waiting(server: Any, stage: str) -> None:
    """The server as it was before it heard the messages of a stage."""
    now, names = server._record.now, ("start", *TAKEN.values())
    passed = names[: 1 + list(TAKEN).index(stage)]
    for found in (now.begun, now.passed):
        found.clear()
        found.update({name: {None} for name in passed})
    now.kinds.update(dict.fromkeys(passed))


TAKEN = {
    "advertise": "collect_keys",
    "share": "collect_parcels",
    "mask": "collect_vectors",
    "agree": "collect_statements",
    "reveal": "open",
}


def snapshot(state: Any) -> Any:
    """A client's round as it stands; its key pairs never change."""
    if state is None:
        return None
    kept = copy.copy(state)
    for name, value in vars(state).items():
        if isinstance(value, dict):
            setattr(kept, name, dict(value))
    return kept


@pytest.mark.parametrize("agreement", ["x25519", "bb84", pytest.param("ml-kem-768", marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", STAGES)
def test_every_bit_to_a_client(aggregation: Make, stage: str, agreement: str) -> None:
    """Also of what the server only hands on: adverts, parcels and statements of the others, and their wrapping."""
    run = aggregation(3, size=N_PARAMS + 1, agreement=agreement)
    message = run.run(threshold=2, until=stage)[1]
    party = run.clients[1]
    before, record = snapshot(party._round), copy.deepcopy(party._record)
    keys = None if run.quantum is None else run.quantum.snapshot()
    passed = tried = 0
    for altered in flips(message):
        party._round, party.__dict__["_stage_record"] = snapshot(before), copy.deepcopy(record)
        if keys is not None:
            run.quantum.restore(keys)  # a failed try must not use up the key that the next one needs
        tried += 1
        try:
            run.client_turn(stage, 1, altered, round_index=0, vectors=run.vectors(), models={})
            passed += 1
        except ProtocolAbort:
            pass
    assert passed == 0
    assert tried == 8 * len(message) > 600
    party._round, party.__dict__["_stage_record"] = before, record
    if keys is not None:
        run.quantum.restore(keys)
    run.client_turn(
        stage, 1, message, round_index=0, vectors=run.vectors(), models={}
    )  # unaltered, it is accepted


@pytest.mark.parametrize("agreement", ["x25519", pytest.param("bb84", marks=pytest.mark.slow)])
@pytest.mark.parametrize("stage", STAGES)
def test_every_bit_to_the_server(aggregation: Make, stage: str, agreement: str) -> None:
    run = aggregation(3, size=N_PARAMS + 1, agreement=agreement)
    run.run(threshold=2)
    take = getattr(run.server, TAKEN[stage])
    message = run.heard[stage, 1]
    tried = 0
    for altered in flips(message):
        waiting(run.server, stage)
        run.server.rejected = {}
        with pytest.raises(ProtocolAbort, match="too few"):
            take({1: altered})
        assert set(run.server.rejected) == {1}
        tried += 1
    assert tried == 8 * len(message) > 1000
    waiting(run.server, stage)
    take({i: run.heard[stage, i] for i in range(3)})
    assert 1 not in {i for i in run.server.rejected if i != 1}


@pytest.mark.parametrize(("stage", "says_what"), [("advertise", "START"), ("agree", "SURVIVORS")])
def test_every_bit_of_what_a_server_says(aggregation: Make, stage: str, says_what: str) -> None:
    """The server signs an altered body anew: what is then still acceptable differs from what the others were told,
    and nobody opens a share.
    """
    run = aggregation(3, size=N_PARAMS + 1)
    message = run.run(threshold=2, until=stage)[1]
    kind = Kind[says_what]
    mail = Mail(session=b"s" * 16, signer=run.identities[SERVER], signature_bytes=64)
    party = run.clients[1]
    before, record = snapshot(party._round), copy.deepcopy(party._record)
    accepted = []
    for altered in flips(body_of(message, 64)):
        party._round, party.__dict__["_stage_record"] = snapshot(before), copy.deepcopy(record)
        forged = mail.pack(kind, 0, client(1), altered)
        try:
            run.client_turn(stage, 1, forged, round_index=0, vectors=run.vectors(), models={})
            accepted.append(altered)
        except ProtocolAbort:
            pass
    for altered in accepted:
        again = aggregation(3, size=N_PARAMS + 1)
        mail = Mail(session=b"s" * 16, signer=again.identities[SERVER], signature_bytes=64)
        forged = mail.pack(kind, 0, client(1), altered)

        def lie(name: str, i: int, message: bytes, forged: bytes = forged) -> bytes:
            return forged if (name, i) == (f"to {stage}", 1) else message

        with pytest.raises(ProtocolAbort, match=r"told different things|too few"):
            again.run(threshold=2, tamper=lie)
        assert not [name for name, _ in again.heard if name == "reveal"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_length(aggregation: Make, stage: str) -> None:
    """Cut short or longer, a message is refused, and nothing but an abort is raised."""
    run = aggregation(3, size=N_PARAMS + 1)
    message = run.run(threshold=2, until=stage)[1]
    party = run.clients[1]
    before = snapshot(party._round)
    for altered in [*(message[:size] for size in range(len(message))), message + b"\0"]:
        party._round, party._last_round = snapshot(before), -1
        with pytest.raises(ProtocolAbort):
            run.client_turn(stage, 1, altered, round_index=0, vectors=run.vectors(), models={})
