from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from qflsec.protocols.bb84.transcript import Message, PublicChannel, Transcript, TranscriptError

messages = st.lists(
    st.builds(
        lambda sender, kind, payload: Message(sender=sender, kind=kind, payload=payload),
        st.sampled_from(["alice", "bob"]),
        st.text(max_size=6),
        st.binary(max_size=12),
    ),
    max_size=5,
).map(tuple)


@settings(deadline=None, max_examples=100)
@given(said=messages, other=messages)
def test_bytes_are_read_back_and_differ_where_transcripts_differ(
    said: tuple[Message, ...], other: tuple[Message, ...]
) -> None:
    a, b = Transcript(said), Transcript(other)
    assert Transcript.from_bytes(a.to_bytes()) == a
    assert (a.to_bytes() == b.to_bytes()) == (said == other)


def test_moving_a_border_between_fields_changes_the_bytes() -> None:
    a = Transcript((Message(sender="alice", kind="ab", payload=b"c"),))
    b = Transcript((Message(sender="alice", kind="a", payload=b"bc"),))
    assert a.to_bytes() != b.to_bytes()


@settings(deadline=None, max_examples=60)
@given(said=messages, data=st.data())
def test_a_transcript_cut_short_is_refused(said: tuple[Message, ...], data: st.DataObject) -> None:
    whole = Transcript(said).to_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(TranscriptError):
        Transcript.from_bytes(whole[:cut])


@pytest.mark.parametrize("junk", [b"", b"junk", b"qflsec bb84 transcript 1\n"])
def test_other_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(TranscriptError):
        Transcript.from_bytes(junk)


def test_an_unknown_sender_is_refused() -> None:
    said = Transcript((Message(sender="bob", kind="k", payload=b""),)).to_bytes()
    at = len(b"qflsec bb84 transcript 1\n") + 8
    with pytest.raises(TranscriptError, match="corrupt"):
        Transcript.from_bytes(said[:at] + b"\x07" + said[at + 1 :])
    with pytest.raises(TranscriptError, match="unknown sender"):
        Transcript().append(Message(sender="eve", kind="k", payload=b""))  # type: ignore[arg-type]


def test_both_parties_write_down_the_same_on_an_honest_line() -> None:
    channel = PublicChannel()
    assert channel.send("alice", "hello", b"1") == b"1"
    assert channel.send("bob", "hello", b"2") == b"2"
    assert channel.alice == channel.bob
    assert channel.alice.last("hello").payload == b"2"
    assert channel.alice.n_bytes == 2
    with pytest.raises(TranscriptError):
        channel.alice.last("goodbye")


def test_each_party_writes_down_what_it_said_and_heard() -> None:
    channel = PublicChannel(lambda message: message.payload[::-1])
    assert channel.send("alice", "hello", b"12") == b"21"
    assert channel.alice.last("hello").payload == b"12"
    assert channel.bob.last("hello").payload == b"21"
    assert channel.alice != channel.bob
