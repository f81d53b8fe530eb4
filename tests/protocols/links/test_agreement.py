"""Key agreement: authentic, separated by use, and the same at both ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qflsec.base import OsSecrets, ProtocolAbort
from qflsec.base.framing import pack_fields
from qflsec.federation import Identity
from qflsec.protocols.links import KeyAgreement, expand_key
from qflsec.threat import SERVER, client

PARTIES = (client(0), client(1), SERVER)


def halves(session: bytes = b"s", protocol: str = "test/1") -> dict[Any, KeyAgreement]:
    secrets = {party: OsSecrets() for party in PARTIES}
    identities = Identity.of_all(PARTIES, secrets)
    return {
        party: KeyAgreement(
            protocol=protocol, session=session, identity=identities[party], secrets=secrets[party]
        )
        for party in PARTIES
    }


def test_both_ends_agree_and_pairs_differ() -> None:
    ends = halves()
    announced = {party: end.announce() for party, end in ends.items()}
    secrets = {(a, b): ends[a].agree(b, announced[b]) for a in PARTIES for b in PARTIES if a != b}
    for (a, b), secret in secrets.items():
        assert secret == secrets[b, a]
        assert len(secret) == 32
    assert len(set(secrets.values())) == 3


def test_sessions_are_fresh() -> None:
    one, other = halves(), halves()
    assert one[SERVER].announce() != other[SERVER].announce()


def test_forged_moved_and_repeated_announcements_abort() -> None:
    ends, strangers = halves(), halves()
    said = {party: end.announce() for party, end in ends.items()}
    with pytest.raises(ProtocolAbort, match="signature"):
        ends[SERVER].agree(client(0), strangers[client(0)].announce())
    with pytest.raises(ProtocolAbort, match="signature"):
        ends[SERVER].agree(client(1), said[client(0)])
    with pytest.raises(ProtocolAbort, match="no peer"):
        ends[SERVER].agree(client(7), said[client(0)])
    with pytest.raises(ProtocolAbort, match="no peer"):
        ends[SERVER].agree(SERVER, said[SERVER])
    ends[client(1)].agree(client(0), said[client(0)])
    for announced in (said[client(0)], halves()[client(0)].announce()):
        with pytest.raises(ProtocolAbort, match="twice"):
            ends[client(1)].agree(client(0), announced)


@pytest.mark.parametrize("position", range(0, 96, 5))
def test_every_altered_byte_aborts(position: int) -> None:
    ends = halves()
    blob = bytearray(ends[client(0)].announce())
    blob[position] ^= 1
    with pytest.raises(ProtocolAbort):
        ends[SERVER].agree(client(0), bytes(blob))


@pytest.mark.parametrize(("session", "protocol"), [(b"t", "test/1"), (b"s", "test/2")])
def test_an_announcement_belongs_to_one_session_and_protocol(session: bytes, protocol: str) -> None:
    secrets = {party: OsSecrets() for party in PARTIES}
    identities = Identity.of_all(PARTIES, secrets)

    def end(party: Any, session: bytes, protocol: str) -> KeyAgreement:
        return KeyAgreement(
            protocol=protocol, session=session, identity=identities[party], secrets=secrets[party]
        )

    blob = end(client(0), session, protocol).announce()
    with pytest.raises(ProtocolAbort, match="signature"):
        end(SERVER, b"s", "test/1").agree(client(0), blob)


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31), b"short"])
def test_keys_of_low_order_or_wrong_length_abort(public: bytes) -> None:
    """An authentic party that announces such a key would fix the secret for everybody."""
    secrets = {party: OsSecrets() for party in PARTIES}
    identities = Identity.of_all(PARTIES, secrets)
    end = KeyAgreement(protocol="p", session=b"s", identity=identities[SERVER], secrets=secrets[SERVER])
    blob = identities[client(0)].sign(public, pack_fields("p", b"s", "public key"))
    with pytest.raises(ProtocolAbort, match="cannot be used"):
        end.agree(client(0), blob)


FIELDS = st.lists(st.one_of(st.binary(max_size=6), st.integers(0, 99)), max_size=4)


@settings(deadline=None, max_examples=100)
@given(one=FIELDS, other=FIELDS)
def test_no_two_uses_share_a_key(one: list[bytes | int], other: list[bytes | int]) -> None:
    as_bytes = [[f if isinstance(f, bytes) else str(f).encode() for f in fields] for fields in (one, other)]
    same = as_bytes[0] == as_bytes[1]
    assert (expand_key(b"k" * 32, *one) == expand_key(b"k" * 32, *other)) == same


def test_concatenation_does_not_confuse_fields() -> None:
    assert expand_key(b"k" * 32, "ab", "c") != expand_key(b"k" * 32, "a", "bc")


def test_fields_that_equal_each_other_but_have_other_names_give_other_keys() -> None:
    """What a key is for is remembered, so that equal fields must not stand for each other."""
    assert len({expand_key(b"k" * 32, field) for field in (1, True, "1", b"True")}) == 2
    assert expand_key(b"k" * 32, True) == expand_key(b"k" * 32, "True")


@pytest.mark.parametrize("size", [0, 1, 32, 300])
def test_derived_keys_are_those_of_hkdf(size: int) -> None:
    """One block of HKDF-Expand (RFC 5869), against the library's."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

    secret, field = bytes(range(32)), b"f" * size
    info = b"".join(len(part).to_bytes(4, "little") + part for part in (b"p", field, b"7"))
    assert expand_key(secret, "p", field, 7) == HKDFExpand(SHA256(), 32, info).derive(secret)
