"""Links under QKD keys, both ends of them: order, tampering, pads, nonces, keys."""

from __future__ import annotations

import ast
import hmac
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import ConfigError, IncompatibleStack, OsSecrets, ProtocolAbort, Secrets, SeededSecrets
from qflsec.base.framing import pack_fields
from qflsec.federation import Identity, Setup
from qflsec.protocols.bb84.authentication import PolynomialHash
from qflsec.protocols.keystore import KeyProvider, QkdKey
from qflsec.protocols.links import (
    HybridLink,
    OneTimePadLink,
    QkdAesLink,
    QkdEnd,
    QkdLink,
    QkdPolicyLink,
    aes_bits,
    key_stream,
    sealed_epochs,
)
from qflsec.protocols.links.hybrid import combine
from qflsec.protocols.links.key_stream import MOST_IDS, SendingKeys
from qflsec.threat import SERVER, Party, Traffic, client
from qflsec.threat.codec import encode

PARTIES = (client(0), client(1), SERVER)
LINKS: list[QkdLink] = [
    OneTimePadLink(),
    QkdAesLink(rekey_messages=3),
    HybridLink(rekey_messages=3),
    QkdPolicyLink(),
    QkdPolicyLink(budget_bits=3_000, rekey_messages=3),
]
NAMES = [f"{link.card.name}-{link.budget_bits}" for link in LINKS]
HEADER = b"update|0|client:0|server|0"


class Recording(KeyProvider):
    """A party's end of the quantum links that notes what it gave out, in order."""

    def __init__(self, inner: KeyProvider, party: Party, log: dict[tuple[Party, Party], bytes]) -> None:
        self._inner, self._party, self._log = inner, party, log

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        keys = self._inner.draw(peer, n_bits)
        way = self._party, peer
        self._log[way] = self._log.get(way, b"") + b"".join(key.material for key in keys)
        return keys

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        return self._inner.fetch(peer, key_ids)

    def bits_left(self, peer: Party) -> int:
        return self._inner.bits_left(peer)


def of_rounds(rounds: int, *, n_params: int) -> Traffic:
    """Plain updates and models."""
    each = Traffic().then(up={"update": 4 * (n_params + 1)}, down={"model": 4 * n_params})
    return Traffic.of_rounds(rounds, each=each)


class Ends:
    """All ends of one session, as a session of the loop makes them."""

    def __init__(self, layer: QkdLink, *, secrets: Callable[[str], Secrets] | None = None) -> None:
        self.layer = layer
        self.drawn: dict[tuple[Party, Party], bytes] = {}
        source = secrets or (lambda _: OsSecrets())
        sources = {party: source(str(party)) for party in PARTIES}
        setup = Setup(
            session=sources[SERVER].draw(16),
            clients=PARTIES[:2],
            server=SERVER,
            n_params=30,
            rounds=5,
            max_count=9,
            traffic=of_rounds(5, n_params=30),
        )
        identities = Identity.of_all(PARTIES, sources)
        ends = layer.quantum_ends(setup, source("nature"))
        self.states: dict[Party, QkdEnd] = {}
        for party in PARTIES:
            end = ends[party]
            assert isinstance(end, KeyProvider)
            own = replace(setup, quantum=Recording(end, party, self.drawn))
            self.states[party] = layer.open(own, identities[party], sources[party])
        for party in PARTIES:
            for author in PARTIES:
                if author != party:
                    self.states[party].learn(author, self.states[author].announce())

    def seal(self, sender: Party, receiver: Party, payload: bytes, header: bytes = HEADER) -> bytes:
        return self.layer.seal(self.states[sender], receiver, payload, header)

    def unseal(self, receiver: Party, sender: Party, blob: bytes, header: bytes = HEADER) -> bytes:
        return self.layer.unseal(self.states[receiver], sender, blob, header)


TRAFFIC = st.lists(
    st.tuples(st.sampled_from(PARTIES), st.sampled_from(PARTIES), st.binary(max_size=90)).filter(
        lambda m: m[0] != m[1]
    ),
    max_size=14,
)


