"""The network, the onion of layers, and closure, on messages made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ProtocolAbort
from qflsec.threat import (
    PUBLIC,
    SERVER,
    Envelope,
    LaneFacts,
    MessageLayer,
    Network,
    Origin,
    Party,
    Slot,
    Tapped,
    Trained,
    Transcript,
    client,
    coalition,
)
from qflsec.threat.codec import decode, encode
from qflsec.threat.message import payload_bytes

NONE: frozenset[str] = frozenset()


class XorLink:
    """A link for tests: XOR with a key byte and a checksum byte."""

    form = "sealed"

    def key_name(self, sender: Party, receiver: Party) -> str:
        other = sender if receiver == SERVER else receiver
        return f"link:{other}"

    def seal(self, lane: int, sender: Party, receiver: Party, payload: bytes, header: bytes) -> bytes:
        body = bytes(b ^ 0x5A for b in payload)
        return body + bytes([(sum(payload) + sum(header)) % 256])

    def open(self, lane: int, sender: Party, receiver: Party, blob: bytes, header: bytes) -> bytes:
        payload = bytes(b ^ 0x5A for b in blob[:-1])
        if blob[-1] != (sum(payload) + sum(header)) % 256:
            raise ProtocolAbort("a message was altered")
        return payload


def facts(**changes: object) -> LaneFacts:
    known = LaneFacts(counts=(4.0, 2.0, 2.0))
    known.versions.add("0", Origin(round=-1))
    parts = tuple(Trained(client=i, base="0", weight=w) for i, w in enumerate(known.counts))
    known.versions.add("1", Origin(round=0, bases={"0": 1.0}, trained=parts, **changes))  # type: ignore[arg-type]
    return known


def transcript(**changes: object) -> Transcript:
    record = Transcript(keys={client(0): frozenset({"link:client:0"}), SERVER: frozenset({"link:client:0"})})
    record.facts[0] = facts(**changes)
    return record


def send(
    network: Network, value: torch.Tensor, slot: Slot, *, kind: str = "update", round_index: int = 0
) -> object:
    layer = MessageLayer(form="plain", value=value[None, None], keys=[[NONE]])
    delivery = network.send(
        Envelope(layers=(layer,)),
        kind=kind,  # type: ignore[arg-type]
        round_index=round_index,
        lanes=[0],
        slots=[slot],
        present=[[True]],
        members=[[frozenset({0})]],
        versions=[[str(round_index)]],
    )
    return delivery.at(0, 0)


def test_a_link_is_crossed_unchanged_and_hides_from_the_wire() -> None:
    record = transcript()
    network = Network(record, links=[XorLink(), XorLink()])
    value = torch.tensor([1.5, -2.25, 3.0])
    received = send(network, value, Slot(client(0), SERVER))
    assert isinstance(received, torch.Tensor)
    assert torch.equal(received, value)
    wire = record.seen_by(coalition(wire=True), 0).items
    assert [item.form for item in wire] == ["sealed"]
    assert isinstance(wire[0].value, bytes)
    server = record.seen_by(coalition(server=True), 0).items
    assert server[0].form == "plain"
    assert server[0].weight == 3.0
    assert torch.equal(server[0].vector, value[:-1])
    both = record.seen_by(coalition(wire=True, n=1), 0).items
    assert both[0].form == "plain"
    assert network.bytes_sent[0] == payload_bytes(wire[0].value)


def test_a_corrupted_sender_reads_what_it_made_though_it_cannot_open_the_seal() -> None:
    """Whoever encrypts for somebody else knows what it encrypted; whoever hands on a sealed message does not."""
    layers = (
        MessageLayer(form="plain", value=torch.tensor([[[3.0, 5.0, 2.0]]]), keys=[[NONE]]),
        MessageLayer(form="ciphertext", value=[[b"sealed"]], keys=[[frozenset({"another's key"})]]),
    )
    for origin, readable in ((0, True), (1, False)):
        record = transcript()
        Network(record).send(
            Envelope(layers=layers),
            kind="update",
            round_index=0,
            lanes=[0],
            slots=[Slot(client(0), SERVER)],
            present=[[True]],
            members=[[frozenset({0})]],
            versions=[["0"]],
            origin=origin,
        )
        own = record.seen_by(coalition(n=1), 0)
        assert [item.vector.tolist() for item in own.readable("update")] == [[3.0, 5.0]] * readable
        assert "ciphertext" in {item.form for item in own.items}, "it holds the closed form as well"
        assert not record.seen_by(coalition(server=True), 0).readable("update")


@pytest.mark.parametrize("position", [0, 3, -1])
def test_an_altered_message_aborts_its_run(position: int) -> None:
    def flip(tapped: Tapped) -> bytes:
        assert isinstance(tapped.payload, bytes)
        blob = bytearray(tapped.payload)
        blob[position] ^= 1
        return bytes(blob)

    network = Network(transcript(), links=[XorLink()], taps={0: flip})
    assert send(network, torch.ones(3), Slot(client(0), SERVER)) is None
    assert {lane: abort.told for lane, abort in network.aborts.items()} == {
        0: "a message was altered; who caused it cannot be known"
    }


def test_a_dropped_message_does_not_arrive_and_a_public_one_cannot_be_dropped() -> None:
    network = Network(transcript(), taps={0: lambda _: None})
    assert send(network, torch.ones(3), Slot(client(0), SERVER)) is None
    assert not network.aborts
    assert send(network, torch.ones(3), Slot(SERVER, PUBLIC), kind="final-model", round_index=1) is not None


def test_values_in_a_view_share_no_memory_with_the_transcript() -> None:
    record = transcript()
    value = torch.ones(3)
    send(Network(record), value, Slot(client(0), SERVER))
    item = record.seen_by(coalition(server=True), 0).items[0]
    item.vector.zero_()
    assert torch.equal(record.seen_by(coalition(server=True), 0).items[0].vector, torch.ones(2))


def test_values_in_a_view_share_no_memory_with_what_the_coalition_cannot_open() -> None:
    """Items of one message are copied together: what lies in the same memory must be theirs as well."""
    canary = 1234.5
    values = torch.full((1, 3, 4), canary)
    values[0, 0] = torch.tensor([1.0, 2.0, 3.0, 9.0])
    sealed = MessageLayer(form="ciphertext", value=[[b"a", b"b", b"c"]], keys=[[frozenset({"k"})] * 3])
    record = transcript()
    Network(record).send(
        Envelope(layers=(MessageLayer(form="plain", value=values, keys=[[NONE] * 3]), sealed)),
        kind="update",
        round_index=0,
        lanes=[0],
        slots=[Slot(client(index), SERVER) for index in range(3)],
        present=[[True] * 3],
        members=[[frozenset({index}) for index in range(3)]],
        versions=[["0"] * 3],
        reports=("loss",),
    )
    own = record.seen_by(coalition(n=1), 0).readable("update")
    assert [(item.vector.tolist(), item.weight, item.reports) for item in own] == [
        ([1.0, 2.0], 3.0, {"loss": 9.0})
    ]
    held = torch.empty(0).set_(own[0].vector.untyped_storage())
    assert canary not in held.tolist()


def test_steps_need_both_models_and_residuals_every_other_update() -> None:
    record = Transcript()
    record.facts[0] = facts(rate=0.5)
    network = Network(record)
    updates = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    weights = torch.tensor([4.0, 2.0, 2.0])
    mean = (updates * weights[:, None]).sum(0) / weights.sum()
    before = torch.tensor([1.0, 1.0])
    for i in range(3):
        send(network, before, Slot(SERVER, client(i)), kind="model", round_index=0)
        send(network, torch.cat([updates[i], weights[i : i + 1]]), Slot(client(i), SERVER))
        send(network, before + 0.5 * mean, Slot(SERVER, client(i)), kind="model", round_index=1)
    said, record = record.messages, Transcript(facts=record.facts)
    for m in said:
        members = [[frozenset({m.slots[0].sender.index})]] if m.kind == "update" else m.members
        record.record(replace(m, members=members))
    one = record.seen_by(coalition(n=1), 0).readable("aggregate", round_index=0)
    assert torch.allclose(one[0].vector, mean)
    assert {(item.about, item.k) for item in one} == {(frozenset({0, 1, 2}), 2), (frozenset({1, 2}), 2)}
    two = record.seen_by(coalition(n=2), 0).readable("update", about=2)
    assert torch.allclose(two[0].vector, updates[2], atol=1e-6)
    assert two[0].k == 1
    record.facts[0] = facts(rate=0.5, linear=False)
    bent = record.seen_by(coalition(n=2), 0)
    assert bent.readable("step", round_index=0)
    assert not bent.readable("update", about=2)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), max_size=12),
    kind=st.sampled_from(["t", "u4", "u8", "b"]),
)
def test_codec_round_trip(values: list[float], kind: str) -> None:
    array = np.array(values, dtype=np.float32)
    if kind == "t":
        back = decode(encode(torch.from_numpy(array)))
        assert isinstance(back, torch.Tensor)
        assert torch.equal(back, torch.from_numpy(array))
    elif kind == "b":
        assert decode(encode(array.tobytes())) == array.tobytes()
    else:
        whole = np.arange(len(values)).astype(kind)
        back = decode(encode(whole))
        assert isinstance(back, np.ndarray)
        assert back.dtype == whole.dtype
        assert np.array_equal(back, whole)


@pytest.mark.parametrize("blob", [b"", b"\x00\x00", b"\x09\x01\x00\x00\x00abcd", b"\x00\x02\x00\x00\x00abcd"])
def test_bytes_that_are_no_payload_are_refused(blob: bytes) -> None:
    with pytest.raises(ProtocolAbort):
        decode(blob)
