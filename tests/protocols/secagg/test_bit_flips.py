"""Every bit of every message at 36 parameters: flipped in transit, or by a server that signs what it altered."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qflsec.base import ProtocolAbort
from qflsec.protocols.secagg.messages import Kind, Mail, body_of, pack_entries, unpack_entries
from qflsec.threat import SERVER, client

Make = Callable[..., Any]
STAGES = ("advertise", "share", "mask", "agree", "reveal")
N_PARAMS = 36


def flips(message: bytes, start: int = 0) -> Iterator[bytes]:
    for bit in range(8 * start, 8 * len(message)):
        altered = bytearray(message)
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)


def snapshot(state: Any) -> Any:
    """A client's round as it stands; its key pairs never change."""
    if state is None:
        return None
    kept = copy.copy(state)
    for name, value in vars(state).items():
        if isinstance(value, dict):
            setattr(kept, name, dict(value))
    return kept


@pytest.mark.parametrize("stage", STAGES)
def test_every_bit_to_a_client(aggregation: Make, stage: str) -> None:
    run = aggregation(3, size=N_PARAMS + 1)
    message = run.run(threshold=2, until=stage)[1]
    party = run.clients[1]
    before, last = snapshot(party._round), party._last_round
    passed = tried = 0
    for altered in flips(message):
        party._round, party._last_round = snapshot(before), last
        tried += 1
        try:
            run.client_turn(stage, 1, altered, round_index=0, vectors=run.vectors(), models={})
            passed += 1
        except ProtocolAbort:
            pass
    assert passed == 0
    assert tried == 8 * len(message) > 600
    party._round, party._last_round = before, last
    run.client_turn(
        stage, 1, message, round_index=0, vectors=run.vectors(), models={}
    )  # unaltered, it is accepted


@pytest.mark.parametrize("stage", STAGES)
def test_every_bit_to_the_server(aggregation: Make, stage: str) -> None:
    run = aggregation(3, size=N_PARAMS + 1)
    run.run(threshold=2)
    waiting = (
        Kind.PARCELS
        if stage == "share"
        else Kind[{"mask": "MASKED", "agree": "STATEMENT"}.get(stage, stage.upper())]
    )
    take = {
        "advertise": run.server.collect_keys,
        "share": run.server.collect_parcels,
        "mask": run.server.collect_vectors,
        "agree": run.server.collect_statements,
        "reveal": run.server.open,
    }[stage]
    message = run.heard[stage, 1]
    tried = 0
    for altered in flips(message):
        run.server._round.stage = waiting
        run.server.rejected = {}
        with pytest.raises(ProtocolAbort, match="too few"):
            take({1: altered})
        assert set(run.server.rejected) == {1}
        tried += 1
    assert tried == 8 * len(message) > 1000
    run.server._round.stage = waiting
    take({i: run.heard[stage, i] for i in range(3)})
    assert 1 not in {i for i in run.server.rejected if i != 1}


@pytest.mark.parametrize(
    ("stage", "kind"), [("share", Kind.ROSTER), ("mask", Kind.DELIVERY), ("reveal", Kind.STATEMENTS)]
)
def test_every_bit_of_what_a_server_relays(aggregation: Make, stage: str, kind: Kind) -> None:
    """The server signs the whole anew: the other client's own signature inside must notice."""
    run = aggregation(3, size=N_PARAMS + 1)
    messages = run.run(threshold=2, until=stage)
    party = run.clients[1]
    before = snapshot(party._round)
    mail = Mail(session=b"s" * 16, signer=run.identities[SERVER], signature_bytes=64)
    entries = unpack_entries(body_of(messages[1], 64))
    passed = 0
    for altered in flips(entries[0]):
        party._round = snapshot(before)
        forged = mail.pack(kind, 0, client(1), pack_entries({**entries, 0: altered}))
        try:
            run.client_turn(stage, 1, forged, round_index=0, vectors=run.vectors(), models={})
            passed += 1
        except ProtocolAbort:
            pass
    assert passed == 0


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