@pytest.mark.parametrize("layer", [LINKS[0], LINKS[1], LINKS[4]], ids=[NAMES[0], NAMES[1], NAMES[4]])
@given(traffic=TRAFFIC)
@settings(max_examples=25, deadline=None)
def test_whatever_is_said_arrives_on_any_link(
    layer: QkdLink, traffic: list[tuple[Party, Party, bytes]]
) -> None:
    ends = Ends(replace(layer, budget_bits=1 << 16))
    for sender, receiver, payload in traffic:
        blob = ends.seal(sender, receiver, payload)
        assert ends.unseal(receiver, sender, blob) == payload


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
def test_messages_in_flight_and_overheads(layer: QkdLink) -> None:
    ends = Ends(layer)
    payloads = [bytes([i]) * 33 for i in range(7)]
    blobs = [ends.seal(client(0), SERVER, payload) for payload in payloads]
    answers = [ends.seal(SERVER, client(0), payload) for payload in payloads]
    assert [ends.unseal(SERVER, client(0), blob) for blob in blobs] == payloads
    assert [ends.unseal(client(0), SERVER, blob) for blob in answers] == payloads
    assert not any(payload in blob for payload in payloads for blob in blobs + answers)
    opening = 1152 if isinstance(layer, HybridLink) else 0
    n_ids = [int.from_bytes(blob[12:14], "big") for blob in blobs]
    extra = [opening if n else 0 for n in n_ids]
    assert [len(blob) for blob in blobs] == [63 + 16 * n + e for n, e in zip(n_ids, extra, strict=True)]
    assert len(set(blobs + answers)) == 14


def rejects(
    ends: Ends, blob: bytes, header: bytes = HEADER, *, at: Party = SERVER, claims: Party | None = None
) -> None:
    with pytest.raises(ProtocolAbort):
        ends.unseal(at, client(0) if claims is None else claims, blob, header)


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_altered_bit_is_detected(layer: QkdLink, data: st.DataObject) -> None:
    ends = Ends(layer)
    earlier = data.draw(st.integers(0, 4))
    for _ in range(earlier):
        ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, b"before"))
    blob = ends.seal(client(0), SERVER, data.draw(st.binary(max_size=40)))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    altered = bytearray(blob)
    altered[bit // 8] ^= 1 << bit % 8
    rejects(ends, bytes(altered))


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
def test_other_ways_of_tampering(layer: QkdLink) -> None:
    def fresh() -> tuple[Ends, bytes]:
        ends = Ends(layer)
        ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, b"zero"))
        return ends, ends.seal(client(0), SERVER, b"one, a little longer")

    for change in (lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:5], lambda _: b"", lambda b: b[:14]):
        ends, blob = fresh()
        rejects(ends, change(blob))
    for header in (b"", HEADER[:-1], HEADER + b"0", HEADER.replace(b"0", b"1"), b"model" + HEADER[6:]):
        ends, blob = fresh()
        rejects(ends, blob, header)
    ends, blob = fresh()
    assert ends.unseal(SERVER, client(0), blob) == b"one, a little longer"
    rejects(ends, blob)  # replayed
    ends, blob = fresh()
    later = ends.seal(client(0), SERVER, b"two")
    rejects(ends, later)  # the one before it is missing
    ends, blob = fresh()
    rejects(ends, blob, at=client(0), claims=SERVER)  # reflected
    rejects(ends, blob, at=client(1))  # redirected
    rejects(ends, blob, claims=client(1))  # under another name
    rejects(ends, blob, claims=client(9))
    with pytest.raises(ProtocolAbort, match="has no QKD link with client:9"):
        ends.seal(client(0), client(9), b"x")
    one, two = fresh(), fresh()
    rejects(two[0], one[1])  # from another session


@pytest.mark.parametrize("layer", LINKS, ids=NAMES)
def test_replays_are_named_as_such(layer: QkdLink) -> None:
    ends = Ends(layer)
    blobs = [ends.seal(client(0), SERVER, b"x") for _ in range(3)]
    with pytest.raises(ProtocolAbort, match="preceded by one that is missing"):
        ends.unseal(SERVER, client(0), blobs[1])
    assert ends.unseal(SERVER, client(0), blobs[0]) == b"x"
    with pytest.raises(ProtocolAbort, match="repeated or delayed"):
        ends.unseal(SERVER, client(0), blobs[0])


# One-time pads


def pads_used(ends: Ends, traffic: list[tuple[Party, Party, bytes]]) -> list[bytes]:
    """The pad of every message: ciphertext and plaintext, one upon the other."""
    found = []
    for sender, receiver, payload in traffic:
        blob = ends.seal(sender, receiver, payload)
        assert ends.unseal(receiver, sender, blob) == payload
        hidden = blob[-16 - len(payload) : -16]
        found.append(bytes(a ^ b for a, b in zip(hidden, payload, strict=True)))
    return found


def repeated_windows(pads: list[bytes]) -> int:
    """Windows of 8 bytes that occur twice anywhere; 1e4 random ones repeat with probability 3e-12."""
    windows = [pad[at : at + 8] for pad in pads for at in range(len(pad) - 7)]
    return len(windows) - len(set(windows))


@given(first=TRAFFIC, second=TRAFFIC, key_bits=st.sampled_from([64, 256, 1000]))
@settings(max_examples=40, deadline=None)
def test_no_pad_byte_is_used_twice(
    first: list[tuple[Party, Party, bytes]], second: list[tuple[Party, Party, bytes]], key_bits: int
) -> None:
    """Across messages, directions, pairs and runs, in two views: from outside, and against the drawn key."""
    layer = OneTimePadLink(key_bits=key_bits)
    outside: list[bytes] = []
    for traffic in (first, second):
        ends = Ends(layer)
        pads = pads_used(ends, traffic)
        outside += pads
        places: dict[tuple[Party, Party], int] = {}
        for (sender, receiver, payload), pad in zip(traffic, pads, strict=True):
            way, at = (sender, receiver), places.get((sender, receiver), 0)
            assert ends.drawn[way][at : at + len(payload)] == pad
            # after each pad come 16 bytes for the tag and, once in a direction, 16 for the hash
            places[way] = at + len(payload) + (16 if way in places else 32)
        for way, used in places.items():
            assert used <= len(ends.drawn[way]) < used + key_bits // 8
        costs = sum(state.costs()["qkd_key_bits"] for state in ends.states.values())
        assert costs == 8 * sum(map(len, ends.drawn.values()))
    assert repeated_windows(outside) == 0


def test_the_pad_test_finds_a_pad_that_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: forget to throw used bytes away."""
    traffic = [(client(0), SERVER, bytes(40))] * 2
    monkeypatch.setattr(key_stream, "_pop", lambda left, n: bytes(left[:n]))
    assert repeated_windows(pads_used(Ends(OneTimePadLink()), traffic)) > 0


def test_directions_and_pairs_have_their_own_pads() -> None:
    ends = Ends(OneTimePadLink())
    ways = [(a, b, bytes(64)) for a in PARTIES for b in PARTIES if a != b]
    pads = pads_used(ends, ways)
    assert len(set(pads)) == 6
    assert repeated_windows(pads) == 0


def test_used_pad_is_erased_from_memory() -> None:
    ends = Ends(OneTimePadLink(key_bits=1024))
    ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, bytes(40)))
    for keys in (ends.states[client(0)]._sending[SERVER], ends.states[SERVER]._receiving[client(0)]):
        assert bytes(keys._left) == ends.drawn[client(0), SERVER][72:]


def test_the_tag_is_the_polynomial_hash_under_a_fresh_pad() -> None:
    """Computed again from the drawn key alone."""
    ends = Ends(OneTimePadLink())
    for payload in (b"first", b"second message"):
        at = 0 if payload == b"first" else 5 + 32
        blob = ends.seal(client(0), SERVER, payload)
        key = ends.drawn[client(0), SERVER]
        point = PolynomialHash(key[5 + 16 : 5 + 32])
        pad = key[at + len(payload) : at + len(payload) + 16]
        covered = struct.pack(">I", len(HEADER)) + HEADER + blob[:-16]
        assert bytes(a ^ b for a, b in zip(point(covered), pad, strict=True)) == blob[-16:]


# AES-256-GCM


class NotedCipher:
    seen: ClassVar[list[tuple[bytes, int]]] = []

    def __init__(self, key: bytes) -> None:
        self._key, self._cipher = key, sealed_epochs_cipher(key)

    def encrypt(self, number: int, payload: bytes, covered: bytes) -> bytes:
        self.seen.append((self._key, number))
        return self._cipher.encrypt(number, payload, covered)

    def decrypt(self, number: int, blob: bytes, covered: bytes) -> bytes:
        return self._cipher.decrypt(number, blob, covered)


sealed_epochs_cipher = sealed_epochs.GcmKey


@pytest.mark.parametrize("kind", [QkdAesLink, HybridLink])
def test_no_nonce_returns_under_a_key_and_keys_change_in_time(
    monkeypatch: pytest.MonkeyPatch, kind: type[QkdAesLink]
) -> None:
    monkeypatch.setattr(NotedCipher, "seen", [])
    monkeypatch.setattr(sealed_epochs, "GcmKey", NotedCipher)
    for _ in range(2):  # two runs
        ends = Ends(kind(rekey_messages=3, rekey_bytes=100))
        for size in (10, 10, 10, 10, 60, 60, 300, 5, 5):  # new keys before 4, 6, 7 and 8
            for a, b in ((client(0), SERVER), (SERVER, client(0)), (client(1), client(0))):
                assert ends.unseal(b, a, ends.seal(a, b, bytes(size))) == bytes(size)
        assert all(
            state._outgoing[peer].index == 4 for state in ends.states.values() for peer in state._outgoing
        )  # type: ignore[attr-defined]
    assert len(NotedCipher.seen) == len(set(NotedCipher.seen)) == 2 * 3 * 9
    keys = [key for key, _ in NotedCipher.seen]
    assert len(set(keys)) == 2 * 3 * 5
    assert max(keys.count(key) for key in keys) == 3


def test_aes_keys_are_the_drawn_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NotedCipher, "seen", [])
    monkeypatch.setattr(sealed_epochs, "GcmKey", NotedCipher)
    ends = Ends(QkdAesLink(key_bits=1024, rekey_messages=1))
    for _ in range(5):
        ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, b"x"))
    drawn = ends.drawn[client(0), SERVER]
    assert len(drawn) == 2 * 128  # four keys of 256 bits in each
    assert [key for key, _ in NotedCipher.seen] == [drawn[at : at + 32] for at in range(0, 160, 32)]


# Hybrid


def hkdf_sha384(material: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869, written out."""
    secret = hmac.digest(salt, material, "sha384")
    return hmac.digest(secret, info + b"\x01", "sha384")[:32]


def test_the_hybrid_key_is_hkdf_of_all_three_secrets_and_the_transcript() -> None:
    import hashlib

    parts = {"qkd": b"a" * 32, "ml_kem": b"b" * 32, "x25519": b"c" * 32, "salt": b"d" * 16, "said": b"e" * 99}
    info = b"qflsec/hybrid-link/2" + hashlib.sha384(parts["said"]).digest()
    expected = hkdf_sha384(parts["qkd"] + parts["ml_kem"] + parts["x25519"], parts["salt"], info)
    assert combine(**parts) == expected
    keys = {combine(**{**parts, name: b"z" * len(value)}) for name, value in parts.items()}
    assert len(keys | {expected}) == 6


def test_both_ends_hash_the_same_transcript_and_every_field_is_in_it() -> None:
    ends = Ends(HybridLink())
    a, b = ends.states[client(0)], ends.states[SERVER]
    ids = (UUID(int=1), UUID(int=2))
    said = a._said(client(0), SERVER, 0, ids, b"opening")  # type: ignore[attr-defined]
    assert said == b._said(client(0), SERVER, 0, ids, b"opening")  # type: ignore[attr-defined]
    for needle in (
        a.announce(),
        b.announce(),
        ids[0].bytes + ids[1].bytes,
        b"opening",
        b"client:0",
        b"server",
    ):
        assert needle in said
    others = [
        b._said(SERVER, client(0), 0, ids, b"opening"),  # type: ignore[attr-defined]
        a._said(client(0), SERVER, 1, ids, b"opening"),  # type: ignore[attr-defined]
        a._said(client(0), SERVER, 0, ids[:1], b"opening"),  # type: ignore[attr-defined]
        a._said(client(0), SERVER, 0, ids, b"openinh"),  # type: ignore[attr-defined]
    ]
    assert said not in others


@pytest.mark.parametrize("lacks", ["qkd", "ml_kem", "x25519"])
def test_whoever_lacks_one_of_three_secrets_cannot_read(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    from qflsec.protocols.links import hybrid

    ends = Ends(HybridLink())
    blob = ends.seal(client(0), SERVER, b"secret")
    monkeypatch.setattr(hybrid, "combine", lambda **parts: combine(**{**parts, lacks: bytes(32)}))
    with pytest.raises(ProtocolAbort, match="altered"):
        ends.unseal(SERVER, client(0), blob)


def test_announcements_must_be_authentic_and_usable() -> None:
    ends = Ends(HybridLink())
    other = Ends(HybridLink())
    with pytest.raises(ProtocolAbort, match="twice"):
        ends.states[SERVER].learn(client(0), ends.states[client(0)].announce())
    honest = ends.states[client(0)].announce()
    assert len(honest) == 32 + 64 + 1184 + 64

    def fresh_server() -> QkdEnd:
        layer, identity = ends.layer, ends.states[SERVER]._identity  # type: ignore[attr-defined]
        provider = next(iter(ends.states[SERVER]._sending.values()))._provider
        setup = Setup(
            session=ends.states[SERVER]._session, clients=PARTIES[:2], server=SERVER, n_params=30, rounds=5,
            max_count=9, quantum=provider,
        )  # fmt: skip
        return layer.open(setup, identity, OsSecrets())

    fresh_server().learn(client(0), honest)
    for at in (3, 60, 200, 1290):  # either key, either signature
        broken = bytearray(honest)
        broken[at] ^= 1
        with pytest.raises(ProtocolAbort, match="wrong signature"):
            fresh_server().learn(client(0), bytes(broken))
    for bad in (b"", honest[:96], honest[:-1], other.states[client(0)].announce()):
        with pytest.raises(ProtocolAbort):
            fresh_server().learn(client(0), bad)
    identity = ends.states[client(0)]._identity  # type: ignore[attr-defined]
    protocol, session = ends.states[client(0)]._kem._context  # type: ignore[attr-defined]
    context = pack_fields(protocol, session, "public key")
    with pytest.raises(ProtocolAbort, match="cannot be used"):
        fresh_server().learn(client(0), honest[:96] + identity.sign(b"\xff" * 1184, context))


def test_an_encapsulation_of_somebody_else_is_refused() -> None:
    """The opening is signed for one receiver and epoch."""
    ends = Ends(HybridLink())
    to_client = ends.seal(client(0), client(1), b"x")
    to_server = ends.seal(client(0), SERVER, b"x")
    opening = slice(14 + 16, 14 + 16 + 1152)
    swapped = to_server[: opening.start] + to_client[opening] + to_server[opening.stop :]
    with pytest.raises(ProtocolAbort, match="wrong signature"):
        ends.unseal(SERVER, client(0), swapped)
    assert ends.unseal(SERVER, client(0), to_server) == b"x"  # no key was wasted on it


# Key, budget, configuration


@pytest.mark.parametrize("kind", [OneTimePadLink, QkdAesLink, HybridLink])
def test_a_link_without_key_says_so_and_keeps_what_is_left(kind: type[QkdLink]) -> None:
    ends = Ends(kind(budget_bits=512))
    needed = 8 * (1000 + 32) if kind is OneTimePadLink else 256
    if kind is OneTimePadLink:
        with pytest.raises(
            ProtocolAbort, match=rf"from client:0 to server .* got 512 bits left; expected {needed}"
        ):
            ends.seal(client(0), SERVER, bytes(1000))
    else:
        layer = kind(budget_bits=512, rekey_messages=1)  # type: ignore[call-arg]
        ends = Ends(layer)
        for _ in range(2):
            assert ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, b"x")) == b"x"
        with pytest.raises(
            ProtocolAbort, match=r"from client:0 to server .* got 0 bits left; expected 256 bits"
        ):
            ends.seal(client(0), SERVER, b"x")
        return
    # nothing was spent, and the numbering goes on: a shorter message passes
    assert ends.unseal(SERVER, client(0), ends.seal(client(0), SERVER, bytes(16))) == bytes(16)
    assert ends.unseal(client(0), SERVER, ends.seal(SERVER, client(0), bytes(16))) == bytes(16)


@given(
    n_params=st.integers(1, 60), rounds=st.integers(1, 6), key_bits=st.sampled_from([64, 256, 1000]),
    rekey=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_the_plan_is_what_a_run_takes(n_params: int, rounds: int, key_bits: int, rekey: int) -> None:
    """Messages as large as planned take exactly the planned key, and not a bit more is needed."""
    traffic = [8 * (n_params + 1)] * rounds
    for link in (OneTimePadLink(key_bits=key_bits), QkdAesLink(key_bits=key_bits, rekey_messages=rekey)):
        planned = link.takes_bits(traffic)
        assert sent(replace(link, budget_bits=planned), traffic) == (rounds, planned)
        assert sent(replace(link, budget_bits=planned - key_bits), traffic)[0] < rounds


@given(
    sizes=st.lists(st.integers(0, 300), min_size=1, max_size=12), rekey=st.integers(1, 4),
    most=st.integers(100, 900), data=st.data(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_messages_take_the_planned_key_and_smaller_or_fewer_take_no_more(
    sizes: list[int], rekey: int, most: int, data: Any
) -> None:
    """What bounds every message bounds the key."""
    left = [data.draw(st.integers(0, size)) for size in sizes if data.draw(st.booleans())]
    for link in (
        OneTimePadLink(key_bits=64),
        QkdAesLink(key_bits=64, rekey_messages=rekey, rekey_bytes=most),
        HybridLink(key_bits=64, rekey_messages=rekey, rekey_bytes=most),
    ):
        planned = link.takes_bits(sizes)
        assert sent(replace(link, budget_bits=planned), sizes) == (len(sizes), planned)
        assert link.takes_bits(left) <= planned
        assert sent(replace(link, budget_bits=planned), left)[0] == len(left)


def sent(link: QkdLink, sizes: Sequence[int]) -> tuple[int, float]:
    """How many messages a link carries before it starves, and the key that this takes."""
    ends = Ends(link)
    state = ends.states[client(0)]
    for number, size in enumerate(sizes):
        payload = encode(bytes(size))
        try:
            blob = ends.seal(client(0), SERVER, payload)
        except ProtocolAbort:
            return number, state.costs()["qkd_key_bits"]
        assert len(blob) <= link.sealed_bytes(len(payload))
    return len(sizes), state.costs()["qkd_key_bits"]


def test_aes_budget_by_bytes() -> None:
    traffic = [1000] * 10
    assert aes_bits(traffic, key_bits=256, rekey_messages=100, rekey_bytes=2500) == 5 * 256
    assert aes_bits(traffic, key_bits=256, rekey_messages=100, rekey_bytes=10) == 10 * 256
    assert aes_bits(traffic, key_bits=1024, rekey_messages=100, rekey_bytes=2500) == 2048


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (OneTimePadLink, {"source": "elsewhere"}, "unknown source of keys"),
        (OneTimePadLink, {"key_bits": 60}, "key_bits"),
        (OneTimePadLink, {"key_bits": 100}, "key_bits"),
        (OneTimePadLink, {"budget_bits": -1}, "budget_bits"),
        (OneTimePadLink, {"eps_sec": 0.0}, "eps_sec"),
        (QkdAesLink, {"eps_auth": 1.0}, "eps_auth"),
        (QkdAesLink, {"rekey_messages": 0}, "rekey_messages"),
        (QkdAesLink, {"rekey_messages": 2**32 + 1}, "rekey_messages"),
        (HybridLink, {"rekey_bytes": 0}, "rekey_bytes"),
        (HybridLink, {"rekey_bytes": 2**36}, "rekey_bytes"),
        (QkdPolicyLink, {"rekey_messages": 0}, "rekey_messages"),
    ],
)
def test_impossible_configurations(kind: type[QkdLink], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**changes)


def test_a_link_needs_a_quantum_link_under_it() -> None:
    setup = Setup(session=b"s", clients=PARTIES[:2], server=SERVER, n_params=3, rounds=1, max_count=9)
    identity = Identity.of_all(PARTIES, dict.fromkeys(PARTIES, OsSecrets()))[SERVER]
    with pytest.raises(ConfigError, match="has no quantum link under it"):
        OneTimePadLink().open(setup, identity, OsSecrets())
    with pytest.raises(ConfigError, match="needs a directory"):
        OneTimePadLink(source="stores").quantum_ends(setup, OsSecrets())


def test_the_policy_chooses_by_its_budget_and_says_why() -> None:
    traffic = of_rounds(10, n_params=100)
    pad = QkdPolicyLink().plan(traffic).pad_bits
    assert pad == -(-8 * (10 * (5 + 404 + 16) + 16) // 256) * 256
    enough, short = QkdPolicyLink(budget_bits=pad), QkdPolicyLink(budget_bits=pad - 1)
    assert isinstance(enough.chosen(traffic), OneTimePadLink)
    assert isinstance(short.chosen(traffic), QkdAesLink)
    assert enough.plan(traffic).sentence.startswith("one-time pad: each direction of a link takes up to")
    assert short.plan(traffic).sentence.startswith("AES-256-GCM: a one-time pad would take")
    for link in (enough, short):
        link.check_traffic(traffic)
    with pytest.raises(IncompatibleStack, match=r"takes up to 256 bits; got budget_bits=0"):
        QkdPolicyLink(budget_bits=0).check_traffic(traffic)
    # a million parameters: beyond a one-time pad at a few hundred kilobits
    assert isinstance(QkdPolicyLink(key_bits=4096).chosen(of_rounds(10, n_params=1_000_000)), QkdAesLink)


def test_a_message_that_no_frame_could_name_the_keys_of_is_refused_beforehand() -> None:
    with pytest.raises(
        IncompatibleStack, match=r"4,000,004 bytes takes more keys than a frame .* raise 'key_bits'"
    ):
        OneTimePadLink(budget_bits=1 << 40).check_traffic(of_rounds(1, n_params=1_000_000))


def test_seeded_ends_repeat_and_are_branded() -> None:
    def seeded(owner: str) -> Secrets:
        return SeededSecrets(5, owner)

    blobs = [Ends(OneTimePadLink(), secrets=seeded).seal(client(0), SERVER, b"same") for _ in range(2)]
    assert blobs[0] == blobs[1]
    assert Ends(OneTimePadLink()).seal(client(0), SERVER, b"same") != blobs[0]


def test_no_statistical_generator_and_no_careless_comparison() -> None:
    """Key code draws from the given secrets alone and compares tags in constant time."""
    root = Path(__file__).resolve().parents[3] / "qflsec/protocols"
    files = [*sorted((root / "keystore").rglob("*.py")), *sorted((root / "links").rglob("*.py"))]
    assert len(files) > 15
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            )
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not {"random", "numpy.random", "torch"} & {*names, module}, path
            if isinstance(node, ast.Attribute):
                assert not (node.attr == "random" and getattr(node.value, "id", "") == "np"), path
            if isinstance(node, ast.Compare):
                compared = {getattr(part, "id", "") for part in (node.left, *node.comparators)}
                assert "tag" not in compared, path


class Endless(KeyProvider):
    """A link with very short keys, and no end of them."""

    def draw(self, peer: Party, n_bits: int) -> tuple[QkdKey, ...]:
        key = QkdKey(key_id=uuid4(), material=b"k", simulated_channel=True, seeded=True)
        return (key,) * (n_bits // 8)

    def fetch(self, peer: Party, key_ids: Sequence[UUID]) -> tuple[QkdKey, ...]:
        raise NotImplementedError

    def bits_left(self, peer: Party) -> int:
        return 1 << 40


def test_a_message_of_too_many_keys_says_that_they_are_spent() -> None:
    keys = SendingKeys(Endless(), SERVER)
    assert len(keys.take(MOST_IDS)[1]) == MOST_IDS
    assert keys.drawn_bits == 8 * MOST_IDS
    with pytest.raises(ProtocolAbort, match="which are lost"):
        keys.take(MOST_IDS + 1)
    assert keys.drawn_bits == 8 * (2 * MOST_IDS + 1), "and counts them"
